"""Calls of tools by cells: counted, bounded, made, and recorded. What a tool is, is in `orchestrator.tools`.

Like a sub-call, a tool's call arrives as nothing but a name of the list and bytes. Which run it belongs to, and what is
left of that run's limits, the host knows by itself, and every failure goes back into the cell as a typed exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import LimitExceeded
from orchestrator.ledger import Ledger
from orchestrator.recorder import Recorder
from orchestrator.tool_record import ToolCall
from orchestrator.tools import BadArguments, Tool, ToolFailed
from sandbox.messages import SubCallFailure
from sandbox.protocol import decode_text
from sandbox.tools import ToolSpec

if TYPE_CHECKING:
    from orchestrator.memory import RunMemory

MAX_WORDS_CHARS: Final = 2_000
"""Of what a tool says to the model with `ToolFailed`."""
GRACE_S: Final = 1.0
"""A call that is given up may take so long to end before its place counts as lost."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Broke:
    """A call that came to nothing: what the cell is told, and what the caller's record says."""

    told: str
    error: str


_Outcome = str | _Broke


class ToolAtWork:
    """One tool in one recursion tree: how often it was called, and how many calls are running.

    A plain function can't be stopped, so a call that is given up keeps its place until it really returns: there are
    never more threads of a tool than places.
    """

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self._calls = 0
        self._busy = 0
        self._overdue = 0
        self._news = asyncio.Event()

    def check(self) -> None:
        """Whether one more call is allowed.

        Raises:
            LimitExceeded: It is not.
        """
        if self._calls >= self.tool.max_calls:
            used = f"{self._calls:,} of {self.tool.max_calls:,.0f}"
            raise LimitExceeded(f"{self.tool.name}: {used} calls used", limit="max_calls")

    def count(self) -> None:
        """One call more."""
        self._calls += 1

    async def take_place(self) -> None:
        """Wait for one; `begin` or `give_back` must follow.

        Raises:
            ToolFailed: All are held by calls that ran out of time and have not returned.
        """
        while self._busy >= self.tool.concurrency:
            if self._overdue >= self.tool.concurrency:
                raise ToolFailed(f"it is still busy with calls that ran out of time ({self._overdue})")
            self._news.clear()
            await self._news.wait()
        self._busy += 1

    def give_back(self) -> None:
        """A place is free again."""
        self._busy -= 1
        self._news.set()

    def begin(self, arguments: dict[str, Any]) -> asyncio.Future[_Outcome]:
        """Call the function. The place is given back when it has really ended."""
        self.count()
        try:
            work = _started(self.tool, arguments)
        except BaseException:  # no thread is to be had
            self.give_back()
            raise
        work.add_done_callback(lambda _: self.give_back())
        return work

    def give_up(self, work: asyncio.Future[_Outcome]) -> None:
        """Nobody waits for this call any more."""
        if isinstance(work, asyncio.Task):
            work.cancel()
        asyncio.get_running_loop().call_later(GRACE_S, self._count_overdue, work)

    def _count_overdue(self, work: asyncio.Future[_Outcome]) -> None:
        if not work.done():
            self._overdue += 1
            work.add_done_callback(self._has_returned)
            self._news.set()

    def _has_returned(self, _: asyncio.Future[_Outcome]) -> None:
        self._overdue -= 1


class Toolbox:
    """The tools of a recursion tree."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._at_work = {tool.name: ToolAtWork(tool) for tool in tools}

    def __getitem__(self, name: str) -> ToolAtWork:
        return self._at_work[name]

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What a kernel is told of them."""
        return tuple(work.tool.spec for work in self._at_work.values())


