"""The root loop: ask the root, run its code, show it the output, until it answers or a limit ends the run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from orchestrator import prompts
from orchestrator.errors import LimitExceeded, PolicyRefused, ProviderError, VariableError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.parsing import FinalText, FinalVar, ParsedReply, missing_reason, parse_reply
from orchestrator.providers.base import Message, ModelReply
from orchestrator.recorder import Recorder
from orchestrator.rendering import CellView, plain_output, render_observation
from orchestrator.repl import Repl
from orchestrator.result import Cell, StopReason, Turn
from orchestrator.typed import Vocabulary, render_typed, typed_report
from sandbox.cell import CellResult

MAX_CELLS_PER_TURN: Final = 16
"""Cells of one reply that run; the root is told when there were more. Bounds what one reply can make the host keep."""
MAX_SILENT_TURNS: Final = 3
"""Replies in a row with neither code nor answer after which the run ends as `no_progress`."""

_STARTED_ANEW: Final = "It was started anew: `context` is there again, all other variables and imports are gone."


@dataclass(slots=True)
class Outcome:
    """How the loop ended; `answer` is partial where the reason is a limit."""

    answer: str | None
    stop_reason: StopReason


@dataclass(slots=True)
class CellsRun:
    """What came of a turn's cells."""

    views: list[CellView] = field(default_factory=list)
    ok: bool = True
    answer: str | None = None
    time_is_over: bool = False


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
    ) -> None:
        self._gate = gate
        self._repl = repl
        self._ledger = ledger
        self._limits = limits
        self._recorder = recorder
        self._quarantine = quarantine
        shown_chars = None if quarantine is not None else limits.max_output_chars
        first = prompts.first_message(question, context_info, self._budget(), shown_chars)
        self._messages = [Message(role="system", content=system_prompt), Message(role="user", content=first)]
        self.partial: str | None = None
        """The best answer so far that was not accepted: what a run that hits a limit returns."""

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
            except PolicyRefused:
                return Outcome(None, StopReason.POLICY_REFUSED)
            parsed = parse_reply(reply.text)
            ran = await self._run_cells(turn, parsed)
            answer, remark = await self._answer(parsed, ran)
            if answer is not None:
                return Outcome(answer, StopReason.ANSWERED)
            if ran.time_is_over:
                return Outcome(self.partial, StopReason.TIME_LIMIT)
            silent_turns = 0 if ran.views or parsed.final else silent_turns + 1
            if silent_turns == MAX_SILENT_TURNS:
                return Outcome(self.partial, StopReason.NO_PROGRESS)
            self._tell_root(ran, remark or _remark(reply, parsed, ran))
        return Outcome(self.partial, StopReason.TURN_LIMIT)

    async def _ask_root(self) -> tuple[ModelReply, Turn]:
        started = time.monotonic()
        try:
            reply = await self._gate.ask_root(self._messages)
        except ProviderError as error:
            if self._ledger.deadline.expired:  # its time-out was the run's
                raise LimitExceeded(str(error), limit="max_wall_s") from error
            raise
        self._messages.append(Message(role="assistant", content=reply.text))
        return reply, self._recorder.turn(reply, time.monotonic() - started)

    def _stopped_by(self, limit: LimitExceeded) -> Outcome:
        over = StopReason.TIME_LIMIT if limit.limit == "max_wall_s" else StopReason.TOKEN_LIMIT
        return Outcome(self.partial, over)

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

    async def _answer(self, parsed: ParsedReply, ran: CellsRun) -> tuple[str | None, str | None]:
        """The answer of a turn, or None and what to say about the one it tried to give."""
        if ran.answer is not None:
            return ran.answer, None
        match parsed.final:
            case FinalText(text=text) if not ran.views:
                return text, None
            case FinalText(text=text):
                self.partial = text
                return None, prompts.ask_again()
            case FinalVar(name=name) if ran.ok:
                return await self._variable(name)
            case FinalVar():
                return None, prompts.ask_again()
        return None, None

    async def _variable(self, name: str) -> tuple[str | None, str | None]:
        try:
            return await self._repl.answer_text(name), None
        except VariableError as error:  # its text has words of the box, which the root sees inside of a frame only
            why = "no variable has that name" if error.undefined else "its value can't be taken as text, or is too long"
            remark = f"FINAL_VAR({name}) gives no answer: {why}."
        if self._repl.alive:
            return None, remark
        await self._repl.restart()
        return None, f"{remark} {_STARTED_ANEW}"

    def _tell_root(self, ran: CellsRun, remark: str | None) -> None:
        parts = [part for part in (self._observation(ran), remark, self._budget()) if part]
        self._messages.append(Message(role="user", content="\n\n".join(parts)))

    def _observation(self, ran: CellsRun) -> str | None:
        if not ran.views:
            return None
        if self._quarantine is not None:
            self._recorder.turns[-1].values = typed_report(ran.views, self._quarantine).shown
            return render_typed(ran.views, self._quarantine)
        return render_observation(ran.views, self._limits.max_output_chars)

    def _budget(self) -> str:
        return prompts.budget_line(
            turns=self._limits.max_turns - len(self._recorder.turns),
            seconds=self._ledger.deadline.remaining_s,
            tokens=self._ledger.tokens_left,
            sub_calls=self._ledger.sub_calls_left if self._gate.allows_sub_calls else None,
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
        notes.append(f"the REPL was lost ({result.lost_because}). {_STARTED_ANEW}")
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
