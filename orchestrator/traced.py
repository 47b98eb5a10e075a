"""A trace or a journal, read back: the runs in it, with their turns, cells and calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orchestrator.audit_log import MAX_LINE_BYTES, MAX_LINE_VALUES
from orchestrator.errors import ConfigError
from orchestrator.journal import FILE as JOURNAL_FILE
from sandbox.value_size import has_more_values

_CALLS: Final = ("sub_call", "refusal")
MAX_PROMPT_CHARS: Final = 4 << 30
"""Of what the roots of one file were sent, all turns together: each turn's prompt holds the one before it again."""
_MESSAGE_CHARS: Final = 1_000  # what a message counts beside its text

Event = dict[str, Any]
"""One line, as `trace_schema.json` describes it."""


@dataclass(slots=True)
class TracedCell:
    """One cell: its start, its end where it came to one, and what it asked."""

    start: Event
    end: Event | None = None
    calls: list[Event] = field(default_factory=list)
    tool_calls: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class TracedTurn:
    """One reply of the root, what it was sent (role and content), and what came of it."""

    event: Event
    messages: list[dict[str, str]]
    cells: list[TracedCell] = field(default_factory=list)
    other_events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class TracedRun:
    """One run: of a file's runs the first, a child, or a question of a session.

    Attributes:
        conversation: What the root was sent last, and its reply.
    """

    start: Event
    turns: list[TracedTurn] = field(default_factory=list)
    other_events: list[Event] = field(default_factory=list)
    last_chance: Event | None = None
    end: Event | None = None
    conversation: list[dict[str, str]] = field(default_factory=list)

    @property
    def has_text(self) -> bool:
        """Whether the trace holds what was said, and not only its sizes."""
        return "question" in self.start

    def take(self, event: Event) -> None:
        """Take one event of it."""
        known = _TAKE.get(event["kind"])
        if known is None:
            self._other(event)
        else:
            known(self, event)

    def _turn(self, event: Event) -> None:
        self.conversation = [*self.conversation[: event["kept"]], *_messages_of(event)]
        self.turns.append(TracedTurn(event, self.conversation))
        self.conversation = [*self.conversation, {"role": "assistant", "content": event.get("response", "")}]

    def _cell_start(self, event: Event) -> None:
        if self.turns:
            self.turns[-1].cells.append(TracedCell(event))

    def _cell(self, event: Event) -> None:
        if cell := self._last_cell():
            cell.end = event

    def _call(self, event: Event) -> None:
        if cell := self._last_cell():
            (cell.calls if event["kind"] in _CALLS else cell.tool_calls).append(event)
        else:
            self._other(event)

    def _last(self, event: Event) -> None:
        self.last_chance = event

    def _ends(self, event: Event) -> None:
        self.end = event

    def _last_cell(self) -> TracedCell | None:
        return self.turns[-1].cells[-1] if self.turns and self.turns[-1].cells else None

    def _other(self, event: Event) -> None:
        (self.turns[-1].other_events if self.turns else self.other_events).append(event)


_TAKE: Final[dict[str, Callable[[TracedRun, Event], None]]] = {
    "turn": TracedRun._turn,
    "cell_start": TracedRun._cell_start,
    "cell": TracedRun._cell,
    **dict.fromkeys((*_CALLS, "tool_call"), TracedRun._call),
    "last_chance": TracedRun._last,
    **dict.fromkeys(("run_end", "child_end"), TracedRun._ends),
}


def _messages_of(event: Event) -> list[dict[str, str]]:
    """The new messages of a turn, in order; without text where the trace has none."""
    found = [name.split("_") for name in event if name.startswith("sent_") and name.endswith("_digest")]
    places = sorted((int(number), role) for _, number, role, _ in found)
    return [{"role": role, "content": event.get(f"sent_{number}_{role}", "")} for number, role in places]


@dataclass(slots=True)
class TracedFile:
    """The runs of one file.

    Attributes:
        runs: By a session's question (0: none) and the run's number (0: no child).
        prompt_chars: About how long the prompts of all turns are together.
    """

    runs: dict[tuple[int, int], TracedRun] = field(default_factory=dict)
    prompt_chars: int = 0

    def take(self, event: Event) -> None:
        """Take one event."""
        key = (event.get("ask", 0), event.get("run", 0))
        if event["kind"] in ("run_start", "child_start"):
            self.runs.setdefault(key, TracedRun(event))
        elif run := self.runs.get(key):
            run.take(event)
            if event["kind"] == "turn":
                messages = run.turns[-1].messages
                self.prompt_chars += sum(_MESSAGE_CHARS + len(message["content"]) for message in messages)

    @property
    def first_runs(self) -> list[TracedRun]:
        """All that are no children: one, or a session's questions in order."""
        return [run for (_, number), run in self.runs.items() if number == 0]

    def child(self, call: Event) -> TracedRun | None:
        """The child run that answered a sub-call."""
        return self.runs.get((call.get("ask", 0), call["child_run"])) if call.get("child_run") else None


def read_trace(path: Path) -> TracedFile:
    """Read a trace, or the directory of a journal. A run that was killed has no end, and perhaps half a last line.

    Args:
        path: The file or the directory.

    Raises:
        ConfigError: It can't be read, or a line of it is none of a trace's. Whether somebody changed it is not checked
            (`verify_trace`).
    """
    file = TracedFile()
    for number, event in _events(path / JOURNAL_FILE if path.is_dir() else path):
        try:
            file.take(event)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{str(path)!r}: line {number} is no event of a trace ({error!r:.80})") from error
        if file.prompt_chars > MAX_PROMPT_CHARS:
            raise ConfigError(f"{str(path)!r}: line {number}: the prompts of all turns together are too long")
    if not file.runs:
        raise ConfigError(f"{str(path)!r} is no trace: no line of it begins a run")
    return file


def _events(path: Path) -> Iterator[tuple[int, Event]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""), start=1):
                if not line.endswith(b"\n"):
                    return  # the run was killed as it wrote it
                yield number, _event(line, f"{str(path)!r}: line {number}")
    except OSError as error:
        raise ConfigError(f"the trace {str(path)!r} can't be read: {error.strerror}") from error


def _event(line: bytes, where: str) -> Event:
    try:
        event = None if has_more_values(line, MAX_LINE_VALUES) else json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
        raise ConfigError(f"{where} is no event of a trace")
    return event
