"""The cells of a reply: run in order, recorded, and shown to the root."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from orchestrator.answers import STARTED_ANEW
from orchestrator.limits import Limits
from orchestrator.names import BoundNames
from orchestrator.parsing import ParsedReply
from orchestrator.recorder import Recorder
from orchestrator.rendering import CellView, plain_output, render_observation
from orchestrator.repl import Repl
from orchestrator.result import Cell, Turn
from orchestrator.strategies import Ran
from orchestrator.typed import Vocabulary, error_type, render_typed, typed_report
from sandbox.cell import CellResult

MAX_CELLS_PER_TURN: Final = 16
"""Cells of one reply that run; the root is told when there were more. Bounds what one reply can make the host keep."""


@dataclass(slots=True)
class CellsRun:
    """What came of a turn's cells."""

    views: list[CellView] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    ok: bool = True
    answer: str | None = None
    time_is_over: bool = False

    @property
    def ran_any(self) -> bool:
        """Whether the reply had any."""
        return bool(self.views)


@dataclass(slots=True, kw_only=True)
class Cells:
    """Runs the cells of one root.

    Attributes:
        repl: Where they run.
        limits: The run's.
        recorder: Its memory.
        names: Learns what they bind.
        quarantine: What the root may be told in ``observe="typed"``; None shows it their output.
    """

    repl: Repl
    limits: Limits
    recorder: Recorder
    names: BoundNames
    quarantine: Vocabulary | None = None

    async def run(self, turn: Turn, parsed: ParsedReply) -> CellsRun:
        """Run the cells in order. The first that fails or answers is the last: the others were written before it.

        Raises:
            BoxError, ProtocolViolation: The run can't go on.
        """
        ran = CellsRun()
        for code in parsed.cells[:MAX_CELLS_PER_TURN]:
            cell = self.recorder.cell_starts(turn, code)
            if self.quarantine is not None:
                self.quarantine.learn(code)
            result = await self.repl.run(code)
            _fill(cell, result, self.limits.max_output_chars)
            self.recorder.cell_ends(turn, cell, _facts(result))
            anew = await self._fresh_box(turn, result.lost_because or "") if result.status == "lost" else ""
            view = CellView(cell=result, notes=_notes(result, self.limits, anew), lines=code.count("\n") + 1)
            ran.views.append(view)
            ran.ran.append(_seen(cell, result))
            ran.ok = result.status == "ok"
            if ran.ok:
                self.names.learn(code)
            ran.answer = result.answer
            ran.time_is_over = result.clock == "run"
            if ran.time_is_over:
                break
            if not ran.ok or ran.answer is not None:
                break
        return ran

    async def _fresh_box(self, turn: Turn, because: str) -> str:
        """Take a fresh box; what the root is told of it."""
        self.recorder.box_lost(turn, because)
        restored = await self.repl.restart()
        if restored is None:
            return STARTED_ANEW
        self.recorder.replayed(cells=restored.cells, failed=restored.failed, done=restored.done)
        return restored.said

    def shown(self, ran: CellsRun, most_chars: int) -> str | None:
        """What the root is shown of them; None where there were none.

        Args:
            ran: What came of them.
            most_chars: Of their output.
        """
        if not ran.views:
            return None
        if self.quarantine is not None:
            self.recorder.turns[-1].values = typed_report(ran.views, self.quarantine).shown
            return render_typed(ran.views, self.quarantine)
        return render_observation(ran.views, most_chars)


def _seen(cell: Cell, result: CellResult) -> Ran:
    """For `Progress`. What cells were answered counts too: a loop over chunks need not print."""
    replies = tuple((call.prompt, call.reply) for call in cell.sub_calls)
    did = hash((cell.code, cell.status, cell.output, cell.error, repr(result.reports), replies))
    return Ran(ok=result.status == "ok", did=did, ended=_ended(result))


def _ended(result: CellResult) -> str:
    """How a cell failed, in words of the host."""
    if result.lost_because:
        return "the REPL was lost"
    return "a clock stopped it" if result.clock else error_type(result.error.name) if result.error else ""


def _notes(result: CellResult, limits: Limits, anew: str) -> tuple[str, ...]:
    """What the host says of a cell, beside what the cell says."""
    notes = []
    if result.clock:
        used = {"wall": f"{limits.cell_wall_s:,g} s", "cpu": f"{limits.cell_cpu_s:,g} CPU seconds"}
        notes.append(f"the cell was stopped after {used.get(result.clock, 'the time of the run')}")
    if result.lost_because:
        notes.append(f"the REPL was lost ({result.lost_because}). {anew}")
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
