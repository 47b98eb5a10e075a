"""The root loop: ask the root, run its code, show it the output, until it answers or a limit ends the run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from orchestrator import prompts
from orchestrator.answers import STARTED_ANEW, Answer, Answers
from orchestrator.errors import LimitExceeded, PolicyRefused, ProviderError
from orchestrator.gate import Gate
from orchestrator.ledger import OVERBILLED, Ledger
from orchestrator.limits import Limits
from orchestrator.parsing import ParsedReply, missing_reason, parse_reply
from orchestrator.providers.base import Message, ModelReply
from orchestrator.recorder import Recorder
from orchestrator.rendering import CellView, plain_output, render_observation
from orchestrator.repl import Repl
from orchestrator.result import Cell, StopReason, Turn
from orchestrator.schema import OutputSchema
from orchestrator.typed import Vocabulary, render_typed, typed_report
from sandbox.cell import CellResult

MAX_CELLS_PER_TURN: Final = 16
"""Cells of one reply that run; the root is told when there were more. Bounds what one reply can make the host keep."""
MAX_SILENT_TURNS: Final = 3
"""Replies in a row with neither code nor answer after which the run ends as `no_progress`."""

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


@dataclass(slots=True)
class CellsRun:
    """What came of a turn's cells."""

    views: list[CellView] = field(default_factory=list)
    ok: bool = True
    answer: str | None = None
    time_is_over: bool = False

    @property
    def ran_any(self) -> bool:
        """Whether the reply had any."""
        return bool(self.views)


class Loop:
    """One run of the root loop.

    Args:
        gate: The way to the models.
        repl: The locked REPL, `context` bound.
        ledger: The run's account, for the budget line.
        limits: The run's limits.
        recorder: The run's memory.
        system_prompt: The root's system prompt.
        question: The user's question.
        context_info: What the root is told of the context.
        quarantine: What the root may be told in ``observe="typed"``; None shows it the cells' output.
        schema: What the answer must fit, or None.
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
        quarantine: Vocabulary | None = None,
        schema: OutputSchema | None = None,
    ) -> None:
        self._gate = gate
        self._repl = repl
        self._ledger = ledger
        self._limits = limits
        self._recorder = recorder
        self._quarantine = quarantine
        shown_chars = None if quarantine is not None else limits.max_output_chars
        form = schema.text if schema is not None else None
        first = prompts.first_message(question, context_info, self._budget(), shown_chars, form)
        self._messages = [Message(role="system", content=system_prompt), Message(role="user", content=first)]
        self._answers = Answers(
            repl=repl,
            recorder=recorder,
            most_bytes=limits.max_reply_bytes,
            schema=schema,
            typed=quarantine is not None,
        )

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far."""
        return tuple(self._messages)

    @property
    def partial(self) -> Answer | None:
        """The best answer so far that was not accepted: what a run that hits a limit returns."""
        return self._answers.partial

    async def run(self) -> Outcome:
        """Run to the end.

        Raises:
            ProviderError, BoxError, ProtocolViolation: The run can't go on.
        """
        silent_turns = 0
        while len(self._recorder.turns) < self._limits.max_turns:
            try:
                reply, turn = await self._ask_root()
            except LimitExceeded as limit:
                return self._stopped_by(limit)
            except PolicyRefused as refusal:
                return Outcome(None, StopReason.POLICY_REFUSED, str(refusal))
            parsed = parse_reply(reply.text)
            ran = await self._run_cells(turn, parsed)
            answer, remark = await self._answers.of_turn(parsed, ran)
            if self._ledger.overbilled:
                return Outcome(self.partial if answer is None else answer, StopReason.OVERBILLED)
            if answer is not None:
                return Outcome(answer, StopReason.ANSWERED)
            if ran.time_is_over:
                return Outcome(self.partial, StopReason.TIME_LIMIT)
            silent_turns = 0 if ran.views or parsed.final else silent_turns + 1
            if silent_turns == MAX_SILENT_TURNS:
                return Outcome(self.partial, StopReason.NO_PROGRESS)
            self._tell_root(ran, remark or _remark(reply, parsed, ran))
        return await self._ask_for_the_best()

    async def _ask_for_the_best(self) -> Outcome:
        """One reply more, which is no turn: its code is not run. What can't be had any more leaves what there is."""
        started = time.monotonic()
        try:
            reply = await self._gate.ask_root(self._messages)
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
            reply = await self._gate.ask_root(self._messages)
        except ProviderError as error:
            if self._ledger.deadline.expired:  # its time-out was the run's
                raise LimitExceeded("the root's reply was not there yet", limit="max_wall_s") from error
            raise
        self._messages.append(Message(role="assistant", content=reply.text))
        return reply, self._recorder.turn(reply, time.monotonic() - started)

    def _stopped_by(self, limit: LimitExceeded) -> Outcome:
        return Outcome(self.partial, _LIMIT_REASONS.get(limit.limit, StopReason.TOKEN_LIMIT), str(limit))

    async def _run_cells(self, turn: Turn, parsed: ParsedReply) -> CellsRun:
        """Run the cells in order. The first that fails or answers is the last: the others were written before it."""
        ran = CellsRun()
        for code in parsed.cells[:MAX_CELLS_PER_TURN]:
            cell = self._recorder.cell_starts(turn, code)
            if self._quarantine is not None:
                self._quarantine.learn(code)
            result = await self._repl.run(code)
            view = CellView(cell=result, notes=_notes(result, self._limits), lines=code.count("\n") + 1)
            _fill(cell, result, self._limits.max_output_chars)
            self._recorder.cell_ends(turn, cell, _facts(result))
            ran.views.append(view)
            ran.ok = result.status == "ok"
            ran.answer = result.answer
            ran.time_is_over = result.clock == "run"
            if ran.time_is_over:
                break
            if result.status == "lost":
                self._recorder.box_lost(turn, result.lost_because or "")
                await self._repl.restart()
            if not ran.ok or ran.answer is not None:
                break
        return ran

    def _tell_root(self, ran: CellsRun, remark: str | None) -> None:
        parts = [part for part in (self._observation(ran), remark, self._what_is_left()) if part]
        self._messages.append(Message(role="user", content="\n\n".join(parts)))

    def _observation(self, ran: CellsRun) -> str | None:
        if not ran.views:
            return None
        if self._quarantine is not None:
            self._recorder.turns[-1].values = typed_report(ran.views, self._quarantine).shown
            return render_typed(ran.views, self._quarantine)
        return render_observation(ran.views, self._limits.max_output_chars)

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
            usd=self._ledger.usd_left,
        )