class ToolCalls:
    """Answers the tool calls of one run's cells.

    Args:
        toolbox: The tree's tools.
        ledger: The run's account.
        recorder: Is told of each call.
        depth: The run's.
        memory: What the run has been answered before; such a call is not made again.
    """

    def __init__(
        self,
        *,
        toolbox: Toolbox,
        ledger: Ledger,
        recorder: Recorder,
        depth: int,
        memory: RunMemory | None = None,
    ) -> None:
        self._toolbox = toolbox
        self._ledger = ledger
        self._recorder = recorder
        self._depth = depth
        self._memory = memory

    def budget(self) -> dict[str, Any]:
        """What `budget()` says of them in a cell; nothing where there are none. None is unlimited."""
        if not self._toolbox.specs:
            return {}
        left = self._ledger.tool_calls_left
        return {"tool_calls": left if math.isfinite(left) else None}

    async def handle(self, name: str, raw: bytes) -> str | SubCallFailure:
        """Answer one. Raises nothing but cancellation: the cell gets every failure as a value.

        Args:
            name: Of a tool in the toolbox; `sandbox.protocol` takes no other.
            raw: Its arguments, JSON that nobody has looked at.
        """
        memory = self._memory
        if memory is None:
            return await self._make(name, raw)
        question = memory.question(raw.decode("latin-1"), to=f"the tool {name}")
        known = await memory.recall(question)
        if known is None or known.outcome is None:
            outcome = await self._make(name, raw)
            memory.replied(question, outcome)
            return outcome
        if not memory.is_again:
            self._given_again(name, raw, known.outcome)
        return known.outcome

    def _given_again(self, name: str, raw: bytes, outcome: str | SubCallFailure) -> None:
        """A call of an earlier life of this run: counted and recorded as it was then, and not made."""
        call = ToolCall(tool=name, arguments=decode_text(raw), argument_bytes=len(raw), depth=self._depth)
        if isinstance(outcome, str):
            call.result = outcome
        else:
            call.failed(outcome.kind, outcome.message)
        call.called = call.error_kind in (None, "ToolError")
        if call.called:
            self._ledger.add_tool_call()
            self._toolbox[name].count()
        else:
            self._ledger.refuse()
        self._recorder.tool_call(call, self._ledger.left() | self.budget())

    async def _make(self, name: str, raw: bytes) -> str | SubCallFailure:
        call = ToolCall(tool=name, argument_bytes=len(raw), depth=self._depth)
        started = time.monotonic()
        try:
            outcome = await self._answer(self._toolbox[name], raw, call)
        except asyncio.CancelledError:
            call.failed("Cancelled", "the run did not wait for its result")
            raise
        finally:
            call.wall_s = time.monotonic() - started
            call.arguments = decode_text(raw)  # not before: calls that wait may be many
            if not call.called:
                self._ledger.refuse()
            self._recorder.tool_call(call, self._ledger.left() | self.budget())
        return outcome

    async def _answer(self, work: ToolAtWork, raw: bytes, call: ToolCall) -> str | SubCallFailure:
        try:
            outcome = await self._called(work, raw, call)
        except LimitExceeded as error:
            return _failed(call, "LimitExceeded", str(error))
        except BadArguments as error:
            return _failed(call, "ToolArgumentError", str(error))
        except ToolFailed as error:
            return _failed(call, "ToolError", f"{call.tool}: {error}")
        if isinstance(outcome, _Broke):
            return _failed(call, "ToolError", f"{call.tool}: {outcome.told}", outcome.error)
        call.result = outcome
        return outcome

    async def _called(self, work: ToolAtWork, raw: bytes, call: ToolCall) -> _Outcome:
        """Arguments are looked at when a place is free: so many of them may be large at once, and no more."""
        self._check(work)
        await work.take_place()
        try:
            arguments = work.tool.arguments(raw)
            self._check(work)  # again: others were counted meanwhile
        except BaseException:
            work.give_back()
            raise
        self._ledger.add_tool_call()
        call.called = True
        return await self._awaited(work, work.begin(arguments))

    def _check(self, work: ToolAtWork) -> None:
        work.check()
        self._ledger.check_tool_call()

    async def _awaited(self, work: ToolAtWork, made: asyncio.Future[_Outcome]) -> _Outcome:
        timeout_s = min(work.tool.timeout_s, self._ledger.deadline.remaining_s)
        try:
            await asyncio.wait({made}, timeout=timeout_s)
        finally:
            if not made.done():
                work.give_up(made)
        if not made.done():
            raise ToolFailed(f"no result within {timeout_s:,.3g} s")
        return _Broke("cancelled", "CancelledError") if made.cancelled() else made.result()


def _failed(call: ToolCall, kind: str, told: str, error: str | None = None) -> SubCallFailure:
    call.failed(kind, told if error is None else error)
    return SubCallFailure(kind, told)


def _started(tool: Tool, arguments: dict[str, Any]) -> asyncio.Future[_Outcome]:
    call = functools.partial(tool.function, **arguments)
    return asyncio.create_task(_of_async(tool, call), name="airlock-tool") if tool.is_async else _in_thread(tool, call)


async def _of_async(tool: Tool, call: Callable[[], Awaitable[Any]]) -> _Outcome:
    try:
        return tool.result_json(await call())
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - a SystemExit too, which would end the event loop
        return _broke(tool, error)


def _in_thread(tool: Tool, call: Callable[[], Any]) -> asyncio.Future[_Outcome]:
    """A daemon thread, which does not hold the process at its end. The future is done when the function is."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Outcome] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome: _Outcome = tool.result_json(context.run(call))
        except BaseException as error:  # noqa: BLE001 - a SystemExit too
            outcome = _broke(tool, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(done.set_result, outcome)

    threading.Thread(target=run, name=f"airlock-tool-{tool.name}", daemon=True).start()
    return done


def _broke(tool: Tool, error: BaseException) -> _Broke:
    """The cell gets the exception's type alone: its text may hold paths and addresses. `ToolFailed` is for the cell."""
    words = _words(error)
    if isinstance(error, ToolFailed):
        return _Broke(words, words)
    kind = type(error).__name__
    _log.warning("the tool %s failed: %s", tool.name, kind)
    return _Broke(f"it failed: {kind}", f"{kind}: {words}")


def _words(error: BaseException) -> str:
    try:
        return str(error)[:MAX_WORDS_CHARS]
    except Exception:  # noqa: BLE001 - an exception whose own text fails
        return ""
