"""The root loop: ask the root, run its code, show it the output, until it answers or a limit ends the run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from orchestrator import prompts
from orchestrator.answers import Answer, Answers
from orchestrator.cells import Cells, CellsRun
from orchestrator.errors import LimitExceeded, PolicyRefused, ProviderError
from orchestrator.gate import Gate
from orchestrator.history import History, most_shown_chars
from orchestrator.ledger import OVERBILLED, Ledger
from orchestrator.limits import Limits
from orchestrator.names import BoundNames
from orchestrator.parsing import FinalText, ParsedReply, missing_reason, parse_reply
from orchestrator.providers.base import Message, ModelReply
from orchestrator.providers.windows import DEFAULT_WINDOW_TOKENS
from orchestrator.recorder import Recorder
from orchestrator.rendering import frame, truncate_output
from orchestrator.repl import Repl
from orchestrator.result import StopReason, Turn
from orchestrator.schema import OutputSchema
from orchestrator.strategies import Progress
from orchestrator.typed import Vocabulary

MAX_ERROR_CHARS: Final = 2_000
"""Of the last error that a root leaves to the one that takes over."""
CUT_OFF: Final = "the reply was cut off at the model's output limit; write less at once"

_LIMIT_REASONS: Final = {
    "max_wall_s": StopReason.TIME_LIMIT,
    "max_cost_usd": StopReason.COST_LIMIT,
    "max_sub_calls": StopReason.CALL_LIMIT,
    OVERBILLED: StopReason.OVERBILLED,
}


@dataclass(slots=True)
class Outcome:
    """How the loop ended; `answer` is partial where the reason is a limit. For `stop_detail` see `RunResult`."""

    answer: Answer | None
    stop_reason: StopReason
    stop_detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What a root that is stuck leaves to the one that takes over in its REPL.

    Attributes:
        why: Why it is stuck, in words of the host.
        names: What its code has bound.
        quarantine: What it has written, in quarantine.
        partial: Its best answer.
        error: Its last error in a frame, or "".
        note: The caller's words for the next one, or "".
    """

    why: str
    names: BoundNames
    quarantine: Vocabulary | None
    partial: Answer | None
    error: str
    note: str