def _remark(reply: ModelReply, parsed: ParsedReply, ran: CellsRun) -> str | None:
    """What the host says of a reply beside its cells' outputs."""
    if not ran.views:
        return _nudge(reply, parsed)
    left_out = len(parsed.cells) - len(ran.views)
    return f"{left_out} more code blocks of your reply were not run." if left_out else None


def _nudge(reply: ModelReply, parsed: ParsedReply) -> str:
    if reply.finish_reason == "length":
        return prompts.nudge("the reply was cut off at the model's output limit; write less at once")
    return prompts.nudge(missing_reason(parsed))


def _notes(result: CellResult, limits: Limits) -> tuple[str, ...]:
    """What the host says of a cell, beside what the cell says."""
    notes = []
    if result.clock:
        used = {"wall": f"{limits.cell_wall_s:,g} s", "cpu": f"{limits.cell_cpu_s:,g} CPU seconds"}
        notes.append(f"the cell was stopped after {used.get(result.clock, 'the time of the run')}")
    if result.lost_because:
        notes.append(f"the REPL was lost ({result.lost_because}). {STARTED_ANEW}")
    if result.late_chars:
        notes.append(f"{result.late_chars:,} characters that threads of earlier cells wrote late were dropped")
    return tuple(notes)


def _fill(cell: Cell, result: CellResult, max_chars: int) -> None:
    cell.output = plain_output(result, max_chars)
    cell.status = result.status
    cell.error = f"{result.error.name}: {result.error.message}" if result.error else None
    cell.error = cell.error or result.lost_because
    cell.wall_s = result.wall_s


def _facts(result: CellResult) -> dict[str, object]:
    """What the trace says of a cell beside its texts."""
    return {
        "waited_s": round(result.waited_s, 6),
        "stdout_chars": result.stdout.true_chars,
        "stderr_chars": result.stderr.true_chars,
        "result_chars": result.result.true_chars,
        "clock": result.clock,
        "lost_because": result.lost_because,
        "late_chars": result.late_chars,
        "answered": result.answer is not None,
    }
