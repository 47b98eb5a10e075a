"""How many boxes a run and its recursion tree may have: those that run a cell, which wait for a turn, and those alive.

A box that waits for a child run does not count as running a cell: it holds nothing that its child needs, so a tree of
any depth ends with one cell at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from orchestrator.errors import LimitExceeded


class Boxes:
    """The boxes of one recursion tree.

    Args:
        max_boxes: Boxes that run a cell at once; who comes later waits.
        max_live_boxes: Boxes alive at once, those that wait included; one more is refused.
    """

    def __init__(self, *, max_boxes: int, max_live_boxes: int) -> None:
        self._running = asyncio.Semaphore(max_boxes)
        self._max_live = max_live_boxes
        self.live = 0

    @classmethod
    def one(cls) -> Boxes:
        """For a box that has no others beside it."""
        return cls(max_boxes=1, max_live_boxes=1)

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """For as long as a box lives.

        Raises:
            LimitExceeded: There are as many as may be. Nobody waits for one: its parent would wait with it.
        """
        if self.live >= self._max_live:
            raise LimitExceeded(f"{self.live} of {self._max_live} boxes are alive", limit="max_live_boxes")
        self.live += 1
        try:
            yield
        finally:
            self.live -= 1

    def turns(self) -> BoxTurns:
        """The turns of one box."""
        return BoxTurns(self._running)


class BoxTurns:
    """When one box may run its cell; it has one at a time."""

    def __init__(self, running: asyncio.Semaphore) -> None:
        self._running = running
        self._taking = asyncio.Lock()
        self._has_turn = self._in_cell = False
        self._children = 0

    @contextlib.asynccontextmanager
    async def cell(self) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while a cell runs."""
        await self._take()
        self._in_cell = True
        try:
            yield
        finally:
            self._in_cell = False
            self._give()

    @contextlib.asynccontextmanager
    async def child(self) -> AsyncIterator[None]:
        """Give the turn away while the cell waits for a child run; have it back when the last of them has ended."""
        self._children += 1
        self._give()
        try:
            yield
        finally:
            self._children -= 1
        if self._in_cell and not self._children:
            await self._take()
            self._give_unless_in_cell()

    def _give_unless_in_cell(self) -> None:
        """The cell may have ended while a thread of its waited for the turn."""
        if not self._in_cell:
            self._give()

    async def _take(self) -> None:
        async with self._taking:
            if not self._has_turn:
                await self._running.acquire()
                self._has_turn = True

    def _give(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._running.release()
