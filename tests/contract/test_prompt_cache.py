"""Prompt caching: where the marks are, that a conversation's beginning never changes, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from orchestrator.errors import ProviderError
from orchestrator.gate import Gate
from orchestrator.history import History
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits, Usage
from orchestrator.names import BoundNames
from orchestrator.providers.anthropic import AnthropicInterface
from orchestrator.providers.base import Message, ModelRequest, Provider, TokenUsage
from orchestrator.providers.openai import OpenAIInterface
from orchestrator.providers.prices import PRICES, parse_price, price_of
from orchestrator.recorder import Recorder
from orchestrator.spent import usage_line
from sandbox.messages import Asked
from tests.contract.vendors import ANTHROPIC, KEY, OPENAI, Make, Vendor, message_delta, message_start, sse

SYSTEM = "You write code. " * 200
MARK = {"type": "ephemeral"}


class CachingServer:
    """Speaks Anthropic's messages, and caches what a request marks: a character is a token.

    Attributes:
        bodies: Of all requests.
        usages: What each was told.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.usages: list[dict[str, int]] = []
        self._cache: set[str] = set()

    def counts(self, body: dict[str, Any]) -> dict[str, int]:
        """As the vendor counts: the longest beginning that is known is read, what is marked behind it written."""
        system = body.get("system", "")
        blocks = [*(system if isinstance(system, list) else [{"text": system}])]
        for message in body["messages"]:
            content = message["content"]
            blocks += content if isinstance(content, list) else [{"text": content}]
        beginnings = ["\0".join(block["text"] for block in blocks[: end + 1]) for end in range(len(blocks))]
        sizes = [sum(len(block["text"]) for block in blocks[: end + 1]) for end in range(len(blocks))]
        marked = [end for end, block in enumerate(blocks) if "cache_control" in block]
        read = max((sizes[end] for end in range(len(blocks)) if beginnings[end] in self._cache), default=0)
        written = max((sizes[end] for end in marked), default=0)
        if not marked:
            read = 0
        self._cache.update(beginnings[end] for end in marked)
        return {
            "input_tokens": sizes[-1] - max(read, written),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": max(0, written - read),
            "output_tokens": 1,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
                )
                self.bodies.append(json.loads(await reader.readexactly(int(length))))
                self.usages.append(self.counts(self.bodies[-1]))
                stream = (
                    sse(message_start(self.usages[-1]))
                    + ANTHROPIC.text_event("more")
                    + sse(message_delta("end_turn", {"output_tokens": 4}), {"type": "message_stop"})
                )
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(b"content-length: %d\r\n\r\n%s" % (len(stream), stream))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def cached_root(**limits: Any) -> AsyncIterator[tuple[CachingServer, Gate, Ledger]]:
    """A gate whose root and sub-model are behind a caching server on loopback."""
    caching = CachingServer()
    handlers: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(
        lambda reader, writer: handlers.append(asyncio.create_task(caching.serve(reader, writer))), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    llm = AnthropicInterface("claude-opus-5-5", base_url=f"http://127.0.0.1:{port}", api_key=KEY, max_tokens=100)
    most = Limits(**limits)
    ledger = Ledger(most)
    async with server:
        yield caching, Gate(root=llm, sub=llm, limits=most, ledger=ledger, recorder=Recorder()), ledger
        await llm.aclose()
        async with asyncio.timeout(10):  # each ends once its client has hung up
            await asyncio.gather(*handlers)


def history_over(gate: Gate) -> History:
    return History(
        gate=gate,
        recorder=Recorder(),
        system_prompt=SYSTEM,
        first="The question:\nWhat is it?",
        names=BoundNames(),
        window_tokens=1_000_000,
        reply_tokens=100,
    )


async def test_the_marks_stand_on_the_system_prompt_and_on_the_last_message_alone() -> None:
    async with cached_root() as (server, gate, _):
        history = history_over(gate)
        for _ in range(3):
            await history.ask()
            history.told("[stdout] some", "Left: 8 replies.")
    assert [body["system"] for body in server.bodies] == [[{"type": "text", "text": SYSTEM, "cache_control": MARK}]] * 3
    for body in server.bodies:
        *earlier, last = body["messages"]
        assert all(isinstance(message["content"], str) for message in earlier)
        [block] = last["content"]
        assert (last["role"], block["type"], block["cache_control"]) == ("user", "text", MARK)
        assert json.dumps(body).count("cache_control") == 2, "the API takes four at most"


async def test_sub_calls_are_not_marked() -> None:
    async with cached_root() as (server, gate, _):
        assert await gate.handle(Asked("What?", "some data")) == "more"
    assert "cache_control" not in json.dumps(server.bodies)
    assert isinstance(server.bodies[0]["system"], str)


async def test_each_turn_reads_what_the_one_before_wrote_and_pays_for_what_is_new() -> None:
    async with cached_root() as (server, gate, ledger):
        history = history_over(gate)
        for _ in range(4):
            await history.ask()
            history.told("x" * 500, "Left: 8 replies.")
    wrote = [usage["cache_creation_input_tokens"] for usage in server.usages]
    read = [usage["cache_read_input_tokens"] for usage in server.usages]
    assert read == [0, wrote[0], sum(wrote[:2]), sum(wrote[:3])]
    assert [usage["input_tokens"] for usage in server.usages] == [0] * 4
    assert wrote[1] < 600 < wrote[0]
    assert (ledger.cached_input_tokens, ledger.cache_write_tokens) == (sum(read), sum(wrote))
    price = PRICES["anthropic:claude-opus-5-5"]
    used = TokenUsage(
        input_tokens=sum(read) + sum(wrote),
        output_tokens=16,
        cached_input_tokens=sum(read),
        cache_write_tokens=sum(wrote),
    )
    assert ledger.spent_usd == price.cost_usd(used)
    plain = TokenUsage(input_tokens=used.input_tokens, output_tokens=16)
    assert ledger.spent_usd < price.cost_usd(plain)


async def test_a_first_request_that_only_writes_stays_within_what_was_reserved() -> None:
    """Of a caching server each byte a token: nothing of the bound is left over but for the dearer rate."""
    async with cached_root(max_cost_usd=Decimal(1)) as (server, gate, ledger):
        await history_over(gate).ask()
    assert server.usages[0]["cache_creation_input_tokens"] > len(SYSTEM)
    assert not ledger.overbilled
    price = PRICES["anthropic:claude-opus-5-5"]
    most = price.most_usd(input_tokens=100, output_tokens=0)
    assert most == price.cost_usd(TokenUsage(input_tokens=100, output_tokens=0, cache_write_tokens=100))


# --- prices ---


def test_writing_is_priced_at_anthropic_also_where_the_user_gave_two_rates_alone() -> None:
    own = {"anthropic:claude-opus-5-5": parse_price("4/20"), "openai:local": parse_price("4/20")}
    price = price_of("anthropic:claude-opus-5-5", own)
    assert price is not None
    assert price.cache_write_usd == Decimal("5.00")
    assert price.most_usd(input_tokens=1_000_000, output_tokens=0) == 5
    assert price_of("openai:local", own) is own["openai:local"]
    free = price_of("anthropic:local", {"anthropic:local": parse_price("0/0")})
    assert free is not None
    assert free.dearest_usd == 0


def test_openais_models_of_today_bill_for_writing_too() -> None:
    for name, price in PRICES.items():
        if name.startswith("openai:gpt-6"):
            assert price.cache_write_usd == price.input_usd * Decimal("1.25"), name


def test_a_run_says_how_much_of_its_input_was_cached() -> None:
    usage = Usage(turns=2, input_tokens=5_000, cached_input_tokens=3_200, output_tokens=10)
    assert "(5,000 in, 3,200 of them cached, 10 out)" in usage_line(usage)
    assert "cached" not in usage_line(Usage(input_tokens=5_000))


# --- OpenAI ---


class Own(OpenAIInterface):
    """OpenAI's own address, behind the SDK's fake transport."""

    def __init__(self, base_url: str | None = None) -> None:
        super().__init__("gpt-6-luna", api_key=KEY, base_url=base_url)
        self.bodies: list[dict[str, Any]] = []

    def _new_client(self, *, local: bool, bound: Any) -> Any:
        def answer(sent: httpx2.Request) -> httpx2.Response:
            self.bodies.append(json.loads(sent.content))
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=OPENAI.reply("ok"))

        http = self._sdk.DefaultAsyncHttpx2Client(transport=httpx2.MockTransport(answer))
        return self._sdk.AsyncOpenAI(api_key=KEY, base_url=self._base_url, max_retries=0, http_client=http)


