"""`RLM`: ask a question about a context of any length, answered from inside a locked container."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from orchestrator.audience import checked_ask
from orchestrator.box_spec import spec_for
from orchestrator.context import Context
from orchestrator.errors import ConfigError
from orchestrator.intake import ContextMode, checked_mode, stored, taken_in
from orchestrator.journal import Journal
from orchestrator.limits import Limits, merge_limits
from orchestrator.models import checked_fallback, checked_sub_llms, model_facts
from orchestrator.modules import Modules, checked_setup, read_modules
from orchestrator.policies.base import Policy
from orchestrator.policies.chain import checked_policies
from orchestrator.pool import SandboxPool, checked_pool
from orchestrator.prompts import Observe, PromptMode
from orchestrator.providers.base import LLMInterface, Provider
from orchestrator.providers.custom import as_provider
from orchestrator.providers.prices import Price, checked_prices
from orchestrator.providers.windows import check_windows
from orchestrator.recorder import Listener, Recorder
from orchestrator.reply_cache import ReplyCache, checked_cache
from orchestrator.result import Document, RunResult, Trajectory
from orchestrator.resuming import open_again
from orchestrator.run import Run
from orchestrator.schema import OutputSchema
from orchestrator.session import DEFAULT_LIFETIME_S, Session
from orchestrator.settings import OnDepthLimit, OnKill, RunSettings, own_or_mode_prompt
from orchestrator.strategies import Strategy, checked_strategies, roots_of
from orchestrator.stream import RunStream
from orchestrator.sync import run_sync
from orchestrator.tools import Tool, checked_tools
from orchestrator.trace import TraceFile, checked_directory
from sandbox.spec import SandboxSpec
from sandbox.store import StoredContext


class RLM:
    """A Recursive Language Model whose code runs in a locked container.

    Args:
        root_llm: The model that writes the code.
        sub_llm: The model that answers the code's sub-questions; by default the root's.
        prompt_mode: ``standard``, ``conservative`` (few sub-questions) or ``no_subcalls`` (none: the kernel has no
            function for them and the gate refuses forged ones). With ``max_depth=0`` all are as the last.
        observe: ``full``, or ``typed``: a quarantine in which no text that the document may have written reaches the
            root, only numbers, booleans and labels that it declared before (`orchestrator.typed`).
        max_iterations, max_depth, max_output_length: Short for `Limits`' max_turns, max_depth and max_output_chars.
        limits: All limits; every one is finite by default.
        sandbox: The box: `SandboxSpec`.
        system_prompt: Replaces the mode's system prompt. What it must say of the REPL is in `orchestrator.prompts`.
        trace_dir: Where to write a trace of each run, one JSONL file readable by its owner alone; by default none.
        keep_text: Whether the trace holds the document's and the models' text.
        redact_trace: Whether what has the form of a secret is replaced in the trace's code and text.
        policies: Asked, in this order, about each request, each reply and the answer (`orchestrator.policies`).
        prices: What models cost, by the provider's name: ``{"openai:qwen3": Price(...)}``. They go before those of
            `orchestrator.providers.prices.PRICES`.
        on_depth_limit: What `rlm_query` does where ``max_depth`` allows no child run: ``raise``, or ask the sub-model,
            as ``llm_query(question, data=context)`` does.
        output_schema: What the answer must be: a pydantic model class, a dataclass, or a JSON schema as a dict. The
            root is told the schema, its answer is checked on the host, and what does not fit is a turn. The answer is
            JSON then, and ``RunResult.value`` the typed value (`orchestrator.schema`).
        setup_code: Runs in each box, children's too, before its first cell, within a cell's limits; a fresh box runs it
            again. What it prints is shown to nobody. A failure ends the run with a `SetupError` before any model call.
        modules: Python files and packages that cells can import, read-only (`orchestrator.modules`).
        strategies: What a run does that is stuck (``Limits.max_failed_cells``, ``max_idle_turns``): it goes on by the
            next of these, in the same REPL and on the same budget. Without one more it ends as ``no_progress``.
        root_window_tokens: Tokens that ``root_llm`` can read and write at once, 2,000 and more; by default those of
            `orchestrator.providers.windows`. When 80 % are full, old turns are summed up.
        tools: Functions of the caller's that cells may call: ``Tool(function, takes_hostile_arguments=True)``. They
            run on this machine, outside of the box, with arguments that a document may have chosen
            (`orchestrator.tools`). A ``system_prompt`` must tell the root of them itself.
        sub_llms: Further sub-models, by the names by which a cell may ask for them, which is all that the root is told:
            ``{"fast": ...}`` allows ``llm_query(prompt, model="fast")``. A name is a letter and up to 63 letters,
            digits, ``_``, ``.`` and ``-``.
        fallback: Models that step in, in this order, for one that is out (`ProviderError.outage`) when its own attempts
            have failed; each has the time of a call for itself. Who was out is left alone for half a minute.
        cache: Where replies to sub-calls are kept for the next time the same is asked, at no cost: ``"memory"``, for as
            long as this object lives; a directory, which then holds text that quotes documents; or a `ReplyCache`.
        on_kill: What is done where a cell costs its box: ``tell`` the root what was lost, or ``replay`` the earlier
            cells in the fresh box, with the answers that they had got (`orchestrator.past`). It takes as long as they
            took, and counts as the run's time.
        journal_dir: A directory for what `resume` needs to go on with a run after its process was killed: one run's,
            the document's text included, for its owner alone (`orchestrator.journal`). By default nothing is kept.
        pool: Where the runs' boxes come from, ready-made; by default each run starts its own (`SandboxPool`).
        context_mode: What a text is in the box: a ``str``; a ``lazy`` text, read from the disk where code looks
            at it; or (``auto``) lazy where four times its bytes would not fit ``Limits.memory_bytes``. A large file, as
            a `pathlib.Path`, takes no memory of this process (`orchestrator.intake`).

    Raises:
        ConfigError: A setting is wrong, by name, value and range. Nothing was started.
    """

    def __init__(
        self,
        root_llm: LLMInterface | Provider,
        sub_llm: LLMInterface | Provider | None = None,
        *,
        prompt_mode: PromptMode = "standard",
        observe: Observe = "full",
        max_iterations: float | None = None,
        max_depth: int | None = None,
        max_output_length: int | None = None,
        limits: Limits | None = None,
        sandbox: SandboxSpec | None = None,
        system_prompt: str | None = None,
        trace_dir: str | Path | None = None,
        keep_text: bool = False,
        redact_trace: bool = True,
        policies: Sequence[Policy] = (),
        prices: Mapping[str, Price] | None = None,
        on_depth_limit: OnDepthLimit = "raise",
        output_schema: type | dict[str, Any] | None = None,
        setup_code: str = "",
        modules: Modules = (),
        strategies: Sequence[Strategy] = (),
        root_window_tokens: int | None = None,
        tools: Sequence[Tool] = (),
        sub_llms: Mapping[str, LLMInterface | Provider] | None = None,
        fallback: Sequence[LLMInterface | Provider] = (),
        cache: Literal["memory"] | str | Path | ReplyCache | None = None,
        on_kill: OnKill = "tell",
        pool: SandboxPool | None = None,
        journal_dir: str | Path | None = None,
        context_mode: ContextMode = "auto",
    ) -> None:
        if on_kill not in get_args(OnKill):
            raise ConfigError(f"on_kill: {on_kill!r:.80} is neither 'tell' nor 'replay'")
        if on_depth_limit not in get_args(OnDepthLimit):
            raise ConfigError(f"on_depth_limit: {on_depth_limit!r:.80} is neither 'raise' nor 'llm_query'")
        merged = merge_limits(limits, max_turns=max_iterations, max_depth=max_depth, max_output_chars=max_output_length)
        spec = spec_for(sandbox, merged)
        root = as_provider(root_llm)
        asked = as_provider(sub_llm if sub_llm is not None else root_llm)
        sub = None if prompt_mode == "no_subcalls" else asked
        others = checked_strategies(strategies, prompt_mode)
        named = checked_sub_llms(sub_llms) if sub else {}
        standby = checked_fallback(fallback)
        model_facts(root, sub, named, standby)
        check_windows(root, root_window_tokens, *roots_of(others))
        self._settings = RunSettings(
            root=root,
            sub=sub,
            limits=merged,
            spec=spec,
            prompt_mode=prompt_mode,
            observe=observe,
            system_prompt=own_or_mode_prompt(system_prompt, prompt_mode, observe, merged, spec),
            own_prompt=system_prompt is not None,
            policies=checked_policies(policies),
            prices=checked_prices(prices, merged, root, sub, *named.values(), *standby, *roots_of(others)),
            on_depth_limit=on_depth_limit,
            schema=None if output_schema is None else OutputSchema.of(output_schema),
            setup_code=checked_setup(setup_code),
            modules=read_modules(modules),
            strategies=others,
            root_window_tokens=root_window_tokens,
            tools=checked_tools(tools),
            sub_llms=named,
            fallback=standby,
            cache=checked_cache(cache),
            on_kill=on_kill,
            pool=checked_pool(pool, spec),
            context_mode=checked_mode(context_mode),
        )
        self._journal_dir = checked_directory("journal_dir", journal_dir)
        self._trace_dir = checked_directory("trace_dir", trace_dir)
        self._keep_text = keep_text
        self._redact_trace = redact_trace

    @property
    def settings(self) -> RunSettings:
        """What was given, checked."""
        return self._settings

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._settings.limits

    def query(
        self, query: str, context: Any, verbose: bool = False, *, listeners: Sequence[Listener] = ()
    ) -> tuple[str | None, Trajectory]:
        """Ask and wait; also from a running event loop, such as a notebook's. Ctrl-C ends the run and its box.

        Args:
            query: The question.
            context: A str, a list of str, a dict of JSON values, or a `pathlib.Path` of a text file.
            verbose: Print what happens to stderr.
            listeners: As for `arun`; called on a thread of Airlock's own.

        Returns:
            The answer and the trajectory. At a limit the answer is partial, or None, and ``trajectory.stop_reason``
            names the limit.

        Raises:
            As `arun`.
        """
        if verbose:
            from orchestrator.progress import ProgressPrinter

            listeners = [*checked_ask(query, listeners), ProgressPrinter(sys.stderr)]
        result = run_sync(self.arun(query, context, listeners=listeners))
        return result.answer, Trajectory(result)

    def session(
        self,
        context: Any,
        *,
        more: Sequence[Any] = (),
        listeners: Sequence[Listener] = (),
        lifetime_s: float = DEFAULT_LIFETIME_S,
    ) -> Session:
        """Several questions, one after the other, to the same contexts, in one box and within one budget: `Session`.

        Args:
            context: As for `query`; the variable `context`.
            more: More of them, the variables `context_1`, `context_2` and so on.
            listeners: Called with each `TraceEvent` of each question.
            lifetime_s: Seconds after which the session is closed, whatever it does; at most a day.

        Raises:
            ConfigError: `more` or `lifetime_s` is wrong, or ``journal_dir`` is set; nothing was started.
        """
        if self._journal_dir is not None:
            raise ConfigError("journal_dir: a session keeps no journal; leave it out")
        return Session(
            self._settings,
            context,
            more,
            new_trace=self._trace,
            listeners=listeners,
            lifetime_s=lifetime_s,
        )

    async def arun(self, question: str, context: Any, *, listeners: Sequence[Listener] = ()) -> RunResult:
        """Ask and await the result.

        Args:
            question: The question.
            context: As for `query`.
            listeners: Called with each `TraceEvent` as it happens, on the event loop: the run waits for them. One that
                raises gets no more events, and a warning is logged.

        Raises:
            ConfigError, ContextError: The question or the context can't be used; nothing was started.
            ProviderError: The root model failed, also after retries.
            BoxError: No engine, no image, or the box failed; `ProtocolViolation` if it misbehaved.
            Each of the last three carries what the run had as its ``result``.
        """
        listeners = checked_ask(question, listeners)
        mode, memory_bytes = self._settings.context_mode, self.limits.memory_bytes
        async with taken_in(context, mode, memory_bytes) as checked, stored(checked) as (kept, documents):
            journal = None
            if self._journal_dir is not None:
                if isinstance(checked, StoredContext):
                    raise ConfigError("journal_dir: a journal keeps no text that is too large for a str of the box")
                begin = partial(Journal.create, question=question, context=checked, settings=self._settings)
                journal = await asyncio.to_thread(begin, self._journal_dir)
            return await self._run(question, kept, documents, listeners, journal)

    async def alive(self, journal: Journal, context: Context, *, listeners: Sequence[Listener] = ()) -> RunResult:
        """One life of a journal's run, the first or a further one: for who opened the journal. It is closed behind it.

        Args:
            journal: The journal, which was begun with these settings.
            context: What the run is about, in its normal form.
            listeners: As for `arun`.

        Raises:
            As `aresume`.
        """
        async with stored(context) as (kept, documents):
            return await self._run(journal.about["question"], kept, documents, listeners, journal)

    async def aresume(
        self, context: Any = None, *, allow_divergence: bool = False, listeners: Sequence[Listener] = ()
    ) -> RunResult:
        """Go on with the run that ``journal_dir`` has, whose process was killed. What was paid for is not paid again.

        Args:
            context: What the run is about; None: as the journal has it.
            allow_divergence: Whether what the run asks otherwise than the journal says is paid for, and told in
                ``RunResult.divergences``, instead of ending it.
            listeners: As for `arun`. They are told of what happened before, too.

        Returns:
            Its result. Where it had ended for good, that result without its turns: nothing is run.

        Raises:
            ConfigError: There is no such journal, another process has it, it was begun by other models, or the context
                has changed.
            Diverged: The run does not do what its journal says.
            As `arun`.
        """
        opened = await open_again(self._journal_dir, self._settings, context)
        if isinstance(opened, RunResult):
            return opened
        journal, kept = opened
        journal.allow_divergence = allow_divergence
        return await self.alive(journal, kept, listeners=listeners)

    async def _run(
        self,
        question: str,
        context: Context | StoredContext,
        documents: tuple[Document, ...],
        listeners: Sequence[Listener],
        journal: Journal | None,
    ) -> RunResult:
        records: list[TraceFile] = [journal.trace] if journal else []
        try:
            if trace := self._trace():
                records.insert(0, trace)  # the result names the first one
            recorder = Recorder([*listeners, *records], output_chars=self.limits.max_output_chars)
            if journal:
                journal.begins()
            return await Run(self._settings, question, context, documents, recorder, journal=journal).run()
        finally:
            for record in records:
                record.close()

    def stream(self, question: str, context: Any, *, listeners: Sequence[Listener] = ()) -> RunStream:
        """Ask, and read what happens while it does.

        Args:
            question: The question.
            context: As for `query`.
            listeners: As for `arun`.

        Returns:
            The events, for ``async for``; behind the last one its ``result`` is what `arun` returns. What `arun` raises
            is raised behind the last event.
        """
        others = checked_ask(question, listeners)
        return RunStream(lambda reader: self.arun(question, context, listeners=[*others, reader]))

    def _trace(self) -> TraceFile | None:
        if self._trace_dir is None:
            return None
        return TraceFile(self._trace_dir, keep_text=self._keep_text, redact=self._redact_trace)
