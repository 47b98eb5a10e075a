"""The numbers of a run's live line: what happens now, and how much of each limit is used."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from orchestrator.spent import counted
from orchestrator.trace import PIECES, TraceEvent


class Tally:
    """Counts what the events say. Written on the event loop, read by the thread that draws the line."""

    def __init__(self) -> None:
        self._limits: dict[str, Any] = {}
        self._started = time.monotonic()
        self._now("starting")
        self._turn = 1
        self._turns = self._tokens = self._sub_calls = 0
        self._failures: Counter[str] = Counter()
        self._in_flight: set[int] = set()
        self._reply = 0
        self.calls_of_cell = self.tools_of_cell = 0

    def take(self, event: TraceEvent) -> None:
        """Count one event."""
        facts = event.facts
        if facts.get("run"):
            self._take_of_child(event)
            return
        if event.kind in PIECES:
            self._piece(event)
            return
        match event.kind:
            case "run_start":
                self._limits = facts["limits"]
                self._started = time.monotonic()
                self._now("starting the box")
            case "box":
                self._now("asking the root")
            case "turn":
                self._turns = facts["turn"]
                self._turn = self._turns + 1  # until a cell of it runs
                self._now("asking the root")
                self._add_tokens(facts)
            case "cell_start":
                self._cell_starts(facts)
            case "sub_call_start":
                self._in_flight.add(facts["call"])
            case "sub_call" | "refusal" | "tool_call":
                self._call(event)
            case "cell":
                self._turn = facts["turn"] + 1
                self._now("asking the root")

    def _cell_starts(self, facts: dict[str, Any]) -> None:
        self.calls_of_cell = self.tools_of_cell = 0
        self._failures.clear()
        self._turn = facts["turn"]
        self._now(f"running cell {facts['cell']}")

    def _piece(self, event: TraceEvent) -> None:
        """The root writes, or a cell prints."""
        if event.kind == "token":
            if event.facts["reply"] != self._reply:
                self._reply, self._chars = event.facts["reply"], 0
            self._doing = "the root writes"
        self._chars += len(event.texts["text"])

    def _call(self, event: TraceEvent) -> None:
        facts = event.facts
        self._failures.update([facts["error_kind"]] if facts["error_kind"] else [])
        if event.kind == "tool_call":
            self.tools_of_cell += 1
            return
        self._in_flight.discard(facts["call"] or 0)
        self._sub_calls += 1
        self.calls_of_cell += 1
        self._add_tokens(facts)

    def _take_of_child(self, event: TraceEvent) -> None:
        """To the run above, a child's root is one more sub-model."""
        if event.kind in ("turn", "sub_call"):
            self._sub_calls += 1
            self._add_tokens(event.facts)

    def _now(self, doing: str) -> None:
        self._doing, self._since, self._chars = doing, time.monotonic(), 0

    def _add_tokens(self, facts: dict[str, Any]) -> None:
        if facts["usage"]:
            self._tokens += facts["usage"]["input_tokens"] + facts["usage"]["output_tokens"]

    def calls_line(self) -> str:
        """The sub-calls and tool calls of the cell that has ended, as a part of its line."""
        numbers = ((self.calls_of_cell, "sub-call"), (self.tools_of_cell, "tool call"))
        made = "".join(f", {counted(number, noun)}" for number, noun in numbers if number)
        failed = ", ".join(f"{number:,} {kind}" for kind, number in self._failures.items())
        return made + (f" ({failed})" if failed else "")

    def status(self) -> str:
        """What happens now first: a narrow terminal cuts the end off."""
        now = time.monotonic()
        parts = [
            f"{self._doing}, {self._seen()}{now - self._since:.0f} s",
            f"turn {self._of(self._turn, 'max_turns')}",
            f"{self._of(self._sub_calls, 'max_sub_calls')} sub-calls",
            f"{self._of(self._tokens, 'max_tokens')} tokens",
            self._time_left(now),
        ]
        return " · ".join(parts)

    def _seen(self) -> str:
        """What came of it so far."""
        if waiting := len(self._in_flight):
            return f"{waiting:,} asked, "
        return f"{short(self._chars)} chars, " if self._chars else ""

    def so_far(self) -> str:
        """What a run that is left behind has used, as far as is known."""
        return f"{counted(self._turns, 'turn')}, {counted(self._sub_calls, 'sub-call')}, {self._tokens:,} tokens so far"

    def _of(self, number: int, limit: str) -> str:
        most = self._limits.get(limit, "unlimited")
        if most == "unlimited":
            return short(number)
        return f"{short(min(number, most) if limit == 'max_turns' else number)}/{short(most)}"

    def _time_left(self, now: float) -> str:
        most = self._limits.get("max_wall_s", "unlimited")
        if most == "unlimited":
            return f"{_clock(now - self._started)} gone"
        return f"{_clock(max(0.0, most - (now - self._started)))} left"


def short(number: float) -> str:
    """A number in few characters: 950, 2.1k, 19k, 2M."""
    units = ["", "k", "M", "G", "T"]
    while number >= 999.5 and len(units) > 1:
        number /= 1000
        del units[0]
    unit = units[0]
    shown = f"{number:.1f}" if unit and number < 9.95 else f"{number:.0f}"
    return shown.removesuffix(".0") + unit


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
