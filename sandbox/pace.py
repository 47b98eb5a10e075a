"""How much of the event loop one box may have: it shares the loop with all other runs of its process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Final, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")

SLICE_S: Final = 0.001
"""Seconds of work for one box after which it rests; a single step may take longer."""
MOST_IN_A_TURN: Final = 8
"""Messages and prompts of one box taken before all others have a turn, however fast they are."""

_at_work: set[Pace] = set()
"""Boxes of this process that the host waits for."""


class Pace:
    """Counts the time for which one box's tasks hold the loop, and makes whoever reads the box rest as long.

    So a box has half of the loop at most while others work, whatever it sends; alone it rests for nobody.
    """

    def __init__(self) -> None:
        self._worked_s = 0.0
        self._step_started = 0.0
        self._taken = 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Around each request to the box: others rest for it."""
        _at_work.add(self)
        try:
            yield
        finally:
            _at_work.discard(self)

    async def counted(self, work: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run it; the time between its waits counts as the box's."""
        return await _Steps(work(*args, **kwargs), self)

    async def rest(self) -> None:
        """To be awaited in `counted` work after each message and each prompt: gives others a turn when it is time."""
        self._taken += 1
        worked_s = self._worked_s + time.perf_counter() - self._step_started
        if self._taken < MOST_IN_A_TURN and worked_s < SLICE_S:
            return
        self._taken = 0
        await asyncio.sleep(0)  # what was started for the box takes its first step, which counts
        if self._worked_s >= SLICE_S:
            rest_s, self._worked_s = self._worked_s, 0.0
            if len(_at_work) > (self in _at_work):
                await asyncio.sleep(rest_s)

    def step_starts(self) -> None:
        """One of the box's tasks gets the loop."""
        self._step_started = time.perf_counter()

    def step_ends(self) -> None:
        """It waits, or has ended."""
        self._worked_s += time.perf_counter() - self._step_started


class _Steps(Awaitable[_T]):
    """Passes on what a coroutine waits for, and takes the time of its steps."""

    def __init__(self, work: Coroutine[Any, Any, _T], pace: Pace) -> None:
        self._work = work
        self._pace = pace

    def __await__(self) -> Generator[Any, Any, _T]:
        step: Any = self._work.send
        sent: Any = None
        while True:
            self._pace.step_starts()
            try:
                waits_for = step(sent)
            except StopIteration as end:
                value: _T = end.value
                return value
            finally:
                self._pace.step_ends()
            try:
                step, sent = self._work.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - cancellation too is the coroutine's to handle
                step, sent = self._work.throw, error
