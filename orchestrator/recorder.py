"""Keeps what happens in a run: the turns for the result, and events for whoever listens (trace, progress)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from orchestrator.audience import Audience, Listener
from orchestrator.facts import call_facts, call_texts, same_messages
from orchestrator.limits import KIB, MIB, Usage
from orchestrator.live import LiveText
from orchestrator.permit import Overbill
from orchestrator.providers.base import Message, ModelReply
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
from orchestrator.tool_record import ToolCall
from orchestrator.trace import TraceEvent

__all__ = ["Listener", "Recorder"]

MAX_REFUSALS_KEPT: Final = 100
MAX_DECISIONS_KEPT: Final = 100
MAX_REPLY_CHARS_TOLD: Final = 4 * MIB
"""Of one reply as it is written; no limit allows a longer one."""

_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
_OF_CHILDREN = {"run_start": "child_start", "run_end": "child_end"}
_PLACES = {"on_request": "prompts", "on_reply": "replies", "on_answer": "answer"}


class Recorder:
    """One run's memory of itself.

    Args:
        audience: Who is told what happens: an `Audience`, or listeners.
        run: Number of a child run; 0: the first run.
        depth: Of its root.
        output_chars: Of one cell's output, what is told while it is printed.
        ask: Number of a session's question, from 1; 0: it belongs to no session.
    """

    def __init__(
        self,
        audience: Audience | Sequence[Listener] = (),
        *,
        run: int = 0,
        depth: int = 0,
        output_chars: int = 20 * KIB,
        ask: int = 0,
    ) -> None:
        self._audience = audience if isinstance(audience, Audience) else Audience(audience)
        self.run = run
        self._ask = ask
        self._child = {"run": run, "run_depth": depth} if run else {}
        self._output_chars = output_chars
        self._output: LiveText | None = None
        self._started = time.monotonic()
        self._refused = 0
        self._sent = self._replies = 0
        self._conversation: list[Message] = []
        self.turns: list[Turn] = []
        self._cell: Cell | None = None
        self._over = False
        self.boxes_lost = 0
        self.outside_calls: list[SubCall] = []
        """Sub-calls made while no turn's cell runs: those of a `REPLEnvironment`."""
        self.sub_replies: list[SubReply] = []
        self.decisions: list[PolicyDecision] = []
        self.decision_count = 0
        self.redactions: Counter[str] = Counter()
        self.violations: list[str] = []

    def child(self, *, run: int, depth: int) -> Recorder:
        """The memory of a child run: same listeners, whose events carry its number."""
        child = Recorder(self._audience, run=run, depth=depth, output_chars=self._output_chars, ask=self._ask)
        child._started = self._started
        return child

    def goes_on(self, spent_s: float) -> None:
        """Earlier lives of the run, which is resumed, have taken so long."""
        self._started -= spent_s

    @property
    def place(self) -> tuple[int, int]:
        """The turn, and the cell in it that runs or has run last."""
        return len(self.turns), len(self.turns[-1].cells) if self.turns else 0

    @property
    def wall_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def trace(self) -> TraceInfo | None:
        """The trace that is written, where one is."""
        return self._audience.trace

    def emit(self, kind: str, facts: dict[str, Any] | None = None, **texts: str | None) -> None:
        """Tell all listeners; nothing after the run's end."""
        self._tell(kind, facts or {}, texts)

    def show(self, kind: str, facts: dict[str, Any], **texts: str | None) -> None:
        """Tell those that watch something that no trace holds; nothing after the run's end."""
        self._tell(kind, facts, texts, transient=True)

    def _tell(self, kind: str, facts: dict[str, Any], texts: dict[str, str | None], *, transient: bool = False) -> None:
        if self._over:
            return
        if self._child:
            kind = _OF_CHILDREN.get(kind, kind)
        present = {name: text for name, text in texts.items() if text is not None}
        told = ({"ask": self._ask} if self._ask else {}) | self._child | facts
        self._audience.tell(TraceEvent(kind=kind, t_s=self.wall_s, facts=told, texts=present, transient=transient))

    def reply_begins(self) -> LiveText | None:
        """The root is asked; whoever has its reply's text as it comes adds it here, and closes it with the attempt.

        Each attempt is a reply of its own, with a number of its own.

        Returns:
            None where nobody watches.
        """
        if not self._audience.watches:
            return None
        self._replies += 1
        facts = {"turn": len(self.turns) + 1, "reply": self._replies}
        return LiveText(
            lambda _, text, cut: self.show("token", facts | {"cut": cut}, text=text),
            MAX_REPLY_CHARS_TOLD,
        )

    def turn(self, reply: ModelReply, wall_s: float, sent: Sequence[Message] = ()) -> Turn:
        """The root has replied.

        Args:
            reply: What it said.
            wall_s: Seconds it took.
            sent: What it was sent. Of it is told what is new since its last reply: ``kept`` messages stand as they
                were, the reply to them included, and the others follow.
        """
        turn = Turn(number=len(self.turns) + 1, response=reply.text, usage=reply.usage, wall_s=wall_s)
        self.turns.append(turn)
        kept = same_messages(self._conversation, sent)
        self._conversation = [*sent, Message(role="assistant", content=reply.text)]
        new = {f"sent_{number}_{sent[number].role}": sent[number].content for number in range(kept, len(sent))}
        facts = {"turn": turn.number, "finish_reason": reply.finish_reason, "wall_s": round(wall_s, 6), "kept": kept}
        self.emit("turn", facts | {"usage": reply.usage.as_dict()}, **new, response=reply.text)
        return turn

    def cell_starts(self, turn: Turn, code: str) -> Cell:
        """A cell runs now; sub-calls belong to it until the next one."""
        cell = Cell(code=code)
        turn.cells.append(cell)
        self._cell = cell
        place = {"turn": turn.number, "cell": len(turn.cells)}
        self.emit("cell_start", place | {"code": code})
        if self._audience.watches:
            self._output = LiveText(
                lambda stream, text, cut: self.show("output", place | {"stream": stream, "cut": cut}, text=text),
                self._output_chars,
            )
        return cell

    def output(self, stream: str, text: str) -> None:
        """The running cell has printed something, or shown its last value; of what comes after it, nothing is told."""
        if self._output is not None:
            self._output.add(stream, text)

    def cell_ends(self, turn: Turn, cell: Cell, facts: dict[str, Any]) -> None:
        """The cell has ended; its fields are filled in."""
        if self._output is not None:
            self._output.close()
            self._output = None
        told = {"turn": turn.number, "cell": len(turn.cells), "status": cell.status, "wall_s": round(cell.wall_s, 6)}
        self.emit("cell", told | facts, output=cell.output, error=cell.error)

    def budget(self, left: dict[str, Any]) -> None:
        """A turn is over; `left` is what `budget()` would return in a cell now."""
        self.emit("budget", {"turn": len(self.turns), "left": left})

    def sub_call_starts(self, call: SubCall) -> None:
        """A sub-call is sent to its model for the first time; `sub_call`, of the same number, says what came of it."""
        self._sent += 1
        call.number = self._sent
        turn, cell = len(self.turns), self.place[1]
        facts = {"turn": turn, "cell": cell, "call": call.number, "model": call.model, "depth": call.depth}
        self.show("sub_call_start", facts, prompt=call.prompt, data=call.data)

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
        self.emit("sub_call", self._facts(call) | {"left": left}, **call_texts(call))

    def refused(self, call: SubCall, left: dict[str, Any] | None = None) -> None:
        """A sub-call was refused. A cell can ask without end, so few are kept, and little of each."""
        self._refused += 1
        if self._refused <= MAX_REFUSALS_KEPT:
            sizes = {"asked_chars": len(call.prompt) + len(call.data or "")}
            call.shorten()
            self._keep(call)
            self.emit("refusal", self._facts(call) | sizes | {"left": left}, **call_texts(call))

    def tool_call(self, call: ToolCall, left: dict[str, Any] | None = None) -> None:
        """A tool was called, or a call was not made: of those, which have no end, few are kept, and little of each."""
        if not call.called:
            self._refused += 1
            if self._refused > MAX_REFUSALS_KEPT:
                return
            call.shorten()
        if self._cell is not None:
            self._cell.tool_calls.append(call)
        told = {"turn": len(self.turns), **call.facts(), "left": left}
        self.emit("tool_call", told, arguments=call.arguments, result=call.result, error=call.error)

    def _keep(self, call: SubCall) -> None:
        (self._cell.sub_calls if self._cell is not None else self.outside_calls).append(call)

    def _facts(self, call: SubCall) -> dict[str, Any]:
        turn, cell = self.place
        return {"turn": turn, "cell": cell, **call_facts(call)}

    def policy(self, decision: PolicyDecision) -> None:
        """A policy redacted, refused or reported. All are counted; of those on sub-calls, which never end, few kept."""
        if self.policy_again(decision):
            self.emit("policy", {"turn": len(self.turns)} | dataclasses.asdict(decision))

    def policy_again(self, decision: PolicyDecision) -> bool:
        """Count what a policy did, without telling: an earlier life of the run has told. Whether it was kept."""
        self.decision_count += 1
        if decision.action == "redact":
            self.redactions[_PLACES[decision.hook]] += decision.count
        if kept := len(self.decisions) < MAX_DECISIONS_KEPT or decision.role == "root":
            self.decisions.append(decision)
        return kept

    def violation(self, what: str) -> None:
        """The box broke the protocol. `what` is the host's words, but what it quotes is the box's."""
        self.violations.append(what)
        plain = _QUOTED.sub(lambda quoted: f"({len(quoted[0]) - 2} characters)", what)
        self.emit("violation", {"turn": len(self.turns), "kind_of_violation": plain}, what=what)

    def overbilled(self, model: str, overbill: Overbill) -> None:
        """A provider billed more than was reserved, which ends the run."""
        self.emit("overbilled", {"turn": len(self.turns), "model": model} | json_values(overbill))

    def fallback(self, model: str, other: str, *, role: str, depth: int, status: int | None) -> None:
        """A model was out and another one is asked; `status` is what its server answered, where it did."""
        facts = {"turn": len(self.turns), "from": model, "to": other, "role": role, "depth": depth}
        self.emit("fallback", facts | {"status": status})

    def box_lost(self, turn: Turn, because: str) -> None:
        """The box is gone and a fresh one is taken. `because` is the host's own words."""
        self.boxes_lost += 1
        self.emit("box_lost", {"turn": turn.number, "because": because})

    def replayed(self, *, cells: int, failed: int, done: bool) -> None:
        """In the fresh box the earlier cells ran once more (``on_kill="replay"``): then nothing was lost."""
        self.boxes_lost -= done and cells > 0
        self.emit("replayed", {"turn": len(self.turns), "cells": cells, "failed": failed, "done": done})

    def last_chance(self, reply: ModelReply | None, wall_s: float, *, failure: str | None = None) -> None:
        """The root was asked for its best answer behind the last turn; `failure` is the error that came instead."""
        facts = {"turn": len(self.turns), "wall_s": round(wall_s, 6), "failure": failure}
        usage = reply.usage.as_dict() if reply else None
        self.emit("last_chance", facts | {"usage": usage}, response=reply.text if reply else None)

    def compaction(self, facts: dict[str, Any], reply: ModelReply | None, wall_s: float) -> None:
        """Old turns have left the root's conversation; `reply` is its summary of them, where there is one."""
        usage = reply.usage.as_dict() if reply else None
        told = {"turn": len(self.turns), "wall_s": round(wall_s, 6), "usage": usage}
        self.emit("compaction", told | facts, summary=reply.text if reply else None)

    def strategy(self, number: int, *, root: str, prompt_mode: str, why: str) -> None:
        """The run is stuck and goes on by its strategy of this number, from 1. `why` is the host's own words."""
        facts = {"turn": len(self.turns), "strategy": number, "root": root, "prompt_mode": prompt_mode, "why": why}
        self.emit("strategy", facts)

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
        if answer is not None and not self.run:
            self.show("answer", {"answer_kind": answer_kind, "valid": valid}, answer=answer)
        self.emit("run_end", facts, answer=answer)
        self._over = True
