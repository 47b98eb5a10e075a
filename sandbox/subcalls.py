"""The sub-calls of one box: opened by its messages, answered by the host's handler, bounded in number and size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sandbox.children import ChildCalls
from sandbox.encoding import encode_results
from sandbox.errors import BoxGone, ProtocolViolation
from sandbox.link import Link
from sandbox.messages import Asked, AskedTool, Query, SubCallFailure
from sandbox.pace import Pace
from sandbox.tools import NO_TOOLS, Tools

QueryHandler = Callable[[Asked], Awaitable[str | SubCallFailure]]
"""Answers one sub-call of a cell: returns a text, or why there is none."""

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

_Answer = str | SubCallFailure

_log = logging.getLogger(__name__)


class Waiter(Protocol):
    """The open cell: its wall clock stands while a sub-call is in flight."""

    @property
    def stopping(self) -> bool: ...

    def call_started(self) -> None: ...

    def call_ended(self) -> None: ...


@dataclass(slots=True)
class _OpenQuery:
    """A query some of whose prompts have not been answered yet."""

    call_id: str
    left: int
    size_bytes: int
    cell: Waiter | None
    child: bool


async def no_run(_: Asked) -> SubCallFailure:
    """Answers a box that is of no run."""
    return SubCallFailure("LimitExceeded", "this box belongs to no run")


class SubCalls:
    """Answers the prompts of one box, each in a task of its own, and sends together what is ready together."""

    def __init__(
        self,
        link: Link,
        comm_id: str,
        handler: QueryHandler,
        pace: Pace,
        children: ChildCalls | None = None,
        budget: Callable[[], Mapping[str, Any]] = dict,
        tools: Tools = NO_TOOLS,
    ) -> None:
        self._link = link
        self._comm_id = comm_id
        self._handler = handler
        self._children = children
        self._pace = pace
        self._budget = budget
        self._tools = tools
        self._open: dict[str, _OpenQuery] = {}
        self._asking: set[asyncio.Task[_Answer]] = set()
        self._ready: list[tuple[_OpenQuery, int, _Answer]] = []
        self._sending: asyncio.Task[None] | None = None
        self._opening = self._closed = False
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

    async def open(self, query: Query, cell: Waiter | None) -> None:
        """Start to answer a query, at the box's pace.

        Raises:
            ProtocolViolation: Its id is in flight already, or the cell has asked too much.
        """
        self._asked += len(query.asked)
        if query.call_id in self._open:
            raise ProtocolViolation("a query id used twice")
        if self._asked > MAX_PROMPTS_PER_CELL or self._refused_bytes > MAX_REFUSED_BYTES_PER_CELL:
            raise ProtocolViolation(
                f"a flood: {self._asked:,} prompts in one cell, {self._refused_bytes:,} bytes refused"
            )
        size = sum(map(_cost, query.asked))
        self._bytes += size
        if self._bytes >= MAX_OPEN_BYTES:
            self._room.clear()
        if cell is not None:
            cell.call_started()
        opened = self._open[query.call_id] = _OpenQuery(query.call_id, len(query.asked), size, cell, query.child)
        self._opening = True
        for index, asked in zip(query.indexes, query.asked, strict=True):
            self._start(opened, index, asked)
            await self._pace.rest()
        self._opening = False
        self._send_ready()

    def _start(self, query: _OpenQuery, index: int, asked: Asked | AskedTool) -> None:
        task = asyncio.create_task(self._pace.counted(self._ask, query, asked), name="airlock-query")
        self._asking.add(task)
        cost = _cost(asked)
        task.add_done_callback(lambda done: self._on_answer(query, index, cost, done))

    def _on_answer(self, query: _OpenQuery, index: int, cost: int, done: asyncio.Task[_Answer]) -> None:
        self._asking.discard(done)
        if self._closed:
            return
        answer = _STOPPING if done.cancelled() else done.result()
        if isinstance(answer, SubCallFailure) and not (query.cell and query.cell.stopping):
            self._refused_bytes += cost
        self._ready.append((query, index, answer))
        self._count_unsent(_size(answer))
        self._send_ready()

    def _send_ready(self) -> None:
        """While a query is being opened, answers wait: a batch's would else go out one by one."""
        idle = self._sending is None or self._sending.done()
        if self._ready and idle and not self._opening:
            self._sending = asyncio.create_task(self._pace.counted(self._send), name="airlock-query")

    async def _send(self) -> None:
        """Send what is ready, and what becomes ready meanwhile: one write for all, which is what costs most."""
        while self._ready and not self._opening:
            part = _first_part(self._ready)
            del self._ready[: len(part)]
            with contextlib.suppress(BoxGone):
                await self._link.send(self._frames(part))
            for query, _, answer in part:
                self._count_unsent(-_size(answer))
                self._count_answered(query)

    def _frames(self, part: list[tuple[_OpenQuery, int, _Answer]]) -> bytes:
        by_query: dict[str, list[tuple[int, _Answer]]] = {}
        for query, index, answer in part:
            by_query.setdefault(query.call_id, []).append((index, answer))
        told = {"budget": self._budget()}
        return b"".join(encode_results(self._comm_id, call_id, answers, told) for call_id, answers in by_query.items())

    def _count_answered(self, query: _OpenQuery) -> None:
        query.left -= 1
        if not query.left:
            self._close(query)

    def _close(self, query: _OpenQuery) -> None:
        del self._open[query.call_id]
        self._bytes -= query.size_bytes
        if self._bytes < MAX_OPEN_BYTES:
            self._room.set()
        if query.cell is not None:
            query.cell.call_ended()

    def _count_unsent(self, more: int) -> None:
        self._unsent_bytes += more
        if self._unsent_bytes < MAX_UNSENT_BYTES:
            self._taken.set()
        else:
            self._taken.clear()

    async def _ask(self, query: _OpenQuery, asked: Asked | AskedTool) -> _Answer:
        if query.cell is None:
            return _NO_CELL
        if query.cell.stopping:
            return _STOPPING
        try:
            while not self._taken.is_set():  # and again: all who wait are woken at once
                await self._taken.wait()
            if self._link.closed:
                return _STOPPING
            if isinstance(asked, AskedTool):
                return await self._tools.handler(asked.name, asked.raw)
            if not query.child:
                return await self._handler(asked)
            return await self._children.ask(asked.prompt, asked.data) if self._children else _NO_CHILDREN
        except Exception:  # noqa: BLE001 - whatever it is, the operator reads it, and the cell does not
            _log.exception("the handler of sub-calls failed")
            return SubCallFailure("SubCallError", "the host failed to answer")

    def stop(self) -> None:
        """Answer all that is in flight with a failure: the open cell, which says `stopping`, is to give way.

        Its threads would else hold it, and prompts that fill the host's room would hide its end.
        """
        for task in self._asking:
            task.cancel()

    async def settle(self) -> None:
        """`stop`, and wait until all have given way: nothing that threads of a cell have asked outlives this."""
        self.stop()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def aclose(self) -> None:
        """Cancel what is in flight and wait for its end."""
        self._closed = True
        tasks = [*self._asking, *([self._sending] if self._sending else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for query in list(self._open.values()):
            self._close(query)


_NO_CELL: Final = SubCallFailure("NoCellRunning", "no cell is running: a thread outlived the cell that started it")
_NO_CHILDREN: Final = SubCallFailure("LimitExceeded", "this run has no child runs")
_STOPPING: Final = SubCallFailure("LimitExceeded", "the cell's time is over")


def _cost(asked: Asked | AskedTool) -> int:
    if isinstance(asked, AskedTool):
        return PROMPT_COST_BYTES + sys.getsizeof(asked.raw)
    return PROMPT_COST_BYTES + sys.getsizeof(asked.prompt) + sys.getsizeof(asked.data)


def _size(answer: _Answer) -> int:
    return sys.getsizeof(answer if isinstance(answer, str) else answer.message)


def _first_part(ready: list[tuple[_OpenQuery, int, _Answer]]) -> list[tuple[_OpenQuery, int, _Answer]]:
    """As many of the answers as fit one message; at least one."""
    chars = 0
    for count, (_, _, answer) in enumerate(ready):
        chars += len(answer) if isinstance(answer, str) else 0
        if count and chars > MAX_ANSWER_CHARS:
            return ready[:count]
    return ready.copy()
