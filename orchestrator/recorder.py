"""Keeps what happens in a run: the turns for the result, and events for whoever listens (trace, progress)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.limits import Usage
from orchestrator.providers.base import ModelReply
from orchestrator.result import Cell, StopReason, SubCall, Turn
from orchestrator.trace import TraceEvent

Listener = Callable[[TraceEvent], None]
"""Is called with each event, on the event loop: be quick, raise nothing."""

MAX_REFUSALS_KEPT = 100


class Recorder:
    """One run's memory of itself."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = tuple(listeners)
        self._started = time.monotonic()
        self._refused = 0
        self.turns: list[Turn] = []
        self._cell: Cell | None = None
        self._over = False
        self.outside_calls: list[SubCall] = []
        """Sub-calls made while no turn's cell runs: those of a `REPLEnvironment`."""

    @property
    def wall_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def emit(self, kind: str, facts: dict[str, Any] | None = None, **texts: str | None) -> None:
        """Tell all listeners; nothing after the run's end."""
        if self._over:
            return
        present = {name: text for name, text in texts.items() if text is not None}
        event = TraceEvent(kind=kind, t_s=self.wall_s, facts=facts or {}, texts=present)
        for listener in self._listeners:
            listener(event)

    def turn(self, reply: ModelReply, wall_s: float) -> Turn:
        """The root has replied."""
        turn = Turn(number=len(self.turns) + 1, response=reply.text, usage=reply.usage, wall_s=wall_s)
        self.turns.append(turn)
        facts = {"turn": turn.number, "finish_reason": reply.finish_reason, "wall_s": round(wall_s, 6)}
        self.emit("turn", facts | {"usage": dataclasses.asdict(reply.usage)}, response=reply.text)
        return turn

    def cell_starts(self, turn: Turn, code: str) -> Cell:
        """A cell runs now; sub-calls belong to it until the next one."""
        cell = Cell(code=code)
        turn.cells.append(cell)
        self._cell = cell
        self.emit("cell_start", {"turn": turn.number, "cell": len(turn.cells), "code": code})
        return cell

    def cell_ends(self, turn: Turn, cell: Cell, facts: dict[str, Any]) -> None:
        """The cell has ended; its fields are filled in."""
        told = {"turn": turn.number, "cell": len(turn.cells), "status": cell.status, "wall_s": round(cell.wall_s, 6)}
        self.emit("cell", told | facts, output=cell.output, error=cell.error)

    def sub_call(self, call: SubCall) -> None:
        """A sub-call was answered, failed or was refused."""
        (self._cell.sub_calls if self._cell is not None else self.outside_calls).append(call)
        facts = {
            "turn": len(self.turns),
            "model": call.model,
            "error_kind": call.error_kind,
            "usage": dataclasses.asdict(call.usage) if call.usage else None,
            "wall_s": round(call.wall_s, 6),
        }
        self.emit("sub_call", facts, prompt=call.prompt, data=call.data, reply=call.reply, error=call.error)

    def refused(self, call: SubCall) -> None:
        """A sub-call was refused. A cell can ask without end, so few are kept, and little of each."""
        self._refused += 1
        if self._refused <= MAX_REFUSALS_KEPT:
            call.shorten()
            self.sub_call(call)

    def box_lost(self, turn: Turn, because: str) -> None:
        """The box is gone and a fresh one is taken. `because` is the host's own words."""
        self.emit("box_lost", {"turn": turn.number, "because": because})

    def run_ends(self, stop_reason: StopReason, usage: Usage, answer: str | None) -> None:
        """The run is over."""
        self.emit("run_end", {"stop_reason": stop_reason.value, "usage": dataclasses.asdict(usage)}, answer=answer)
        self._over = True