def asked(*contents: str, conversation: bool = True) -> ModelRequest:
    roles = ("user", "assistant")
    turns = [Message(role=roles[number % 2], content=text) for number, text in enumerate(contents)]  # type: ignore[arg-type]
    messages = (Message(role="system", content=SYSTEM), *turns)
    return ModelRequest(messages=messages, timeout_s=20, max_reply_bytes=1_000, conversation=conversation)


async def test_openai_is_told_which_requests_are_of_one_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    own = Own()
    for request in (asked("one"), asked("one", "reply", "two"), asked("other"), asked("one", conversation=False)):
        await own.complete(request)
    first, second, other, single = own.bodies
    assert first["prompt_cache_key"] == second["prompt_cache_key"] != other["prompt_cache_key"]
    assert len(first["prompt_cache_key"]) == 32
    assert "prompt_cache_key" not in single
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert all(isinstance(message["content"], str) for body in own.bodies for message in body["messages"])


async def test_a_compatible_server_is_asked_nothing_that_it_may_not_know() -> None:
    elsewhere = Own("https://models.example/v1")
    await elsewhere.complete(asked("one"))
    assert "prompt_cache_key" not in elsewhere.bodies[0]


async def test_a_server_that_caches_nothing_takes_the_marks_all_the_same(make: Make, vendor: Vendor) -> None:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="Say hello."))
    plain = ModelRequest(messages=messages, timeout_s=60, max_reply_bytes=10_000)
    marked = ModelRequest(messages=messages, timeout_s=60, max_reply_bytes=10_000, conversation=True)
    provider = make(max_tokens=10)
    counted = [await _counted(provider, request) for request in (marked, plain)]
    assert counted[0] == counted[1] > 0


async def _counted(provider: Provider, request: ModelRequest) -> int:
    """Tokens of a request, as the server says. It says nothing where its reply was cut within a character, and may
    close the connection over it; Anthropic's API takes no temperature that would keep it from such replies.
    """
    for _ in range(5):
        try:
            usage = (await provider.complete(request)).usage
        except ProviderError as error:
            if not error.retryable:
                raise
            continue
        if not usage.estimated:
            return usage.input_tokens
    pytest.fail("the server does not count")