class Loop:
    """One root's loop.

    Args:
        gate: The way to the models.
        repl: The locked REPL, `context` bound.
        ledger: The run's account, for the budget line.
        limits: The run's limits.
        recorder: The run's memory.
        system_prompt: The root's system prompt.
        question: The user's question.
        context_info: What the root is told of the context.
        before: What it is told of the session before its question, or "".
        typed: Whether the root is in quarantine (``observe="typed"``).
        schema: What the answer must fit, or None.
        window_tokens: What the root can read and write at once.
        reply_tokens: Its longest reply.
        after: What another root has left behind in this REPL; None where there was none.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        repl: Repl,
        ledger: Ledger,
        limits: Limits,
        recorder: Recorder,
        system_prompt: str,
        question: str,
        context_info: str,
        before: str = "",
        typed: bool = False,
        schema: OutputSchema | None = None,
        window_tokens: int = DEFAULT_WINDOW_TOKENS,
        reply_tokens: int = 0,
        after: Handover | None = None,
    ) -> None:
        self._gate = gate
        self._repl = repl
        self._ledger = ledger
        self._limits = limits
        self._recorder = recorder
        self._quarantine = (Vocabulary() if typed else None) if after is None else after.quarantine
        self._shown_chars = min(limits.max_output_chars, most_shown_chars(window_tokens))
        form = schema.text if schema is not None else None
        first = prompts.first_message(
            question, context_info, self._budget(), None if typed else self._shown_chars, form, before
        )
        self._history = History(
            gate=gate,
            recorder=recorder,
            system_prompt=system_prompt,
            first=first if after is None else f"{first}\n\n{_taking_over(after)}",
            names=BoundNames() if after is None else after.names,
            window_tokens=window_tokens,
            reply_tokens=reply_tokens,
        )
        self._cells = Cells(
            repl=repl, limits=limits, recorder=recorder, names=self._history.names, quarantine=self._quarantine
        )
        self._answers = Answers(
            repl=repl,
            recorder=recorder,
            most_bytes=limits.max_reply_bytes,
            schema=schema,
            typed=typed,
            partial=None if after is None else after.partial,
        )
        self._progress = Progress(max_failed_cells=limits.max_failed_cells, max_idle_turns=limits.max_idle_turns)
        self._boxes_lost = recorder.boxes_lost

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far."""
        return tuple(self._history.messages)

    @property
    def partial(self) -> Answer | None:
        """The best answer so far that was not accepted: what a run that hits a limit returns."""
        return self._answers.partial

    def hand_over(self, why: str, note: str) -> Handover:
        """What the next root is told and goes on from."""
        errors = (cell.error for turn in reversed(self._recorder.turns) for cell in reversed(turn.cells) if cell.error)
        error = "" if self._quarantine is not None else next(errors, "")
        return Handover(
            why=why,
            names=self._history.names,
            quarantine=self._quarantine,
            partial=self.partial,
            error=frame("error", truncate_output(error, MAX_ERROR_CHARS)) if error else "",
            note=note,
        )

    async def run(self) -> Outcome:
        """Run to the end.

        Raises:
            ProviderError, BoxError, ProtocolViolation: The run can't go on.
        """
        while len(self._recorder.turns) < self._limits.max_turns:
            try:
                reply, turn = await self._ask_root()
            except LimitExceeded as limit:
                return self._stopped_by(limit)
            except PolicyRefused as refusal:
                return Outcome(None, StopReason.POLICY_REFUSED, str(refusal))
            parsed = parse_reply(reply.text)
            ran = await self._cells.run(turn, parsed)
            answer, remark = await self._answers.of_turn(parsed, ran)
            self._recorder.budget(self._gate.budget())
            if self._ledger.overbilled:
                return Outcome(self.partial if answer is None else answer, StopReason.OVERBILLED)
            if answer is not None:
                return Outcome(answer, StopReason.ANSWERED)
            if ran.time_is_over:
                return Outcome(self.partial, StopReason.TIME_LIMIT)
            stuck = self._stuck(parsed, ran, remark)
            if stuck and len(self._recorder.turns) < self._limits.max_turns:
                return Outcome(self.partial, StopReason.NO_PROGRESS, stuck)
            self._tell_root(ran, remark or _remark(reply, parsed, ran), await self._repl.news())
        return await self._ask_for_the_best()

    async def _ask_for_the_best(self) -> Outcome:
        """One reply more, which is no turn: its code is not run. What can't be had any more leaves what there is."""
        started = time.monotonic()
        try:
            reply = await self._history.ask()
        except PolicyRefused as refusal:
            return Outcome(None, StopReason.POLICY_REFUSED, str(refusal))
        except (LimitExceeded, ProviderError) as error:
            self._recorder.last_chance(None, time.monotonic() - started, failure=type(error).__name__)
            return Outcome(self.partial, self._last_reason())
        self._recorder.last_chance(reply, time.monotonic() - started)
        best = await self._answers.best_effort(parse_reply(reply.text))
        return Outcome(best or self.partial, self._last_reason())

    def _last_reason(self) -> StopReason:
        return StopReason.OVERBILLED if self._ledger.overbilled else StopReason.TURN_LIMIT

    async def _ask_root(self) -> tuple[ModelReply, Turn]:
        started = time.monotonic()
        try:
            reply = await self._history.ask()
        except ProviderError as error:
            if self._ledger.deadline.expired:  # its time-out was the run's
                raise LimitExceeded("the root's reply was not there yet", limit="max_wall_s") from error
            raise
        return reply, self._recorder.turn(reply, time.monotonic() - started, self.messages[:-1])

    def _stopped_by(self, limit: LimitExceeded) -> Outcome:
        return Outcome(self.partial, _LIMIT_REASONS.get(limit.limit, StopReason.TOKEN_LIMIT), str(limit))

    def _stuck(self, parsed: ParsedReply, ran: CellsRun, remark: str | None) -> str | None:
        """Why the root does not get on; None where it does. A text FINAL beside code is no answer yet."""
        if self._recorder.boxes_lost != self._boxes_lost:
            self._boxes_lost = self._recorder.boxes_lost
            self._history.names.forget()
            self._progress.starts_anew()
        refused = remark is not None and not (
            ran.ran_any and ran.answer is None and isinstance(parsed.final, FinalText)
        )
        return self._progress.turn(ran.ran, "an answer that could not be taken" if refused else None)

    def _tell_root(self, ran: CellsRun, remark: str | None, news: list[str]) -> None:
        said = "\n\n".join(part for part in (remark, *news, self._what_is_left()) if part)
        self._history.told(self._cells.shown(ran, self._shown_chars), said)

    def _what_is_left(self) -> str:
        if len(self._recorder.turns) < self._limits.max_turns:
            return self._budget()
        return prompts.last_chance("full" if self._quarantine is None else "typed")

    def _budget(self) -> str:
        return prompts.budget_line(
            turns=self._limits.max_turns - len(self._recorder.turns),
            seconds=self._ledger.deadline.remaining_s,
            tokens=self._ledger.tokens_left,
            sub_calls=self._ledger.sub_calls_left if self._gate.allows_sub_calls else None,
            tool_calls=self._ledger.tool_calls_left if self._ledger.tool_calls else None,
            usd=self._ledger.usd_left,
        )


def _taking_over(after: Handover) -> str:
    return prompts.next_strategy(why=after.why, names=after.names.said(), note=after.note, error=after.error)


def _remark(reply: ModelReply, parsed: ParsedReply, ran: CellsRun) -> str | None:
    """What the host says of a reply beside its cells' outputs."""
    if not ran.views:
        return _nudge(reply, parsed)
    left_out = len(parsed.cells) - len(ran.views)
    remarks = [f"{left_out} more code blocks of your reply were not run."] if left_out else []
    if reply.finish_reason in ("length", "window"):
        remarks.append(f"Mind that {CUT_OFF}.")
    return " ".join(remarks) or None


def _nudge(reply: ModelReply, parsed: ParsedReply) -> str:
    if reply.finish_reason in ("length", "window"):
        return prompts.nudge(CUT_OFF)
    return prompts.nudge(missing_reason(parsed))
