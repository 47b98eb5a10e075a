"""What a question is worked on in: a box, opened for one question or kept for the questions of a session.

A run is: open a box, work in it, close it. A session opens one box, and each of its questions is a run in it. What
cells ask for (sub-calls, child runs, the budget) belongs to whichever run works in the box at that moment; between two
there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

from orchestrator.past import Past
from orchestrator.repl import Repl
from sandbox.children import Children
from sandbox.messages import SubCallFailure
from sandbox.tools import Tools

if TYPE_CHECKING:
    from orchestrator.boxes import BoxTurns
    from orchestrator.memory import RunMemory
    from orchestrator.run import Run
    from sandbox.store import StoredContext

_NO_RUN: Final = SubCallFailure("LimitExceeded", "no question is being worked on")


class Place(Protocol):
    """Where a run works."""

    def box_for(self, run: Run) -> AbstractAsyncContextManager[OpenBox]:
        """The box, open and given to this run for as long as the body lasts."""


class OpenBox:
    """An open box, and the run that works in it.

    Attributes:
        repl: The REPL in it.
        turns: When its cells may run.
    """

    repl: Repl

    def __init__(self, turns: BoxTurns) -> None:
        self.turns = turns
        self._run: Run | None = None

    @classmethod
    async def open(cls, run: Run, more: Mapping[str, Any] | None = None) -> OpenBox:
        """Open a box that a run will work in, or several, one after the other.

        Args:
            run: The first.
            more: Contexts beside the run's, by the names of their variables.

        Raises:
            BoxError: No engine, no image, or the box would not start; or the setup code failed.
            ContextError: The context does not fit the box.
        """
        box = cls(run.tree.boxes.turns())
        settings, loop = run.settings, asyncio.get_running_loop()

        def say(line: str) -> None:  # from a thread, which outlives a cancelled run; listeners are called on the loop
            loop.call_soon_threadsafe(box._doing, line)

        with box.used_by(run):
            box.repl = await Repl.open(
                run.context,
                spec=settings.spec,
                limits=settings.limits,
                deadline=run.ledger.deadline,
                handler=box._query,
                functions=run.functions,
                progress=say,
                turns=box.turns,
                children=box._children(run),
                budget=box._budget,
                on_output=box._output,
                on_box=box._opened,
                more=more,
                setup_code=settings.setup_code,
                modules=settings.modules,
                tools=Tools(specs=run.tree.tools.specs, handler=box._tool),
                past=Past(box._memory, runs_again=settings.on_kill == "replay"),
                pool=settings.pool,
                waits=not run.is_child,
            )
        return box

    @contextlib.contextmanager
    def used_by(self, run: Run) -> Iterator[None]:
        """While the body lasts, what the box's cells ask for is this run's."""
        before, self._run = self._run, run
        try:
            yield
        finally:
            self._run = before

    def _children(self, run: Run) -> Children | None:
        if run.at_depth_limit is None:
            return None
        return Children(handler=self._child, quota=run.tree.quota, mode=run.at_depth_limit)

    async def _query(self, *asked: Any) -> str | SubCallFailure:
        return _NO_RUN if self._run is None else await self._run.gate.handle(*asked)

    async def _child(self, question: str, context: StoredContext | None) -> str | SubCallFailure:
        return _NO_RUN if self._run is None else await self._run.children_in(self).handle(question, context)

    async def _tool(self, name: str, raw: bytes) -> str | SubCallFailure:
        return _NO_RUN if self._run is None else await self._run.tool_calls.handle(name, raw)

    def _memory(self) -> RunMemory | None:
        return None if self._run is None else self._run.gate.memory

    def _budget(self) -> dict[str, Any]:
        if self._run is None:
            return {}
        return self._run.gate.cell_budget() | self._run.tool_calls.budget()

    def _opened(self, facts: dict[str, Any]) -> None:
        if self._run is not None:
            self._run.box_opened(facts)

    def _output(self, stream: str, text: str) -> None:
        if self._run is not None:
            self._run.recorder.output(stream, text)

    def _doing(self, line: str) -> None:
        if self._run is not None:
            self._run.doing(line)

    async def aclose(self) -> None:
        """Remove the box."""
        await self.repl.aclose()


class OwnBox:
    """A box for one run alone."""

    @contextlib.asynccontextmanager
    async def box_for(self, run: Run) -> AsyncIterator[OpenBox]:
        """Open it for the run, and remove it behind the run."""
        box = await OpenBox.open(run)
        try:
            with box.used_by(run):
                yield box
        finally:
            await box.aclose()
