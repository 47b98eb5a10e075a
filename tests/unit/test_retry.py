"""The retry layer: what is tried again, after which wait, and when it stops."""

from __future__ import annotations

import asyncio
import logging

import pytest

from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.limits import UNLIMITED, Deadline
from orchestrator.providers.base import ModelReply, TokenUsage
from orchestrator.retry import MAX_ATTEMPTS, with_retries

FINE = ModelReply(text="fine", usage=TokenUsage(input_tokens=1, output_tokens=1))
SECRET_TEXT = "words of the server"


def trouble(status: int | None = 503, *, retry_after_s: float | None = None, retryable: bool = True) -> ProviderError:
    return ProviderError(
        f"x:y: {SECRET_TEXT}",
        provider="x:y",
        status=status,
        retryable=retryable,
        retry_after_s=retry_after_s,
        refused=status is not None,
    )


class Script:
    """Plays attempts and keeps the waits between them, without waiting."""

    def __init__(self, *outcomes: ModelReply | BaseException) -> None:
        self.outcomes = list(outcomes)
        self.attempts = 0
        self.waits: list[float] = []

    async def attempt(self) -> ModelReply:
        outcome = self.outcomes[min(self.attempts, len(self.outcomes) - 1)]
        self.attempts += 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def sleep(self, wait_s: float) -> None:
        self.waits.append(wait_s)

    async def run(self, *, seconds: float = UNLIMITED, max_attempts: int = MAX_ATTEMPTS) -> ModelReply:
        return await with_retries(self.attempt, deadline=Deadline(seconds), max_attempts=max_attempts, sleep=self.sleep)


async def test_success_needs_one_attempt() -> None:
    script = Script(FINE)
    assert await script.run() is FINE
    assert (script.attempts, script.waits) == (1, [])


async def test_backoff_doubles_with_jitter_and_ends_after_the_last_attempt() -> None:
    error = trouble()
    script = Script(error)
    with pytest.raises(ProviderError) as caught:
        await script.run(max_attempts=7)
    assert caught.value is error
    assert script.attempts == 7
    ranges = [(0.5, 1), (1, 2), (2, 4), (4, 8), (4, 8), (4, 8)]
    assert all(low <= wait <= high for wait, (low, high) in zip(script.waits, ranges, strict=True))


async def test_jitter_differs() -> None:
    first, second = Script(trouble()), Script(trouble())
    for script in (first, second):
        with pytest.raises(ProviderError):
            await script.run()
    assert first.waits != second.waits


async def test_retry_after_is_honoured() -> None:
    script = Script(trouble(429, retry_after_s=3), trouble(429, retry_after_s=20), FINE)
    assert await script.run() is FINE
    assert 3 <= script.waits[0] <= 3.25
    assert 20 <= script.waits[1] <= 20.25


async def test_a_broken_connection_is_retried_at_once_the_first_time_only() -> None:
    script = Script(trouble(None), trouble(None), FINE)
    assert await script.run() is FINE
    assert script.waits[0] == 0
    assert 1 <= script.waits[1] <= 2


async def test_a_wait_longer_than_the_time_left_is_not_begun_and_is_named() -> None:
    script = Script(trouble(429, retry_after_s=3600))
    with pytest.raises(ProviderError, match=r"wait of 3600\.0 s; \d+\.\d s are left") as caught:
        await script.run(seconds=60)
    error = caught.value
    assert (error.status, error.retry_after_s, error.retryable, error.refused) == (429, 3600, True, True)
    assert (script.attempts, script.waits) == (1, [])


async def test_no_backoff_is_begun_that_outlives_the_deadline() -> None:
    script = Script(trouble())
    with pytest.raises(ProviderError):
        await script.run(seconds=0.4)
    assert (script.attempts, script.waits) == (1, [])


@pytest.mark.parametrize(
    "error", [trouble(400, retryable=False), LimitExceeded("none left", limit="max_sub_calls"), RuntimeError("a bug")]
)
async def test_nothing_else_is_retried(error: Exception) -> None:
    script = Script(error)
    with pytest.raises(type(error)) as caught:
        await script.run()
    assert caught.value is error
    assert script.attempts == 1


async def test_an_attempt_may_be_a_plain_function_that_returns_an_awaitable() -> None:
    script = Script(trouble(), FINE)
    reply = await with_retries(lambda: script.attempt(), deadline=Deadline(60), sleep=script.sleep)
    assert reply is FINE


async def test_cancellation_passes_in_an_attempt_and_in_a_wait() -> None:
    started = asyncio.Event()

    async def hang() -> ModelReply:
        started.set()
        await asyncio.Event().wait()
        return FINE

    async def hang_in_sleep(_: float) -> None:
        await hang()

    failing = Script(trouble())
    for call in (
        with_retries(hang, deadline=Deadline(60)),
        with_retries(failing.attempt, deadline=Deadline(60), sleep=hang_in_sleep),
    ):
        started.clear()
        task = asyncio.ensure_future(call)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert failing.attempts == 1


async def test_each_retry_is_logged_without_the_servers_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await Script(trouble(503), trouble(None), FINE).run()
    texts = [record.getMessage() for record in caplog.records if record.name == "orchestrator.retry"]
    assert [text.split(";")[0] for text in texts] == [
        "x:y: attempt 1 of 4 failed (status 503)",
        "x:y: attempt 2 of 4 failed (no answer)",
    ]
    assert SECRET_TEXT not in caplog.text
