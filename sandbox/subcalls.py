"""The sub-calls of one box: opened by its messages, answered by the host's handler, bounded in number and size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
MAX_OPEN_CHARS: Final = 4 << 20
"""Characters of unanswered prompts of one box above which the host stops reading it: its memory stays bounded."""
PROMPT_COST_CHARS: Final = 512
"""What a prompt counts beside its text: an empty one takes a task of the host's too."""
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
        self._chars = 0
        self._asked = 0
        self._room = asyncio.Event()
        self._room.set()

    def count_anew(self) -> None:
        """A new cell's prompts are counted from nothing."""
        self._asked = 0

    async def room(self) -> None:
        """Wait until the box may ask more."""
        await self._room.wait()

    def open(self, query: Query, cell: Waiter | None) -> None:
        """Start to answer a query.

        Raises:
            ProtocolViolation: Its id is in flight already, or the cell has asked too often.
        """
        self._asked += len(query.prompts)
        if query.call_id in self._open or self._asked > MAX_PROMPTS_PER_CELL:
            raise ProtocolViolation("a query id used twice, or too many prompts in one cell")
        chars = _cost(query)
        self._chars += chars
        if self._chars >= MAX_OPEN_CHARS:
            self._room.clear()
        if cell is not None:
            cell.call_started()
        task = asyncio.create_task(self._answer(query, cell), name="airlock-query")
        self._open[query.call_id] = task
        task.add_done_callback(lambda _: self._close(query.call_id, chars, cell))

    def _close(self, call_id: str, chars: int, cell: Waiter | None) -> None:
        del self._open[call_id]
        self._chars -= chars
        if self._chars < MAX_OPEN_CHARS:
            self._room.set()
        if cell is not None:
            cell.call_ended()

    async def _answer(self, query: Query, cell: Waiter | None) -> None:
        """Answer each prompt as its answer comes; answers that are ready together share a frame."""
        ready: list[_Result] = []
        news = asyncio.Event()

        async def answer_one(index: int, prompt: str, data: str | None) -> None:
            ready.append((index, await self._ask(prompt, data, cell)))
            news.set()

        items = zip(query.indexes, query.prompts, query.data, strict=True)
        tasks = [asyncio.create_task(answer_one(*item)) for item in items]
        self._asking.update(tasks)
        try:
            left = len(tasks)
            while left:
                await news.wait()
                news.clear()
                results = ready.copy()
                ready.clear()
                left -= len(results)
                for part in _pack(results):
                    await self._link.send(encode_results(self._comm_id, query.call_id, part))
        except BoxGone:
            pass
        finally:
            self._asking.difference_update(tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, prompt: str, data: str | None, cell: Waiter | None) -> str | SubCallFailure:
        if cell is None:
            return _NO_CELL
        if _stops(cell):
            return _STOPPING
        try:
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


def _cost(query: Query) -> int:
    texts = [*query.prompts, *(data for data in query.data if data)]
    return sum(map(len, texts)) + PROMPT_COST_CHARS * len(query.prompts)


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
