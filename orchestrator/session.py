"""`Session`: several questions, one after the other, in one box, on one account."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from orchestrator.asked import Asked, Memory, contexts_said, variables_said
from orchestrator.audience import Listener, checked_ask, checked_listeners
from orchestrator.bound import LateContext
from orchestrator.box_spec import LIFETIME_MARGIN_S
from orchestrator.errors import BoxError, ConfigError, ContextError, ProtocolViolation, VariableError
from orchestrator.ledger import Ledger
from orchestrator.limits import UNLIMITED, Usage
from orchestrator.opened import OpenBox
from orchestrator.recorder import Recorder
from orchestrator.repl import Repl
from orchestrator.result import RunResult, Trajectory
from orchestrator.run import Run
from orchestrator.session_contexts import SessionContexts
from orchestrator.settings import RunSettings
from orchestrator.stream import RunStream
from orchestrator.sync import run_sync
from orchestrator.trace import TraceFile
from orchestrator.tree import Tree
from sandbox.variables import Variables

DEFAULT_LIFETIME_S: Final = 8 * 3600.0
MAX_LIFETIME_S: Final = 24 * 3600.0


class Session:
    """Several questions about the same contexts. `RLM.session` makes one; use it in an ``async with``, or in a plain
    ``with`` for `query` and `add`, which block.

    The box is opened by the first question, and kept: variables stay. Each question is a run of its own, with its own
    result, turns and ``max_turns``; all other limits hold for all questions together. ``max_wall_s`` counts while a
    question is worked on: while nobody asks, no time is used up. The session itself ends after its lifetime.

    At the start of each question contexts are bound as they were given, whatever cells did to them. A box that was lost
    is replaced, and the root told so. A question that fails by a `ProviderError` or is cancelled leaves the session
    usable; its cell, if one was running, takes the box and its variables with it.
    """

    def __init__(
        self,
        settings: RunSettings,
        context: Any,
        more: Sequence[Any],
        *,
        new_trace: Callable[[], TraceFile | None],
        listeners: Sequence[Listener],
        lifetime_s: float,
    ) -> None:
        number = isinstance(lifetime_s, int | float) and not isinstance(lifetime_s, bool)
        if not number or not 1 <= lifetime_s <= MAX_LIFETIME_S:
            raise ConfigError(f"lifetime_s: {lifetime_s!r:.80} is not a number from 1 to {MAX_LIFETIME_S:,.0f}")
        if isinstance(more, str) or not isinstance(more, Sequence):
            raise ConfigError(f"more: of type {type(more).__name__}; give a list of contexts")
        spec = dataclasses.replace(settings.spec, lifetime_s=lifetime_s + LIFETIME_MARGIN_S)
        self._settings = dataclasses.replace(settings, spec=spec)
        self._given = (context, *more)
        self._new_trace = new_trace
        self._listeners = checked_listeners(listeners)
        self._lifetime_s = lifetime_s
        self._contexts = SessionContexts(settings.context_mode, settings.limits.memory_bytes)
        self._memory = Memory()
        self._asks = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Lock()
        self._closed_because: str | None = None
        self._task: asyncio.Task[RunResult] | None = None
        self._box: OpenBox | None = None
        self._trace: TraceFile | None = None
        self._expiry: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Read the contexts. The box is opened by the first question.

        Raises:
            ContextError: One can't be used.
            BoxError: The session was opened before.
        """
        if self._loop is not None:
            raise BoxError("the session was opened already; make a new one")
        self._loop = asyncio.get_running_loop()
        try:
            for context in self._given:
                await self._contexts.take(context)
        except BaseException:  # nobody closes what was not opened: no text of a document stays on disk
            self._contexts.close()
            raise
        self._given = ()
        self._ledger = Ledger(self._settings.limits)
        self._ledger.deadline.pause()
        self._tree = Tree(self._settings, self._contexts.documents, Recorder())
        self._tree.remember(None, self._ledger)
        self._expiry = asyncio.create_task(self._expire(), name="airlock-session-expiry")
        return self

    async def ask(self, question: str, *, listeners: Sequence[Listener] = ()) -> RunResult:
        """Ask one question and await its result. The result's usage is this question's, `usage` is the session's.

        Args:
            question: The question.
            listeners: Called with each `TraceEvent` of this question, beside the session's.

        Raises:
            ConfigError: It is no question, or another one is being worked on.
            ProviderError: The root model failed, also after retries. The session goes on.
            BoxError: The box failed, or the session is closed. A `ProtocolViolation` closes it.
            ContextError: A context does not fit the box. One that was added since the first question is taken out.
        """
        watching = checked_ask(question, listeners)
        self._must_be_open()
        if self._task is not None:
            raise ConfigError("a question of this session is being worked on; await its answer first")
        self._task = asyncio.create_task(self._ask(question, watching), name="airlock-session-question")
        self._ledger.deadline.resume()
        try:
            return await self._task
        except ProtocolViolation:
            await self._close("its box broke the protocol")
            raise
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._closed_because and current is not None and not current.cancelling():
                async with self._closing:  # nothing of the session is left when this is told
                    pass
                raise BoxError(f"the session was closed: {self._closed_because}") from None
            raise
        finally:
            self._ledger.deadline.pause()
            self._task = None

    def stream(self, question: str, *, listeners: Sequence[Listener] = ()) -> RunStream:
        """Ask, and read what happens while it does, as with `RLM.stream`. Whoever stops reading ends the question.

        Args:
            question: The question.
            listeners: As for `ask`.
        """
        return RunStream(lambda reader: self.ask(question, listeners=[*listeners, reader]))

    async def _ask(self, question: str, listeners: Sequence[Listener]) -> RunResult:
        self._asks += 1
        self._trace = self._trace or self._new_trace()
        told: list[Listener] = [*self._listeners, *listeners, *filter(None, (self._trace,))]
        self._tree.recorder = Recorder(told, ask=self._asks, output_chars=self._settings.limits.max_output_chars)
        result = await Run(
            self._settings,
            question,
            self._contexts.first.value,
            self._contexts.documents,
            self._tree.recorder,
            tree=self._tree,
            ledger=Ledger(self._settings.limits, self._ledger, below=False),
        ).run_in(self)
        self._memory.add(Asked(question=question, answer=result.answer))
        return result

    @contextlib.asynccontextmanager
    async def box_for(self, run: Run) -> AsyncIterator[OpenBox]:
        """The session's box, ready for one question. `Run` asks for it."""
        lost = fresh = self._box is None
        if self._box is None:
            others = self._contexts.others
            self._box = await OpenBox.open(run, {one.name: one.value for one in others})
            self._tree.boxes.live += 1
            for one in others:
                one.bound = True
        with self._box.used_by(run):
            repl = self._box.repl
            repl.deadline = run.ledger.deadline
            lost = not fresh and await repl.begin_anew()
            await self._bind_added(repl)
            await repl.bound.bind("history", self._memory.entries)
            run.before = await self._told(repl, fresh=fresh, lost=lost)
            try:
                yield self._box
            finally:  # a thread of a cell may wait for a child run, which would work, and spend, after the answer
                await repl.settle()

    async def _bind_added(self, repl: Repl) -> None:
        for one in self._contexts.others:
            if not one.bound:
                try:
                    await repl.bound.bind(one.name, one.value)
                except ContextError as error:
                    self._contexts.drop(one)
                    raise ContextError(f"{one.name}: {error}; it was taken out of the session") from error
                one.bound = True

    async def _told(self, repl: Repl, *, fresh: bool, lost: bool) -> str:
        """What the root is told of the session, beside `context` and its question."""
        typed = self._settings.observe == "typed"
        variables = Variables()
        if not (fresh or lost or typed):
            try:
                variables = await repl.variables()
            except VariableError:
                lost = await repl.begin_anew()
        await repl.news()  # all of it is said here
        others = contexts_said([(one.name, one.info) for one in self._contexts.others])
        parts = (others, self._memory.said(typed=typed), variables_said(variables, lost=lost))
        return "\n\n".join(part for part in parts if part)

    async def add_context(self, context: Any, name: str | None = None) -> str:
        """Add a context; also while a question is worked on: then its root is told behind the cells of that turn.

        Args:
            context: As for `RLM.query`.
            name: The variable's name; by default ``context_1``, ``context_2``, ...

        Returns:
            The variable's name.

        Raises:
            ConfigError: The name can't be used, or there are 100 contexts already.
            ContextError: The context can't be used.
            BoxError: The session is closed.
        """
        self._must_be_open()
        one = await self._contexts.take(context, name)
        if self._closed_because is not None:  # meanwhile
            self._contexts.drop(one)
            self._must_be_open()
        self._tree.policies.document_bytes += sum(document.size_bytes for document in one.documents)

        def settled(fits: bool) -> None:
            one.bound = fits
            if not fits:
                self._contexts.drop(one)

        if self._task is not None and self._box is not None:
            late = LateContext(name=one.name, value=one.value, info=one.info, settled=settled)
            self._box.repl.bound.bind_late(late)
        return one.name

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the contexts' variables, the first one's, ``context``, first."""
        return self._contexts.names

    @property
    def history(self) -> list[dict[str, str | None]]:
        """The questions that came to an end, with their answers, as `history` has them in the kernel: the last 100, and
        at most 8 MiB of them.
        """
        return self._memory.entries

    @property
    def usage(self) -> Usage:
        """What all questions together have spent; `turns` are not counted over questions."""
        limits = self._settings.limits
        used_s = 0.0 if limits.max_wall_s == UNLIMITED else limits.max_wall_s - self._ledger.deadline.remaining_s
        return self._ledger.usage(turns=0, wall_s=used_s)

    def _must_be_open(self) -> None:
        if self._loop is None:
            raise BoxError("the session is not open: use it in an `async with` block, or in a `with` block")
        if self._closed_because is not None:
            raise BoxError(f"the session is closed: {self._closed_because}")
        if asyncio.get_running_loop() is not self._loop:
            raise BoxError(
                "the session was opened on another event loop: in an `async with` block await `ask` and `add_context`, "
                "in a `with` block call `query` and `add`"
            )

    async def _expire(self) -> None:
        await asyncio.sleep(self._lifetime_s)
        self._expiry = None
        await self._close(f"it lasted {self._lifetime_s:,g} s, its lifetime")

    async def aclose(self) -> None:
        """End the session: a question in work is ended, the box removed, the trace closed. Safe to call twice."""
        await self._close("it has ended")

    async def _close(self, because: str) -> None:
        self._closed_because = self._closed_because or because
        async with self._closing:
            expiry, self._expiry = self._expiry, None
            if expiry is not None:
                expiry.cancel()
            try:
                if self._task is not None and not self._task.done():
                    self._task.cancel()
                    await asyncio.wait({self._task})
            finally:
                box, self._box = self._box, None
                try:
                    if box is not None:
                        await box.aclose()
                finally:
                    self._contexts.close()
                    if self._trace is not None:
                        self._trace.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def query(self, query: str, verbose: bool = False) -> tuple[str | None, Trajectory]:
        """`ask`, and wait. Ctrl-C ends the question, not the session.

        Args:
            query: The question.
            verbose: Print what happens to stderr.

        Returns:
            As `RLM.query`.

        Raises:
            As `ask`.
        """
        listeners: list[Listener] = []
        if verbose:
            from orchestrator.progress import ProgressPrinter

            listeners.append(ProgressPrinter(sys.stderr))
        result = run_sync(self.ask(query, listeners=listeners))
        return result.answer, Trajectory(result)

    def add(self, context: Any, name: str | None = None) -> str:
        """`add_context`, and wait."""
        return run_sync(self.add_context(context, name))

    def close(self) -> None:
        """`aclose`, and wait."""
        run_sync(self.aclose())

    def __enter__(self) -> Self:
        return run_sync(self.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
