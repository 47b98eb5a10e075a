"""The sub-calls of one box: opened by its messages, answered by the host's handler, bounded in number and size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from sandbox.errors import BoxGone, ProtocolViolation
from sandbox.link import Link
from sandbox.protocol import Query, SubCallFailure, encode_results

QueryHandler = Callable[[str, str | None], Awaitable[str | SubCallFailure]]
"""Answers one sub-call of a cell: takes a prompt and its data, returns a text or why there is none."""

MAX_OPEN_QUERIES: Final = 8192
"""An honest box can't have more threads waiting than it may have threads."""
MAX_OPEN_CHARS: Final = 8 << 20
"""Characters of unanswered prompts of one box above which the host stops reading it: its memory stays bounded."""

_log = logging.getLogger(__name__)


class Waiter(Protocol):
    """The open cell: its wall clock stands while a sub-call is in flight."""

    def call_started(self) -> None: ...

    def call_ended(self) -> None: ...


class SubCalls:
    """Answers each `Query` of one box in a task of its own."""

    def __init__(self, link: Link, comm_id: str, handler: QueryHandler) -> None:
        self._link = link
        self._comm_id = comm_id
        self._handler = handler
        self._open: dict[str, asyncio.Task[None]] = {}
        self._chars = 0
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Wait until the box may ask more."""
        await self._room.wait()

    def open(self, query: Query, cell: Waiter | None) -> None:
        """Start to answer a query.

        Raises:
            ProtocolViolation: Its id is in flight already, or too many are.
        """
        if query.call_id in self._open or len(self._open) >= MAX_OPEN_QUERIES:
            raise ProtocolViolation("a query id used twice, or too many queries at once")
        chars = sum(map(len, query.prompts)) + sum(len(data) for data in query.data if data)
        self._chars += chars
        if self._chars >= MAX_OPEN_CHARS:
            self._room.clear()
        if cell is not None:
            cell.call_started()
        task = asyncio.create_task(self._answer(query, cell is not None), name="airlock-query")
        self._open[query.call_id] = task
        task.add_done_callback(lambda _: self._close(query.call_id, chars, cell))

    def _close(self, call_id: str, chars: int, cell: Waiter | None) -> None:
        del self._open[call_id]
        self._chars -= chars
        if self._chars < MAX_OPEN_CHARS:
            self._room.set()
        if cell is not None:
            cell.call_ended()

    async def _answer(self, query: Query, in_cell: bool) -> None:
        """Answer each prompt as its answer comes; answers that are ready together share a frame."""
        ready: list[tuple[int, str | SubCallFailure]] = []
        news = asyncio.Event()

        async def answer_one(index: int, prompt: str, data: str | None) -> None:
            ready.append((index, await self._ask(prompt, data) if in_cell else _NO_CELL))
            news.set()

        items = zip(query.indexes, query.prompts, query.data, strict=True)
        tasks = [asyncio.create_task(answer_one(*item)) for item in items]
        try:
            left = len(tasks)
            while left:
                await news.wait()
                news.clear()
                results = ready.copy()
                ready.clear()
                left -= len(results)
                await self._link.send(encode_results(self._comm_id, query.call_id, results))
        except BoxGone:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, prompt: str, data: str | None) -> str | SubCallFailure:
        try:
            return await self._handler(prompt, data)
        except Exception:
            _log.exception("the handler of sub-calls failed")
            return SubCallFailure("SubCallError", "the host failed to answer")

    async def aclose(self) -> None:
        """Cancel what is in flight and wait for its end."""
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


_NO_CELL: Final = SubCallFailure("NoCellRunning", "no cell is running: a thread outlived the cell that started it")
