"""The run's REPL: a `sandbox.Sandbox` made from the run's limits. Its errors become ours here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from orchestrator.bound import Bound
from orchestrator.box_errors import our_errors
from orchestrator.boxes import Boxes, BoxTurns
from orchestrator.errors import ContextError, SetupError
from orchestrator.limits import Deadline, Limits
from orchestrator.past import Past, Restored
from orchestrator.pool import SandboxPool
from sandbox.cell import CellResult
from sandbox.children import Children
from sandbox.errors import BoxGone
from sandbox.host import shared_host
from sandbox.sandbox import Sandbox
from sandbox.spec import CellLimits, KernelSettings, SandboxSpec
from sandbox.store import Store
from sandbox.subcalls import QueryHandler
from sandbox.tools import NO_TOOLS, Tools
from sandbox.variables import Variables

SUB_CALL_FUNCTIONS = ("llm_query", "llm_query_batched", "llm_query_as_completed")
CHILD_FUNCTIONS = ("rlm_query", "rlm_query_batched")
REPORT_FUNCTIONS = ("report", "declare_labels")
_PLACE_OF_SYNTAX_ERROR: Final = re.compile(r" \(\d+\.py, line \d+\)$")  # the file is one that the kernel made up


class Repl:
    """A locked REPL with `context` bound. Use `open`, then `run`, and `aclose` at the end.

    Attributes:
        bound: What the host has bound in it.
        deadline: When the run that works in it must end.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        store: Store,
        limits: Limits,
        deadline: Deadline,
        turns: BoxTurns,
        on_box: Callable[[dict[str, Any]], None],
        setup_code: str,
        past: Past,
    ) -> None:
        self._sandbox = sandbox
        self._on_box = on_box
        self.bound = Bound(sandbox, store)
        self._limits = limits
        self.deadline = deadline
        self._turns = turns
        self._setup_code = setup_code
        self._past = past
        self._news: list[str] = []

    @classmethod
    async def open(
        cls,
        context: Any,
        *,
        spec: SandboxSpec,
        limits: Limits,
        deadline: Deadline,
        handler: QueryHandler,
        functions: tuple[str, ...],
        progress: Callable[[str], None],
        turns: BoxTurns | None = None,
        children: Children | None = None,
        budget: Callable[[], dict[str, Any]] = dict,
        on_output: Callable[[str, str], None] = lambda _stream, _text: None,
        on_box: Callable[[dict[str, Any]], None] = lambda _: None,
        more: Mapping[str, Any] | None = None,
        setup_code: str = "",
        modules: Mapping[str, bytes] | None = None,
        tools: Tools = NO_TOOLS,
        past: Past | None = None,
        pool: SandboxPool | None = None,
        waits: bool = True,
    ) -> Repl:
        """Start a box, bind `context`, which is `context_0` too, and run the setup code.

        Args:
            context: A context in its normal form, or one of the store that lives for as long.
            spec: The box.
            limits: The run's limits.
            deadline: The run's end.
            handler: Answers sub-calls.
            functions: What the namespace has beside FINAL and FINAL_VAR: `SUB_CALL_FUNCTIONS`, `REPORT_FUNCTIONS`.
            progress: Is called with a line of text when something takes long.
            turns: When its cells may run; by default always.
            children: Answers `rlm_query`.
            budget: Asked for what `budget()` returns in a cell.
            on_output: Called with what the running cell sends, piece by piece (`KernelSettings`).
            on_box: Is called for each box, the first and every fresh one, with what its audit says: ``isolation``,
                ``runtime``, ``image``, ``held`` and the names of the controls that were ``not_checked``.
            more: More contexts, by the names of their variables.
            setup_code: Runs before the first cell, and again in each fresh box.
            modules: What cells can import (`KernelSettings`).
            tools: Functions outside of the box that cells can call.
            past: What happened in this box in an earlier life of its run, and happens again in a fresh one.
            pool: Where its boxes come from; None starts each anew.
            waits: Whether to wait where the pool has no place for it.

        Raises:
            BoxError: No engine, no image, or the box would not start.
            SetupError: The setup code failed.
            ContextError: The context does not fit the box.
        """
        settings = KernelSettings(
            functions=functions,
            output_chars=limits.max_output_chars,
            prompt_bytes=limits.max_prompt_bytes,
            answer_bytes=limits.max_reply_bytes,
            budget=budget,
            on_output=on_output,
            modules=modules or {},
            tools=tools,
        )
        with our_errors():
            boxes = pool.boxes if pool is not None else None
            host = pool.host if pool is not None else await shared_host(progress)
            image = await host.image_for(spec, progress) if pool is None else None
            sandbox = await Sandbox.start(
                spec,
                engine=host.engine,
                store=host.store,
                image=image,
                settings=settings,
                handler=handler,
                children=children,
                pool=boxes,
                waits=waits,
            )
            past = past or Past(lambda: None, runs_again=False)
            repl = cls(sandbox, host.store, limits, deadline, turns or Boxes.one().turns(), on_box, setup_code, past)
            try:
                repl._tell()
                await repl.bound.bind("context", context, also=("context_0",))
                for name, value in (more or {}).items():
                    await repl.bound.bind(name, value)
                await repl._set_up()
            except BaseException:
                await repl.aclose()
                raise
            return repl

    async def news(self) -> list[str]:
        """What the root is to be told beside its cells' output; contexts that came late are bound now.

        Raises:
            ContextError: One of them does not fit the box.
        """
        news, self._news = self._news, []
        return news + await self.bound.late()

    async def begin_anew(self) -> bool:
        """Get ready for the next question: contexts are bound as they were given, all else stays as it is.

        Returns:
            Whether all variables are gone: the box was lost, or takes its contexts no more, and its cells have not run
            again in a fresh one.

        Raises:
            BoxError: A fresh one would not start.
            ProtocolViolation: It misbehaved since the last question.
        """
        self.bound.drop_late()
        if self.alive and await self._binds_again():
            return False
        with our_errors():
            if self._sandbox.violation is not None:
                raise self._sandbox.violation
        restored = await self.restart()
        return restored is None or not (restored.done and restored.cells)

    async def _binds_again(self) -> bool:
        """Whether contexts could be bound; not where cells have left no memory for them, or keep them from being read:
        then every further question would fail like this one.
        """
        try:
            with our_errors():
                await self._sandbox.reload()
        except ContextError:
            return False
        return True

    async def settle(self) -> None:
        """End what threads of cells have in flight: the run that pays for it is over."""
        await self._sandbox.settle()

    async def variables(self) -> Variables:
        """Which variables cells have made beside what was bound here: the box's word, texts included.

        Raises:
            VariableError: The box has none to tell; it may have ended over it (then `alive` is false).
            ProtocolViolation: It misbehaved and has been killed.
        """
        with our_errors(variable="SHOW_VARS"):
            return (await self._sandbox.variables()).without(self.bound.names)

    async def _set_up(self) -> None:
        """Run the setup code. Past the run's deadline the loop says so."""
        if not self._setup_code:
            return
        result = await self._run(self._setup_code)
        if result.status != "ok" and result.clock != "run":
            raise SetupError(f"setup_code: {_why_failed(result)}")

    async def run(self, code: str) -> CellResult:
        """Run one cell within the run's limits. What the code does is in the result.

        A thread of an earlier cell may have ended the box: then the cell is ``lost`` too, without having run.

        Raises:
            ProtocolViolation: The box misbehaved and has been killed.
        """
        if lost := self._past.lost():
            return lost
        result = await self._run(code)
        self._past.ran(code, result)
        return result

    async def _run(self, code: str) -> CellResult:
        try:
            async with asyncio.timeout(self.deadline.remaining_s) as waiting, self._turns.cell():
                waiting.reschedule(None)
                return await self._execute(code)
        except TimeoutError:
            if not waiting.expired():
                raise
            return CellResult(status="interrupted", clock="run")

    async def _execute(self, code: str) -> CellResult:
        limits = CellLimits(
            wall_s=self._limits.cell_wall_s,
            cpu_s=self._limits.cell_cpu_s,
            wait_s=self._limits.cell_wait_s,
            run_s=self.deadline.remaining_s,
        )
        with our_errors():
            try:
                return await self._sandbox.execute(code, limits)
            except BoxGone:
                return CellResult(status="lost", lost_because="it ended before the cell ran")

    async def restart(self) -> Restored | None:
        """Take a fresh box with what was bound here bound again; all other variables are gone.

        Returns:
            What came of running the earlier cells there, where that was asked for: then their variables may be back.

        Raises:
            BoxError: It would not start.
            SetupError: The setup code failed in it.
        """
        with our_errors():
            await self._sandbox.restart()
        self._tell()
        await self._set_up()
        if others := [f"`{name}`" for name in self.bound.beside_context]:
            self._news.append(f"{', '.join(others)}: there again too.")
        restored = await self._past.restore(self._run)
        if restored is not None and not self.alive:
            await self.restart()
        return restored

    def _tell(self) -> None:
        if self._sandbox.audit is not None:
            self._on_box(self._sandbox.audit.summary())

    async def answer_text(self, name: str) -> str:
        """The value of a variable as answer text.

        Raises:
            VariableError: Undefined, or too large; or the box has ended (then `alive` is false).
            ProtocolViolation: It misbehaved and has been killed.
        """
        with our_errors(variable=name):
            return await self._sandbox.answer_text(name)

    async def json_value(self, name: str) -> Any:
        """The value of a variable as JSON carries it.

        Raises:
            VariableError: Undefined, not JSON, or too large; or the box has ended (then `alive` is false).
            ProtocolViolation: It misbehaved and has been killed.
        """
        with our_errors(variable=name):
            return await self._sandbox.json_value(name)

    async def has_value(self, name: str) -> bool:
        """Whether a variable of this name exists.

        Raises:
            VariableError: The box has ended (then `alive` is false).
            ProtocolViolation: It misbehaved and has been killed.
        """
        with our_errors(variable=name):
            return await self._sandbox.has_value(name)

    @property
    def alive(self) -> bool:
        """Whether the box can run a cell; a value that never ended may have cost it."""
        return self._sandbox.alive

    async def aclose(self) -> None:
        """Remove the box and the stored context."""
        try:
            await self._sandbox.aclose()
        finally:  # also when this is cancelled: no text of the document stays on disk
            self.bound.forget()


def _why_failed(result: CellResult) -> str:
    """In one line, with the box's words escaped."""
    if result.lost_because:
        return result.lost_because
    if result.clock or result.error is None:
        return f"it was stopped by the cell's {result.clock} clock"
    words = f"{result.error.name}: {result.error.message}"[:300].splitlines()[0]
    words = _PLACE_OF_SYNTAX_ERROR.sub("", words)
    line = f" (line {result.error.line})" if result.error.line else ""
    return f"{words.encode('unicode_escape').decode()}{line}"
