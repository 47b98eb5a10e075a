"""`RLM`: ask a question about a context of any length, answered from inside a locked container."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.context import check_context, format_context_info
from orchestrator.documents import documents_of
from orchestrator.errors import ConfigError, PolicyRefused, ProtocolViolation, ProviderError, RLMError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits, merge_limits
from orchestrator.loop import Loop, Outcome
from orchestrator.policies.base import Policy
from orchestrator.policies.chain import PolicyChain, checked_policies
from orchestrator.prompts import DATA_IMAGE, Observe, PromptMode, prompt_for
from orchestrator.providers.base import LLMInterface, Provider
from orchestrator.providers.custom import as_provider
from orchestrator.recorder import Listener, Recorder
from orchestrator.repl import REPORT_FUNCTIONS, SUB_CALL_FUNCTIONS, Repl, spec_for
from orchestrator.result import Document, RunResult, StopReason, Trajectory
from orchestrator.sync import run_sync
from orchestrator.trace import TraceFile
from orchestrator.typed import Vocabulary
from sandbox.spec import SandboxSpec

BACKSTOP_S: Final = 10.0
"""The loop ends itself at the run's deadline; whatever keeps it busy so much longer is cancelled."""


class RLM:
    """A Recursive Language Model whose code runs in a locked container.

    Args:
        root_llm: The model that writes the code.
        sub_llm: The model that answers the code's sub-questions; by default the root's.
        prompt_mode: ``standard``, ``conservative`` (few sub-questions) or ``no_subcalls`` (none: the kernel has no
            function for them and the gate refuses forged ones). With ``max_depth=0`` all are as the last.
        observe: ``full``, or ``typed``: a quarantine in which no text that the document may have written reaches the
            root, only numbers, booleans and labels that it declared before (`orchestrator.typed`).
        max_iterations: Short for ``Limits(max_turns=...)``.
        max_depth: Short for ``Limits(max_depth=...)``.
        max_output_length: Short for ``Limits(max_output_chars=...)``.
        limits: All limits; every one is finite by default.
        sandbox: The box: `SandboxSpec`.
        system_prompt: Replaces the mode's system prompt. What it must say of the REPL is in `orchestrator.prompts`.
        trace_dir: Where to write a trace of each run, one JSONL file readable by its owner alone; by default none.
        keep_text: Whether the trace holds the document's and the models' text.
        redact_trace: Whether what has the form of a secret is replaced in the trace's code and text.
        policies: Asked, in this order, about each request, each reply and the answer (`orchestrator.policies`).

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
    ) -> None:
        self._limits = merge_limits(
            limits, max_turns=max_iterations, max_depth=max_depth, max_output_chars=max_output_length
        )
        self._spec = spec_for(sandbox, self._limits)
        self._prompt_mode = prompt_mode
        self._observe = observe
        mode_prompt = prompt_for(prompt_mode if self._limits.max_depth else "no_subcalls", observe)
        if self._spec.image == "data":
            mode_prompt += DATA_IMAGE
        self._system_prompt = mode_prompt if system_prompt is None else system_prompt
        self._root = as_provider(root_llm)
        self._sub = None if prompt_mode == "no_subcalls" else as_provider(sub_llm if sub_llm is not None else root_llm)
        self._trace_dir = Path(trace_dir) if trace_dir is not None else None
        self._keep_text = keep_text
        self._redact_trace = redact_trace
        self._policies = checked_policies(policies)

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    def query(self, query: str, context: Any, verbose: bool = False) -> tuple[str | None, Trajectory]:
        """Ask and wait; also from a running event loop, such as a notebook's. Ctrl-C ends the run and its box.

        Args:
            query: The question.
            context: A str, a list of str, a dict of JSON values, or a `pathlib.Path` of a text file.
            verbose: Print what happens to stderr.

        Returns:
            The answer and the trajectory. At a limit the answer is partial, or None, and ``trajectory.stop_reason``
            names the limit.

        Raises:
            As `arun`.
        """
        listeners: list[Listener] = []
        if verbose:
            from orchestrator.progress import ProgressPrinter

            listeners.append(ProgressPrinter(sys.stderr))
        result = run_sync(self.arun(query, context, listeners=listeners))
        return result.answer, Trajectory(result)

    async def arun(self, question: str, context: Any, *, listeners: Sequence[Listener] = ()) -> RunResult:
        """Ask and await the result.

        Args:
            question: The question.
            context: As for `query`.
            listeners: Called with each `TraceEvent`, on the event loop.

        Raises:
            ConfigError, ContextError: The question or the context can't be used; nothing was started.
            ProviderError: The root model failed, also after retries.
            BoxError: No engine, no image, or the box failed; `ProtocolViolation` if it misbehaved.
            Each of the last three carries what the run had as its ``result``.
        """
        if not isinstance(question, str) or not question.strip():
            raise ConfigError(f"query: {question!r:.80} is not a question (a str that is not blank)")
        checked = await asyncio.to_thread(check_context, context)
        documents = await asyncio.to_thread(documents_of, checked)
        trace = self._trace()
        try:
            recorder = Recorder([*listeners, *([trace] if trace else [])])
            return await _Run(self, question, checked, documents, recorder).run()
        finally:
            if trace:
                trace.close()

    def _trace(self) -> TraceFile | None:
        if self._trace_dir is None:
            return None
        return TraceFile(self._trace_dir, keep_text=self._keep_text, redact=self._redact_trace)


class _Run:
    """One run: opens the box, runs the loop, and always ends with a reason."""

    def __init__(
        self, rlm: RLM, question: str, context: Any, documents: tuple[Document, ...], recorder: Recorder
    ) -> None:
        self._rlm = rlm
        self._question = question
        self._context = context
        self._documents = documents
        self._recorder = recorder
        self._policies = PolicyChain(
            rlm._policies,
            record=recorder.policy,
            document_bytes=sum(document.size_bytes for document in documents),
        )
        self._ledger = Ledger(rlm._limits)
        self._loop: Loop | None = None
        self._isolation: str | None = None

    async def run(self) -> RunResult:
        self._announce()
        try:
            outcome = await self._run_in_box()
        except RLMError as error:
            if isinstance(error, ProtocolViolation):
                self._recorder.violation(str(error))
            error.result = self._end(_reason(error), failure=error)
            raise
        except Exception as error:  # a bug, of ours or of a listener's
            self._end(StopReason.INTERNAL_ERROR, failure=error)
            raise
        except BaseException as error:
            self._end(StopReason.CANCELLED, failure=error)
            raise
        return self._end(outcome.stop_reason, outcome.answer)

    async def _run_in_box(self) -> Outcome:
        rlm, loop = self._rlm, asyncio.get_running_loop()

        def say(line: str) -> None:  # from a thread, which outlives a cancelled run; listeners are called on the loop
            loop.call_soon_threadsafe(self._recorder.emit, "setup", {"doing": line})

        gate = Gate(
            root=rlm._root,
            sub=rlm._sub,
            limits=rlm._limits,
            ledger=self._ledger,
            recorder=self._recorder,
            policies=self._policies,
        )
        try:
            async with asyncio.timeout(self._ledger.deadline.remaining_s) as opening:
                repl = await Repl.open(
                    self._context,
                    spec=rlm._spec,
                    limits=rlm._limits,
                    deadline=self._ledger.deadline,
                    handler=gate.handle,
                    functions=self._functions(gate),
                    progress=say,
                    on_box=self._box_opened,
                )
        except TimeoutError:
            if not opening.expired():
                raise
            return Outcome(None, StopReason.TIME_LIMIT)
        self._documents = tuple(dataclasses.replace(document, loaded=True) for document in self._documents)
        try:
            self._loop = Loop(
                gate=gate,
                repl=repl,
                ledger=self._ledger,
                limits=rlm._limits,
                recorder=self._recorder,
                system_prompt=rlm._system_prompt + self._policies.system_note,
                question=self._question,
                context_info=format_context_info(self._context),
                quarantine=Vocabulary() if rlm._observe == "typed" else None,
            )
            return await self._until_deadline(self._loop)
        finally:
            await repl.aclose()

    def _box_opened(self, facts: dict[str, Any]) -> None:
        """The result names the least level that a box of this run had."""
        if self._isolation != "container":
            self._isolation = facts["isolation"]
        self._recorder.emit("box", facts)

    async def _until_deadline(self, loop: Loop) -> Outcome:
        try:
            async with asyncio.timeout(self._ledger.deadline.remaining_s + BACKSTOP_S) as backstop:
                return await loop.run()
        except TimeoutError:
            if not backstop.expired():
                raise
            return Outcome(loop.partial, StopReason.TIME_LIMIT)

    def _functions(self, gate: Gate) -> tuple[str, ...]:
        sub_calls = SUB_CALL_FUNCTIONS if gate.allows_sub_calls else ()
        return sub_calls + (REPORT_FUNCTIONS if self._rlm._observe == "typed" else ())

    def _announce(self) -> None:
        rlm = self._rlm
        facts = {
            "root": rlm._root.name,
            "sub": rlm._sub.name if rlm._sub else None,
            "prompt_mode": rlm._prompt_mode,
            "observe": rlm._observe,
            "isolation": rlm._spec.isolation,
            "context": format_context_info(self._context),
            "documents": [
                {"kind": document.kind, "size_bytes": document.size_bytes, "sha256": document.sha256}
                for document in self._documents
            ],
            "policies": [policy.name for policy in rlm._policies],
            "limits": {
                field.name: _json_number(getattr(rlm._limits, field.name)) for field in dataclasses.fields(Limits)
            },
        }
        self._recorder.emit("run_start", facts, question=self._question)

    def _end(self, reason: StopReason, answer: str | None = None, *, failure: BaseException | None = None) -> RunResult:
        """The one way out for every answer, whole or partial: the policies are asked about each."""
        if answer is None and self._loop is not None and reason is not StopReason.POLICY_REFUSED:
            answer = self._loop.partial
        if answer is not None:
            try:
                answer = self._policies.answer(answer, partial=reason is not StopReason.ANSWERED)
            except PolicyRefused:
                answer = None
                reason = reason if failure else StopReason.POLICY_REFUSED
        recorder = self._recorder
        usage = self._ledger.usage(turns=len(recorder.turns), wall_s=recorder.wall_s)
        recorder.run_ends(reason, usage, answer, failure=type(failure).__name__ if failure else None)
        return RunResult(
            answer=answer,
            stop_reason=reason,
            usage=usage,
            turns=tuple(recorder.turns),
            isolation=self._isolation,
            documents=self._documents,
            sub_replies=tuple(recorder.sub_replies),
            decisions=tuple(recorder.decisions),
            decision_count=recorder.decision_count,
            redactions=dict(recorder.redactions),
            violations=tuple(recorder.violations),
            trace=recorder.trace,
        )


def _reason(error: RLMError) -> StopReason:
    if isinstance(error, ProtocolViolation):
        return StopReason.PROTOCOL_VIOLATION
    return StopReason.PROVIDER_ERROR if isinstance(error, ProviderError) else StopReason.SANDBOX_ERROR


def _json_number(value: float) -> float | str:
    return "unlimited" if value == float("inf") else value
