"""How a run's end is told: why it ended, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.answers import Answer
from orchestrator.errors import Diverged, ProtocolViolation, ProviderError, RLMError
from orchestrator.limits import Usage
from orchestrator.recorder import Recorder
from orchestrator.result import Document, RunResult, StopReason
from orchestrator.schema import OutputSchema


def reason_of(error: RLMError) -> StopReason:
    """Why a run ended that raises this."""
    if isinstance(error, ProtocolViolation):
        return StopReason.PROTOCOL_VIOLATION
    if isinstance(error, Diverged):
        return StopReason.DIVERGED
    return StopReason.PROVIDER_ERROR if isinstance(error, ProviderError) else StopReason.SANDBOX_ERROR


def ended(
    recorder: Recorder,
    reason: StopReason,
    answer: Answer | None,
    *,
    detail: str | None,
    failure: BaseException | None,
    schema: OutputSchema | None,
    usage: Usage,
    isolation: str | None,
    documents: tuple[Document, ...],
    divergences: Sequence[Any] = (),
) -> RunResult:
    """Tell the listeners of the end, and make the result.

    Args:
        recorder: The run's memory.
        reason: Why it ended.
        answer: As the policies left it.
        detail: See `RunResult.stop_detail`.
        failure: What it ended by, where that is raised.
        schema: What the answer must fit.
        usage: What the run spent.
        isolation: The least level of its boxes.
        documents: What it was asked about.
        divergences: See `RunResult.divergences`.
    """
    kind, valid = (None, None) if answer is None else (answer.kind, answer.valid(schema))
    recorder.run_ends(
        reason,
        usage,
        answer.text if answer else None,
        answer_kind=kind,
        valid=valid,
        failure=type(failure).__name__ if failure else None,
        stop_detail=detail,
    )
    return RunResult(
        answer=answer.text if answer else None,
        answer_kind=kind,
        valid=valid,
        value=answer.checked.value if answer and answer.checked else None,
        stop_reason=reason,
        stop_detail=detail,
        usage=usage,
        turns=tuple(recorder.turns),
        isolation=isolation,
        documents=documents,
        sub_replies=tuple(recorder.sub_replies),
        decisions=tuple(recorder.decisions),
        decision_count=recorder.decision_count,
        redactions=dict(recorder.redactions),
        violations=tuple(recorder.violations),
        trace=recorder.trace,
        run=recorder.run,
        divergences=tuple(divergences),
    )
