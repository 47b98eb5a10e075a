"""What a gate makes of a vendor's faults, over a real socket: who is asked again, and what each attempt is charged.

`llmock` plays both vendors and gives its own verdict on the retries it saw.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from llmock.scenarios import Reply

from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.providers.base import Message
from orchestrator.retry import MAX_ATTEMPTS
from sandbox.messages import SubCallFailure
from tests.contract.desk import Desk
from tests.contract.vendors import KEY, Interface, Vendor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmock.pytest_plugin import LLMock

QUESTION = "What is it?"


@pytest.fixture
async def llm(vendor: Vendor, llmock: LLMock) -> AsyncIterator[Interface]:
    interface = vendor.interface("mock-model", base_url=llmock.base_url(vendor.name), api_key=KEY, max_tokens=100)
    yield interface
    await interface.aclose()


@pytest.mark.parametrize("status", [500, 503, 529])
async def test_an_answer_with_an_error_status_is_asked_again_and_costs_nothing(
    llm: Interface, llmock: LLMock, status: int
) -> None:
    llmock.fail(status, times=2, retry_after=0.05).reply("done")
    desk = Desk.of(llm)
    assert await desk.ask(QUESTION) == "done"
    assert len(llmock.requests) == desk.ledger.sub_calls == 3
    assert desk.ledger.output_tokens == 1
    assert desk.ledger.estimated_tokens == 0
    llmock.assert_resilient(strict=True)


FAULTS = ("disconnect", "truncate", "corrupt")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("chunks", [0, 3])
async def test_a_broken_stream_is_asked_again_and_costs_its_reservation(
    llm: Interface, llmock: LLMock, fault: str, chunks: int
) -> None:
    getattr(llmock, fault)(after_chunks=chunks)
    llmock.reply("one two three four five six", times=2)
    desk = Desk.of(llm)
    assert await desk.ask(QUESTION) == "one two three four five six"
    assert len(llmock.requests) == desk.ledger.sub_calls == 2
    reserved = desk.ledger.estimated_tokens
    assert reserved > 100 + len(QUESTION), "nobody knows what was billed: the most that it can have been"
    assert desk.ledger.spent_tokens > reserved
    llmock.assert_resilient()


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
async def test_streams_that_always_break_end_after_four_attempts(llm: Interface, llmock: LLMock, fault: str) -> None:
    getattr(llmock, fault)(after_chunks=1, times=None)
    desk = Desk.of(llm)
    assert await desk.ask(QUESTION) == SubCallFailure("ProviderError", "the sub-model gave no answer")
    assert len(llmock.requests) == desk.ledger.sub_calls == MAX_ATTEMPTS
    assert desk.ledger.spent_tokens == desk.ledger.estimated_tokens > 0


async def test_a_stalled_stream_takes_no_longer_than_a_call_may(llm: Interface, llmock: LLMock) -> None:
    llmock.stall(after_chunks=2, seconds=4)
    desk = Desk.of(llm, max_call_s=0.5)
    assert await desk.ask(QUESTION) == SubCallFailure("ProviderError", "the sub-model gave no answer")
    assert desk.ledger.sub_calls == 1
    assert desk.ledger.spent_tokens == desk.ledger.estimated_tokens > 0
    llmock.reply("done")
    assert await desk.ask("Another?") == "done"


async def test_an_outage_costs_calls_and_no_tokens(llm: Interface, llmock: LLMock) -> None:
    llmock.fail(529, times=None, retry_after=0.02)
    desk = Desk.of(llm)
    assert await desk.ask(QUESTION) == SubCallFailure("ProviderError", "the sub-model gave no answer (HTTP status 529)")
    assert len(llmock.requests) == desk.ledger.sub_calls == MAX_ATTEMPTS
    assert desk.ledger.spent_tokens == 0
    llmock.assert_resilient(strict=True)


async def test_each_repetition_needs_a_permit_of_its_own(llm: Interface, llmock: LLMock) -> None:
    llmock.fail(500, times=None, retry_after=0.02)
    desk = Desk.of(llm, max_sub_calls=2)
    assert await desk.ask(QUESTION) == SubCallFailure("LimitExceeded", "2 of 2 sub-calls used")
    assert len(llmock.requests) == desk.ledger.sub_calls == 2


async def test_a_wait_that_would_outlast_the_call_is_not_begun(llm: Interface, llmock: LLMock) -> None:
    llmock.rate_limit(times=None, retry_after=60)
    desk = Desk.of(llm, max_call_s=5)
    with pytest.raises(ProviderError, match=r"asked for a wait of 60\.0 s; .* s are left"):
        await desk.gate.ask_root([Message(role="user", content=QUESTION)])
    assert len(llmock.requests) == 1


@pytest.mark.parametrize("message", ["context", "key"])
async def test_what_no_repetition_cures_is_asked_once(llm: Interface, llmock: LLMock, message: str) -> None:
    if message == "context":
        llmock.context_overflow(times=None)
    else:
        llmock.fail(401, times=None, message=f"Incorrect API key provided: {KEY}")
    desk = Desk.of(llm)
    with pytest.raises(ProviderError) as caught:
        await desk.gate.ask_root([Message(role="user", content=QUESTION)])
    assert KEY not in str(caught.value)
    assert (len(llmock.requests), desk.ledger.root_calls, desk.ledger.spent_tokens) == (1, 1, 0)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("text", ["", " \n"])
async def test_an_empty_reply_is_a_reply_and_paid_for(llm: Interface, llmock: LLMock, text: str) -> None:
    llmock.add(Reply(text=text))
    desk = Desk.of(llm)
    assert await desk.ask(QUESTION) == text
    assert (len(llmock.requests), desk.ledger.output_tokens, desk.ledger.estimated_tokens) == (1, 1, 0)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize(("said", "meant"), [("length", "length"), ("content_filter", "refusal"), ("new", "other")])
async def test_why_a_reply_ended(llm: Interface, llmock: LLMock, said: str, meant: str) -> None:
    llmock.add(Reply(text="as far as this", finish_reason=said))
    desk = Desk.of(llm)
    reply = await desk.gate.ask_root([Message(role="user", content=QUESTION)])
    assert (reply.text, reply.finish_reason) == ("as far as this", meant)
    assert not reply.usage.estimated
    assert len(llmock.requests) == 1


async def test_sixty_four_calls_at_once_survive_twenty_failures(llm: Interface, llmock: LLMock) -> None:
    llmock.fail(503, times=12, retry_after=0.1).disconnect(times=8).reply("done", times=None)
    desk = Desk.of(llm, max_concurrency=64, max_sub_calls=200)
    said = await asyncio.gather(*[desk.ask(f"question {n}") for n in range(64)])
    assert said == ["done"] * 64
    assert len(llmock.requests) == desk.ledger.sub_calls == 84
    assert (desk.ledger.output_tokens, desk.ledger.reserved_tokens) == (64, 0)
    llmock.assert_resilient()


async def test_no_limit_is_passed_by_calls_at_once_that_fail(llm: Interface, llmock: LLMock) -> None:
    llmock.fail(500, times=5, retry_after=0.05).truncate(times=5).reply("done", times=None)
    desk = Desk.of(llm, max_concurrency=64, max_sub_calls=20, max_tokens=10_000)
    said = await asyncio.gather(*[desk.ask(f"question {n}") for n in range(64)])
    kinds = {one.kind for one in said if isinstance(one, SubCallFailure)}
    assert kinds == {LimitExceeded.__name__}
    assert len(llmock.requests) == desk.ledger.sub_calls == 20
    assert desk.ledger.spent_tokens <= 10_000
    assert desk.ledger.reserved_tokens == 0
