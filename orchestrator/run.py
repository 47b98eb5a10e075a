"""One run: opens the box, runs the loop in it, and always ends with a reason."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, Final

from orchestrator.context import format_context_info
from orchestrator.errors import PolicyRefused, ProtocolViolation, ProviderError, RLMError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.loop import Loop, Outcome
from orchestrator.policies.chain import PolicyChain
from orchestrator.recorder import Recorder
from orchestrator.repl import REPORT_FUNCTIONS, SUB_CALL_FUNCTIONS, Repl
from orchestrator.result import Document, RunResult, StopReason
from orchestrator.typed import Vocabulary

if TYPE_CHECKING:
    from orchestrator.rlm import RLM

BACKSTOP_S: Final = 10.0
"""The loop ends itself at the run's deadline; whatever keeps it busy so much longer is cancelled."""


class Run:
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
