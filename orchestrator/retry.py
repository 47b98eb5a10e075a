"""The one retry layer. It stands above the permit: every attempt it makes is counted and charged by itself."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import TYPE_CHECKING, Final

from orchestrator.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator.limits import Deadline
    from orchestrator.providers.base import ModelReply

_log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 4
"""Attempts of one call, the first included."""

_LONGEST_BACKOFF_S: Final = 8.0


async def with_retries(
    attempt: Callable[[], Awaitable[ModelReply]],
    *,
    deadline: Deadline,
    max_attempts: int = MAX_ATTEMPTS,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> ModelReply:
    """Call `attempt` until it replies, fails for good, or no time is left.

    Only a `ProviderError` whose `retryable` is true is tried again. The wait before the next attempt is what the
    server asked for, with up to 0.25 s more so that a batch does not come back in one instant; where it asked for
    nothing, 0.5 to 1 s, then 1 to 2, then 2 to 4, never more than 8. A connection that broke is tried again at
    once the first time: it was most likely a kept one that the server had closed. A wait that would not end
    before the deadline is not begun.

    Args:
        attempt: Makes one attempt. It takes its own permit and keeps its own time limit.
        deadline: When the whole call must be over.
        max_attempts: Attempts in all, 1 and more.
        sleep: Waits so many seconds; replaced in tests.

    Raises:
        ProviderError: The last attempt's; the text says so where the server asked for a longer wait than
            there is time.
        BaseException: Anything else that `attempt` raises, at once (a refused permit, a cancellation).
    """
    for number in itertools.count(1):
        try:
            return await attempt()
        except ProviderError as error:
            if not error.retryable:
                raise
            wait_s = _wait_s(error, number)
            if number >= max_attempts or wait_s >= deadline.remaining_s:
                if error.retry_after_s is None or error.retry_after_s < deadline.remaining_s:
                    raise
                failure = _with_wait_named(error, deadline)
                break
            _log_retry(error, number, max_attempts, wait_s)
        await sleep(wait_s)
    raise failure


def _wait_s(error: ProviderError, number: int) -> float:
    if error.retry_after_s is not None:
        return error.retry_after_s + random.uniform(0, 0.25)  # noqa: S311 - no secret
    if error.status is None and number == 1:
        return 0.0
    most = min(_LONGEST_BACKOFF_S, 2.0 ** (number - 1))
    return random.uniform(most / 2, most)  # noqa: S311 - no secret


def _log_retry(error: ProviderError, number: int, max_attempts: int, wait_s: float) -> None:
    _log.warning(
        "%s: attempt %d of %d failed (%s); next in %.1f s",
        error.provider,
        number,
        max_attempts,
        "no answer" if error.status is None else f"status {error.status}",
        wait_s,
    )


def _with_wait_named(error: ProviderError, deadline: Deadline) -> ProviderError:
    return ProviderError(
        f"{error} (the server asked for a wait of {error.retry_after_s:.1f} s; {deadline.remaining_s:.1f} s are left)",
        provider=error.provider,
        status=error.status,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        refused=error.refused,
        outage=error.outage,
    )
