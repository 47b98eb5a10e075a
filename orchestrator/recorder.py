"""Keeps what happens in a run: the turns for the result, and events for whoever listens (trace, progress)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.limits import Usage
from orchestrator.permit import Overbill
from orchestrator.providers.base import ModelReply
from orchestrator.result import (
    AnswerKind,
    Cell,
    PolicyDecision,
    StopReason,
    SubCall,
    SubReply,
    TraceInfo,
    Turn,
    json_values,
)
from orchestrator.trace import TraceEvent, TraceFile

Listener = Callable[[TraceEvent], None]
"""Is called with each event, on the event loop: be quick, raise nothing."""

MAX_REFUSALS_KEPT = 100
MAX_DECISIONS_KEPT = 100

_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
_OF_CHILDREN = {"run_start": "child_start", "run_end": "child_end"}
_PLACES = {"on_request": "prompts", "on_reply": "replies", "on_answer": "answer"}


class Recorder:
    """One run's memory of itself."""

    def __init__(self, listeners: Sequence[Listener] = (), *, run: int = 0, depth: int = 0) -> None:
        self._listeners = tuple(listeners)
        self._child = {"run": run, "run_depth": depth} if run else {}
        self._started = time.monotonic()
        self._refused = 0
        self.turns: list[Turn] = []
        self._cell: Cell | None = None
        self._over = False
        self.outside_calls: list[SubCall] = []
        """Sub-calls made while no turn's cell runs: those of a `REPLEnvironment`."""
        self.sub_replies: list[SubReply] = []
        self.decisions: list[PolicyDecision] = []
        self.decision_count = 0
        self.redactions: Counter[str] = Counter()
        self.violations: list[str] = []

    def child(self, *, run: int, depth: int) -> Recorder:
        """The memory of a child run: same listeners, whose events carry its number."""
        child = Recorder(self._listeners, run=run, depth=depth)
        child._started = self._started
        return child

    @property
    def wall_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def trace(self) -> TraceInfo | None:
        """The trace that is written, where one is."""
        files = (listener.info() for listener in self._listeners if isinstance(listener, TraceFile))
        return next(files, None)

    def emit(self, kind: str, facts: dict[str, Any] | None = None, **texts: str | None) -> None:
        """Tell all listeners; nothing after the run's end."""
        if self._over:
            return
        present = {name: text for name, text in texts.items() if text is not None}
        if self._child:
            kind = _OF_CHILDREN.get(kind, kind)
        event = TraceEvent(kind=kind, t_s=self.wall_s, facts=self._child | (facts or {}), texts=present)
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

    def sub_call(self, call: SubCall, left: dict[str, Any] | None = None) -> None:
        """A sub-call was answered or failed.

        Args:
            call: What was asked and what came of it.
            left: What it left of the run's budget.
        """
        self._keep(call)
        if call.reply is not None:
            raw = call.reply.encode("utf-8", "surrogatepass")
            digest = hashlib.sha256(raw).hexdigest()
            given = SubReply(turn=len(self.turns), model=call.model, size_bytes=len(raw), sha256=digest)
            self.sub_replies.append(given)
        self.emit("sub_call", self._facts(call) | {"left": left}, **_texts(call))

    def refused(self, call: SubCall, left: dict[str, Any] | None = None) -> None:
        """A sub-call was refused. A cell can ask without end, so few are kept, and little of each."""
        self._refused += 1
        if self._refused <= MAX_REFUSALS_KEPT:
            sizes = {"asked_chars": len(call.prompt) + len(call.data or "")}
            call.shorten()
            self._keep(call)
            self.emit("refusal", self._facts(call) | sizes | {"left": left}, **_texts(call))

    def _keep(self, call: SubCall) -> None:
        (self._cell.sub_calls if self._cell is not None else self.outside_calls).append(call)

    def _facts(self, call: SubCall) -> dict[str, Any]:
        return {
            "turn": len(self.turns),
            "model": call.model,
            "depth": call.depth,
            "error_kind": call.error_kind,
            "usage": dataclasses.asdict(call.usage) if call.usage else None,
            "wall_s": round(call.wall_s, 6),
        }

    def policy(self, decision: PolicyDecision) -> None:
        """A policy redacted, refused or reported. All are counted; of those on sub-calls, which never end, few kept."""
        self.decision_count += 1
        if decision.action == "redact":
            self.redactions[_PLACES[decision.hook]] += decision.count
        if len(self.decisions) < MAX_DECISIONS_KEPT or decision.role == "root":
            self.decisions.append(decision)
            self.emit("policy", {"turn": len(self.turns)} | dataclasses.asdict(decision))

    def violation(self, what: str) -> None:
        """The box broke the protocol. `what` is the host's words, but what it quotes is the box's."""
        self.violations.append(what)
        plain = _QUOTED.sub(lambda quoted: f"({len(quoted[0]) - 2} characters)", what)
        self.emit("violation", {"turn": len(self.turns), "kind_of_violation": plain}, what=what)

    def overbilled(self, model: str, overbill: Overbill) -> None:
        """A provider billed more than was reserved, which ends the run."""
        self.emit("overbilled", {"turn": len(self.turns), "model": model} | json_values(overbill))

    def box_lost(self, turn: Turn, because: str) -> None:
        """The box is gone and a fresh one is taken. `because` is the host's own words."""
        self.emit("box_lost", {"turn": turn.number, "because": because})

    def last_chance(self, reply: ModelReply | None, wall_s: float, *, failure: str | None = None) -> None:
        """The root was asked for its best answer behind the last turn; `failure` is the error that came instead."""
        facts = {"turn": len(self.turns), "wall_s": round(wall_s, 6), "failure": failure}
        usage = dataclasses.asdict(reply.usage) if reply else None
        self.emit("last_chance", facts | {"usage": usage}, response=reply.text if reply else None)

    def invalid_answer(self, faults: list[str], words: str) -> None:
        """An answer does not fit the schema; `faults` are the host's and the schema's words, `words` may quote it."""
        self.emit("invalid_answer", {"turn": len(self.turns), "faults": faults}, words=words or None)

    def run_ends(
        self,
        stop_reason: StopReason,
        usage: Usage,
        answer: str | None,
        *,
        answer_kind: AnswerKind | None = None,
        valid: bool | None = None,
        failure: str | None = None,
        stop_detail: str | None = None,
    ) -> None:
        """The run is over. `failure` is the type of the error that ended it, where one did."""
        facts = {
            "stop_reason": stop_reason.value,
            "stop_detail": stop_detail,
            "answer_kind": answer_kind,
            "valid": valid,
            "failure": failure,
            "usage": json_values(usage),
            "policy_decisions": self.decision_count,
            "redactions": dict(self.redactions),
        }
        self.emit("run_end", facts, answer=answer)
        self._over = True


def _texts(call: SubCall) -> dict[str, str | None]:
    return {"prompt": call.prompt, "data": call.data, "reply": call.reply, "error": call.error}
