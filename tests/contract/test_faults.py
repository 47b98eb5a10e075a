"""Both SDKs over a real socket against `llmock`, a server that plays both vendors and their faults.

It also judges what our retries did: whether they waited as asked, gave up too early or stormed.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import ProviderError
from orchestrator.limits import Deadline
from orchestrator.retry import with_retries
from tests.contract.vendors import KEY, Interface, Vendor, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmock.pytest_plugin import LLMock

    from orchestrator.providers.base import ModelReply


@pytest.fixture
async def llm(vendor: Vendor, llmock: LLMock) -> AsyncIterator[Interface]:
    interface = vendor.interface("mock-model", base_url=llmock.base_url(vendor.name), api_key=KEY)
    yield interface
    await interface.aclose()


async def ask(llm: Interface) -> ModelReply:
    """One call as the engine makes it: several attempts under one deadline."""
    return await with_retries(lambda: llm.complete(request()), deadline=Deadline(30))


async def failure(llm: Interface, **how: float) -> ProviderError:
    """The error of one attempt."""
    with pytest.raises(ProviderError) as caught:
        await llm.complete(request(timeout_s=how.get("timeout_s", 20)))
    return caught.value


async def test_reply_and_usage(llm: Interface, llmock: LLMock) -> None:
    llmock.reply("The answer is 42.")
    reply = await llm.complete(request("x" * 400))
    assert reply.text == "The answer is 42."
    assert reply.finish_reason == "stop"
    assert not reply.usage.estimated
    assert reply.usage.input_tokens >= 100
    assert reply.usage.output_tokens == 4
    sent = llmock.last_request.body
    assert sent["stream"] is True
    assert sent["model"] == "mock-model"
    assert "temperature" not in sent


async def test_rate_limit_is_waited_out(llm: Interface, llmock: LLMock) -> None:
    llmock.rate_limit(times=2, retry_after=0.3).reply("done")
    assert (await ask(llm)).text == "done"
    assert len(llmock.requests) == 3
    llmock.assert_resilient(strict=True)


async def test_rate_limit_names_its_wait(llm: Interface, llmock: LLMock) -> None:
    llmock.rate_limit(retry_after=7)
    error = await failure(llm)
    assert (error.status, error.retryable, error.retry_after_s, error.refused) == (429, True, 7.0, True)
    assert error.provider == llm.name
    assert len(llmock.requests) == 1  # the SDK's own retries are off


@pytest.mark.parametrize("status", [408, 409, 500, 503, 529])
async def test_server_trouble_is_retried(llm: Interface, llmock: LLMock, status: int) -> None:
    llmock.fail(status, times=2, retry_after=0.05).reply("done")
    assert (await ask(llm)).text == "done"
    assert len(llmock.requests) == 3
    llmock.assert_resilient(strict=True)


async def test_backoff_without_a_wish_of_the_server(llm: Interface, llmock: LLMock) -> None:
    llmock.fail(500, times=2).reply("done")
    assert (await ask(llm)).text == "done"
    assert len(llmock.requests) == 3
    llmock.assert_resilient()  # strict would compare two jittered waits by the clock; test_retry.py knows their ranges


async def test_an_outage_ends_after_four_attempts(llm: Interface, llmock: LLMock) -> None:
    llmock.fail(503, times=None, retry_after=0.05)
    with pytest.raises(ProviderError) as caught:
        await ask(llm)
    assert caught.value.status == 503
    assert len(llmock.requests) == 4
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("status", [400, 403, 404, 422])
async def test_a_wrong_request_is_not_retried(llm: Interface, llmock: LLMock, status: int) -> None:
    llmock.fail(status)
    with pytest.raises(ProviderError) as caught:
        await ask(llm)
    assert (caught.value.status, caught.value.retryable, caught.value.refused) == (status, False, True)
    assert len(llmock.requests) == 1
    llmock.assert_resilient(strict=True)


async def test_a_wrong_key_is_told_without_the_key(llm: Interface, llmock: LLMock) -> None:
    llmock.fail(401, message=f"Incorrect API key provided: {KEY}.\x1b[31m")
    error = await failure(llm)
    assert (error.status, error.retryable, error.refused) == (401, False, True)
    assert "Incorrect API key provided: [key]" in str(error)
    assert "\x1b" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert KEY not in "".join(traceback.format_exception(error))
    llmock.assert_resilient(strict=True)


BROKEN_STREAMS = {  # a fault of llmock, what our error says of it
    "disconnect": "connection failed",
    "truncate": "ended before the reply did",
    "corrupt": "can't be read",
}


@pytest.mark.parametrize("fault", BROKEN_STREAMS)
async def test_a_broken_stream_is_an_error(llm: Interface, llmock: LLMock, fault: str) -> None:
    getattr(llmock, fault)(after_chunks=3)
    llmock.reply("one two three four five six")
    error = await failure(llm)
    assert (error.status, error.retryable, error.refused) == (None, True, False)
    assert BROKEN_STREAMS[fault] in str(error)


@pytest.mark.parametrize("fault", BROKEN_STREAMS)
async def test_a_broken_stream_is_retried(llm: Interface, llmock: LLMock, fault: str) -> None:
    getattr(llmock, fault)(after_chunks=3)
    llmock.reply("one two three four five six", times=None)
    assert (await ask(llm)).text == "one two three four five six"
    assert len(llmock.requests) == 2
    llmock.assert_resilient()


async def test_a_stream_that_stalls_ends_with_the_time_limit(llm: Interface, llmock: LLMock) -> None:
    llmock.stall(after_chunks=3, seconds=4)
    error = await failure(llm, timeout_s=0.5)
    assert (error.status, error.retryable, error.refused) == (None, False, False)
    assert "within 0.5 s" in str(error)
    assert (await llm.complete(request())).text


async def test_a_reply_that_never_comes_ends_with_the_time_limit(llm: Interface, llmock: LLMock) -> None:
    llmock.delay(4)
    error = await failure(llm, timeout_s=0.5)
    assert not error.retryable
    assert "within 0.5 s" in str(error)


async def test_a_slow_reply_is_no_timeout(llm: Interface, llmock: LLMock) -> None:
    llmock.pace(30).reply("one two three four five")
    assert (await llm.complete(request())).text == "one two three four five"


async def test_query_blocks_inside_a_running_loop(llm: Interface, llmock: LLMock) -> None:
    llmock.rate_limit(retry_after=0.1).reply("from the notebook")
    assert llm.query("hello", "Be brief.") == "from the notebook"
    llmock.assert_resilient(strict=True)
