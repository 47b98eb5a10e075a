"""Boxes that wait with a ready kernel, so that a run gets one in milliseconds. Each is used once.

A waiting box has been audited like any other, is of no run, and holds nothing of anybody's: its contexts and settings
come when it is taken. It is not paused: a paused one would need its memory and its pages anyway, and the relay in it
could not see that its host is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from sandbox.box import Box
from sandbox.errors import PoolClosed, SandboxError
from sandbox.spec import SandboxSpec

OpenBox = Callable[[SandboxSpec], Awaitable[Box]]
"""Starts a box of a spec."""

PAUSE_S: Final = (0.5, 30.0)
"""After a start that failed: seconds until the next one, and what their doubling ends at."""
REFILL_AFTER_S: Final = 0.1
"""A start keeps a core busy for longer than a taken box needs to its first result: so long it has the machine alone."""

_log = logging.getLogger(__name__)


class Pool:
    """Boxes of one spec, kept ready. Belongs to the event loop that it was opened on.

    Args:
        spec: The boxes. Their ``lifetime_s`` is that of the run which takes one.
        open_box: Starts one.
        size: Boxes kept ready.
        max_boxes: First runs that have a box at once, whether it waited here or not; more wait for their turn. Boxes
            that wait here count too, and give way: there may be more for the moment that it takes to remove them.
        idle_s: Seconds that a box waits; then a fresh one takes its place.
    """

    def __init__(self, spec: SandboxSpec, open_box: OpenBox, *, size: int, max_boxes: int, idle_s: float) -> None:
        self._spec = spec
        self._open_box = open_box
        self._size = size
        self._idle_s = idle_s
        self._max_boxes = max_boxes
        self._ready: list[Box] = []
        self._used = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._starting = 0
        self._missing_since: float | None = None
        self._news = asyncio.Event()
        self._starts = asyncio.Semaphore(os.cpu_count() or 1)
        self._keeper: asyncio.Task[None] | None = None
        self._refills: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._removals = asyncio.Semaphore(os.cpu_count() or 1)
        self._taken: set[Box] = set()
        self._closed = False

    @property
    def ready(self) -> int:
        """Boxes that wait."""
        return len(self._ready)

    @property
    def used(self) -> int:
        """First runs that have a box, or had one that is being removed."""
        return self._used

    async def open(self) -> None:
        """Begin to keep boxes ready, and wait for the first.

        Raises:
            SandboxError: It would not start.
        """
        if self._size:
            await self._start_one()
        self._keeper = asyncio.create_task(self._keep(), name="airlock-pool")

    async def take(self, spec: SandboxSpec, *, waits: bool = True) -> Box:
        """A box for a run: one that waits here where one fits, else a fresh one.

        Args:
            spec: What the run needs.
            waits: Whether to wait, in turn, while `max_boxes` runs have one. A child run must not: the run above it
                holds a place until the child has ended.

        Raises:
            PoolClosed: The pool is closed.
            BoxStartError: As `Box.open`.
        """
        if waits:
            await self._enter()
        try:
            box = self._pick(spec) or await self._open_fresh(spec)
        except BaseException:
            if waits:
                self._leave()
            raise
        self._taken.add(box)
        box.on_close = lambda: self._gone(box, waits)
        box.turn = self._removals
        if not self._closed:
            box.removals = self._ending
        self._news.set()
        return box

    async def _enter(self) -> None:
        self._check_open()
        if self._used < self._max_boxes:
            self._used += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # it came at the same moment
                self._leave()
            raise

    def _gone(self, box: Box, held_a_place: bool) -> None:
        self._taken.discard(box)
        if held_a_place:
            self._leave()

    def _leave(self) -> None:
        self._used -= 1
        while self._queue and self._used < self._max_boxes:
            turn = self._queue.popleft()
            if not turn.done():  # else it was given up
                self._used += 1
                turn.set_result(None)
        self._news.set()

    def _check_open(self) -> None:
        if self._closed:
            raise PoolClosed("the pool of boxes is closed")

    def _pick(self, spec: SandboxSpec) -> Box | None:
        """The one that has waited longest. One that has ended by itself is left to the keeper."""
        self._check_open()
        if dataclasses.replace(spec, lifetime_s=self._spec.lifetime_s) != self._spec:
            return None
        for box in self._ready:
            if box.alive and self._left_s(box) >= spec.lifetime_s:
                self._ready.remove(box)
                box.waited = True
                return box
        return None

    def _left_s(self, box: Box) -> float:
        """Until whoever does not know its owner may remove it."""
        return box.spec.lifetime_s - (time.monotonic() - box.opened)

    async def _open_fresh(self, spec: SandboxSpec) -> Box:
        """Start one, or take one that has become ready before there was a core to start it on."""
        async with self._starts:
            return self._pick(spec) or await self._open_box(spec)

    async def _keep(self) -> None:
        """Start what is missing, one for each core at a time, and remove what is too old or has ended."""
        while True:
            self._news.clear()
            self._remove_unwanted()
            if self._refill_in_s() <= 0:
                for _ in range(self._missing()):
                    self._starting += 1
                    _kept(self._refills, self._refill())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_check_s()):
                    await self._news.wait()

    def _missing(self) -> int:
        return min(self._size, self._max_boxes - self._used) - len(self._ready) - self._starting

    def _refill_in_s(self) -> float:
        """Seconds until what is missing may be started; infinity where nothing is."""
        if self._missing() <= 0:
            self._missing_since = None
            return float("inf")
        if self._missing_since is None:
            self._missing_since = time.monotonic()
        return self._missing_since + REFILL_AFTER_S - time.monotonic()

    def _remove_unwanted(self) -> None:
        """What has ended or waited too long, and whatever is one too many beside the runs that have a box."""
        fit = [box for box in self._ready if box.alive and self._waited_s(box) < self._idle_s]
        kept = fit[: max(0, self._max_boxes - self._used)]
        for box in self._ready:
            if box not in kept:
                _kept(self._ending, box.aclose())
        self._ready = kept

    @staticmethod
    def _waited_s(box: Box) -> float:
        return time.monotonic() - box.opened

    def _next_check_s(self) -> float:
        due_s = (self._idle_s - self._waited_s(box) for box in self._ready)
        return max(0.01, min([1.0, self._refill_in_s(), *due_s]))

    async def _refill(self) -> None:
        pause_s, longest_s = PAUSE_S
        try:
            while not self._closed:
                try:
                    return await self._start_one()
                except (SandboxError, OSError) as error:  # OSError: for example no more open files
                    _log.warning("a box for the pool did not start: %s", error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, longest_s)
        finally:
            self._starting -= 1
            self._news.set()

    async def _start_one(self) -> None:
        spec = dataclasses.replace(self._spec, lifetime_s=self._spec.lifetime_s + self._idle_s)
        async with self._starts:
            if self._missing() < 0:  # runs have come meanwhile and take its place
                return
            box = await self._open_box(spec)
        if self._closed:
            await box.aclose()
            return
        self._ready.append(box)

    async def aclose(self) -> None:
        """Remove the boxes that wait, and wait for all that are being removed.

        Those that runs have stay theirs; who waits for one is told.
        """
        self._closed = True
        for box in self._taken:  # nobody waits for removals after this
            box.removals = None
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(PoolClosed("the pool of boxes is closed"))
        stopped = [*([self._keeper] if self._keeper else []), *self._refills]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)
        ready, self._ready = self._ready, []
        for box in ready:
            _kept(self._ending, box.aclose())
        await asyncio.gather(*map(asyncio.shield, self._ending), return_exceptions=True)  # they end also without us


def _kept(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work, name="airlock-pool")
    tasks.add(task)
    task.add_done_callback(tasks.discard)
