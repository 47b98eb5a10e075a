"""The run's REPL: a `sandbox.Sandbox` made from the run's limits. The one seam where `SandboxError` becomes ours."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from orchestrator.boxes import Boxes, BoxTurns
from orchestrator.errors import BoxError, ConfigError, ContextError, ProtocolViolation, VariableError
from orchestrator.limits import Deadline, Limits
from sandbox.cell import CellResult
from sandbox.children import Children
from sandbox.errors import BoxGone, ContextLoadError, SandboxError, SpecError, ValueUnavailable
from sandbox.errors import ProtocolViolation as SandboxProtocolViolation
from sandbox.host import Host, shared_host
from sandbox.sandbox import Sandbox
from sandbox.spec import CellLimits, KernelSettings, SandboxSpec
from sandbox.store import Store, StoredContext
from sandbox.subcalls import QueryHandler
from sandbox.threads import made_in_thread

SUB_CALL_FUNCTIONS = ("llm_query", "llm_query_batched")
CHILD_FUNCTIONS = ("rlm_query", "rlm_query_batched")
REPORT_FUNCTIONS = ("report", "declare_labels")
LIFETIME_MARGIN_S = 120
"""A box's expiry lies so far behind its run's deadline."""


class Repl:
    """A locked REPL with `context` bound. Use `open`, then `run`, and `aclose` at the end."""

    def __init__(
        self,
        sandbox: Sandbox,
        host: Host,
        stored: StoredContext,
        limits: Limits,
        deadline: Deadline,
        turns: BoxTurns,
        on_box: Callable[[dict[str, Any]], None],
    ) -> None:
        self._sandbox = sandbox
        self._on_box = on_box
        self._host = host
        self._stored = stored
        self._limits = limits
        self._deadline = deadline
        self._turns = turns

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
        on_box: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> Repl:
        """Start a box and bind `context`.

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
            on_box: Is called for each box, the first and every fresh one, with what its audit says: ``isolation``,
                ``runtime``, ``image``, ``held`` and the names of the controls that were ``not_checked``.

        Raises:
            BoxError: No engine, no image, or the box would not start.
            ContextError: The context does not fit the box.
        """
        settings = KernelSettings(
            functions=functions,
            output_chars=limits.max_output_chars,
            prompt_bytes=limits.max_prompt_bytes,
            answer_bytes=limits.max_reply_bytes,
            budget=budget,
        )
        with _our_errors():
            host = await shared_host(progress)
            image = await host.image_for(spec, progress)
            stored = await _stored(host.store, context)
            try:
                sandbox = await Sandbox.start(
                    spec,
                    engine=host.engine,
                    store=host.store,
                    image=image,
                    settings=settings,
                    handler=handler,
                    children=children,
                )
            except BaseException:
                host.store.forget(stored)
                raise
            repl = cls(sandbox, host, stored, limits, deadline, turns or Boxes.one().turns(), on_box)
            try:
                repl._tell()
                await sandbox.load("context", stored)
            except BaseException:
                await repl.aclose()
                raise
            return repl

    async def run(self, code: str) -> CellResult:
        """Run one cell within the run's limits. What the code does is in the result.

        A thread of an earlier cell may have ended the box: then the cell is ``lost`` too, without having run.

        Raises:
            ProtocolViolation: The box misbehaved and has been killed.
        """
        try:
            async with asyncio.timeout(self._deadline.remaining_s) as waiting, self._turns.cell():
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
            run_s=self._deadline.remaining_s,
        )
        with _our_errors():
            try:
                return await self._sandbox.execute(code, limits)
            except BoxGone:
                return CellResult(status="lost", lost_because="it ended before the cell ran")

    async def restart(self) -> None:
        """Take a fresh box with `context` bound; all other variables are gone.

        Raises:
            BoxError: It would not start.
        """
        with _our_errors():
            await self._sandbox.restart()
        self._tell()

    def _tell(self) -> None:
        if self._sandbox.audit is not None:
            self._on_box(self._sandbox.audit.summary())

    async def answer_text(self, name: str) -> str:
        """The value of a variable as answer text.

        Raises:
            VariableError: Undefined, or too large; or the box has ended (then `alive` is false).
            ProtocolViolation: It misbehaved and has been killed.
        """
        with _our_errors(variable=name):
            return await self._sandbox.answer_text(name)

    async def json_value(self, name: str) -> Any:
        """The value of a variable as JSON carries it.

        Raises:
            VariableError: Undefined, not JSON, or too large; or the box has ended (then `alive` is false).
            ProtocolViolation: It misbehaved and has been killed.
        """
        with _our_errors(variable=name):
            return await self._sandbox.json_value(name)

    async def has_value(self, name: str) -> bool:
        """Whether a variable of this name exists.

        Raises:
            VariableError: The box has ended (then `alive` is false).
            ProtocolViolation: It misbehaved and has been killed.
        """
        with _our_errors(variable=name):
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
            self._host.store.forget(self._stored)


async def _stored(store: Store, context: Any) -> StoredContext:
    if isinstance(context, StoredContext):
        store.keep(context)
        return context
    return await made_in_thread(partial(store.put, context), store.forget)


@contextlib.contextmanager
def _our_errors(variable: str = "") -> Iterator[None]:
    try:
        yield
    except SandboxProtocolViolation as error:
        raise ProtocolViolation(f"the box broke the protocol and was killed: {error}") from error
    except ContextLoadError as error:
        raise ContextError(str(error)) from error
    except ValueUnavailable as error:
        raise VariableError(
            f"variable {variable!r}: {error}",
            name=variable,
            undefined=error.undefined,
            size_bytes=error.size_bytes,
        ) from error
    except SandboxError as error:
        if variable and isinstance(error, BoxGone):
            raise VariableError(f"variable {variable!r}: {error}", name=variable) from error
        raise BoxError(str(error)) from error


def spec_for(spec: SandboxSpec | None, limits: Limits) -> SandboxSpec:
    """The box of a run: the caller's spec with the memory and lifetime that the limits say.

    Raises:
        ConfigError: The spec and the limits disagree about memory.
    """
    default = SandboxSpec()
    spec = spec or default
    if spec.memory_bytes not in (default.memory_bytes, limits.memory_bytes):
        raise ConfigError(
            f"sandbox.memory_bytes: {spec.memory_bytes:,} differs from Limits.memory_bytes: "
            f"{limits.memory_bytes:,}; set Limits.memory_bytes alone"
        )
    lifetime_s = min(limits.max_wall_s + LIFETIME_MARGIN_S, 24 * 3600)
    try:
        return dataclasses.replace(spec, memory_bytes=limits.memory_bytes, lifetime_s=lifetime_s)
    except SpecError as error:
        raise ConfigError(str(error)) from error
