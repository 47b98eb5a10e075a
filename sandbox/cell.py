"""What one cell did, as far as the host believes it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

CellStatus = Literal["ok", "error", "interrupted", "lost"]
"""ok; error: the code raised; interrupted: a clock ran out and the cell gave way; lost: the box is gone."""

Clock = Literal["wall", "cpu", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text out of the box: at most head and tail are kept, `true_chars` is the whole size (as the box says)."""

    text: str = ""
    true_chars: int = 0

    def __bool__(self) -> bool:
        return bool(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellError:
    """The exception that ended a cell; all three texts come from the box, and `line` too (0: none)."""

    name: str
    message: str
    traceback: str
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What a cell did. All text is the box's word: show it escaped, believe nothing of it.

    Attributes:
        status: How it ended.
        stdout: What it printed.
        stderr: What it wrote to stderr.
        result: Plain text of its last expression's value.
        error: The exception, where the code raised one.
        answer: Text it gave to FINAL or FINAL_VAR, where it ended well.
        clock: The clock that ran out, where one did.
        lost_because: Why the box is gone, in words for the model, where it is.
        wall_s: Seconds from start to end.
        waited_s: Those of them with a sub-call in flight.
        reports: What it gave to `report`: values by name, of legal types and sizes, their texts unchecked.
        late_chars: Characters that threads of earlier cells wrote before this one, dropped.
    """

    status: CellStatus
    stdout: Text = Text()
    stderr: Text = Text()
    result: Text = Text()
    error: CellError | None = None
    answer: str | None = None
    clock: Clock | None = None
    lost_because: str | None = None
    wall_s: float = 0.0
    waited_s: float = 0.0
    late_chars: int = 0
    reports: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class Capture:
    """Keeps head and tail of one stream within twice `chars`, however much comes."""

    chars: int
    total: int = 0
    _head: list[str] = field(default_factory=list)
    _head_chars: int = 0
    _tail: deque[str] = field(default_factory=deque)
    _tail_chars: int = 0

    def add(self, text: str) -> None:
        """Take one message's text."""
        self.total += len(text)
        room = self.chars - self._head_chars
        if room > 0:
            self._head.append(text[:room])
            self._head_chars += len(self._head[-1])
            text = text[room:]
        if text:
            self._tail.append(text[-self.chars :])
            self._tail_chars += len(self._tail[-1])
            while self._tail_chars - len(self._tail[0]) >= self.chars:
                self._tail_chars -= len(self._tail.popleft())

    def text(self, true_chars: int) -> Text:
        """What was kept; the box's count stands unless we saw more."""
        kept = "".join(self._head) + "".join(self._tail)[-self.chars :]
        return Text(text=kept, true_chars=max(true_chars, self.total))
