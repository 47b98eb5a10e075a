"""The sub-calls of one box: opened by its messages, answered by the host's handler, bounded in number and size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Protocol

from sandbox.encoding import encode_results
from sandbox.errors import BoxGone, ProtocolViolation
from sandbox.link import Link
from sandbox.messages import Query, SubCallFailure

QueryHandler = Callable[[str, str | None], Awaitable[str | SubCallFailure]]
"""Answers one sub-call of a cell: takes a prompt and its data, returns a text or why there is none."""

MAX_PROMPTS_PER_CELL: Final = 100_000
"""Prompts, answered or refused, above which a cell is a flood."""
MAX_OPEN_BYTES: Final = 4 << 20
"""Memory of one box's unanswered prompts above which the host stops reading the box."""
PROMPT_COST_BYTES: Final = 4096
"""What a prompt counts beside its text: an empty one takes tasks of the host's too."""
MAX_UNSENT_BYTES: Final = 4 << 20
"""Memory of answers that a box has not taken above which nothing more is asked for it."""
MAX_REFUSED_BYTES_PER_CELL: Final = 1 << 30
"""Memory of a cell's refused prompts above which it is a flood: nobody pays for them."""
MAX_ANSWER_CHARS: Final = 4 << 20
"""Characters of answers in one message, where no single answer is longer."""

_Result = tuple[int, str | SubCallFailure]

_log = logging.getLogger(__name__)


class Waiter(Protocol):
    """The open cell: its wall clock stands while a sub-call is in flight."""

    @property
    def stopping(self) -> bool: ...

    def call_started(self) -> None: ...

    def call_ended(self) -> None: ...


class SubCalls:
    """Answers each `Query` of one box in a task of its own."""

    def __init__(self, link: Link, comm_id: str, handler: QueryHandler) -> None:
        self._link = link
        self._comm_id = comm_id
        self._handler = handler
        self._open: dict[str, asyncio.Task[None]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._bytes = 0
        self._asked = self._refused_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._unsent_bytes = 0
        self._taken = asyncio.Event()
        self._taken.set()

    def count_anew(self) -> None:
        """A new cell's prompts are counted from nothing."""
        self._asked = self._refused_bytes = 0

    async def room(self) -> None:
        """Wait until the box may ask more."""
        await self._room.wait()

    def open(self, query: Query, cell: Waiter | None) -> None:
        """Start to answer a query.

        Raises:
            ProtocolViolation: Its id is in flight already, or the cell has asked too much.
        """
        self._asked += len(query.prompts)
        if query.call_id in self._open:
            raise ProtocolViolation("a query id used twice")
        if self._asked > MAX_PROMPTS_PER_CELL or self._refused_bytes > MAX_REFUSED_BYTES_PER_CELL:
            raise ProtocolViolation(
                f"a flood: {self._asked:,} prompts in one cell, {self._refused_bytes:,} bytes refused"
            )
        size = sum(map(_cost, query.prompts, query.data))
        self._bytes += size
        if self._bytes >= MAX_OPEN_BYTES:
            self._room.clear()
        if cell is not None:
            cell.call_started()
        task = asyncio.create_task(self._answer(query, cell), name="airlock-query")
        self._open[query.call_id] = task
        task.add_done_callback(lambda _: self._close(query.call_id, size, cell))

    def _close(self, call_id: str, size: int, cell: Waiter | None) -> None:
        del self._open[call_id]
        self._bytes -= size
        if self._bytes < MAX_OPEN_BYTES:
            self._room.set()
        if cell is not None:
            cell.call_ended()

    async def _answer(self, query: Query, cell: Waiter | None) -> None:
        """Answer each prompt as its answer comes; answers that are ready together share a frame."""
        ready: list[_Result] = []
        news = asyncio.Event()

        async def answer_one(index: int, prompt: str, data: str | None) -> None:
            result = await self._ask(prompt, data, cell)
            if isinstance(result, SubCallFailure) and not (cell and _stops(cell)):
                self._refused_bytes += _cost(prompt, data)
            ready.append((index, result))
            self._count_unsent(_size(result))
            news.set()

        items = zip(query.indexes, query.prompts, query.data, strict=True)
        tasks = [asyncio.create_task(answer_one(*item)) for item in items]
        self._asking.update(tasks)
        try:
            left = len(tasks)
            while left:
                await news.wait()
                news.clear()
                for part in _pack(ready.copy()):
                    await self._link.send(encode_results(self._comm_id, query.call_id, part))
                    left -= len(part)
                    del ready[: len(part)]
                    self._count_unsent(-sum(_size(result) for _, result in part))
        except BoxGone:
            pass
        finally:
            self._asking.difference_update(tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._count_unsent(-sum(_size(result) for _, result in ready))

    def _count_unsent(self, more: int) -> None:
        self._unsent_bytes += more
        if self._unsent_bytes < MAX_UNSENT_BYTES:
            self._taken.set()
        else:
            self._taken.clear()

    async def _ask(self, prompt: str, data: str | None, cell: Waiter | None) -> str | SubCallFailure:
        if cell is None:
            return _NO_CELL
        if _stops(cell):
            return _STOPPING
        try:
            while not self._taken.is_set():  # and again: all who wait are woken at once
                await self._taken.wait()
            if self._link.closed:
                return _STOPPING
            return await self._handler(prompt, data)
        except asyncio.CancelledError:
            if _stops(cell):
                return _STOPPING
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the operator reads it, and the cell does not
            _log.exception("the handler of sub-calls failed")
            return SubCallFailure("SubCallError", "the host failed to answer")

    def stop(self) -> None:
        """Answer all that is in flight with a failure: the open cell, which says `stopping`, is to give way.

        Its threads would else hold it, and prompts that fill the host's room would hide its end.
        """
        for task in self._asking:
            task.cancel()

    async def aclose(self) -> None:
        """Cancel what is in flight and wait for its end."""
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


_NO_CELL: Final = SubCallFailure("NoCellRunning", "no cell is running: a thread outlived the cell that started it")
_STOPPING: Final = SubCallFailure("LimitExceeded", "the cell's time is over")


def _stops(cell: Waiter) -> bool:
    return cell.stopping


def _cost(prompt: str, data: str | None) -> int:
    return PROMPT_COST_BYTES + sys.getsizeof(prompt) + sys.getsizeof(data)


def _size(result: str | SubCallFailure) -> int:
    return sys.getsizeof(result if isinstance(result, str) else result.message)


def _pack(results: list[_Result]) -> Iterator[list[_Result]]:
    """Cut answers into runs that fit one message."""
    part: list[_Result] = []
    chars = 0
    for index, result in results:
        size = len(result) if isinstance(result, str) else 0
        if part and chars + size > MAX_ANSWER_CHARS:
            yield part
            part, chars = [], 0
        part.append((index, result))
        chars += size
    if part:
        yield part
