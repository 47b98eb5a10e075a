"""Whether a trace is as the run wrote it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigError
from orchestrator.limits import MIB
from orchestrator.trace import FORMAT, NO_LINE
from sandbox.value_size import has_more_values

MAX_LINE_BYTES: Final = 128 * MIB
"""No run writes a longer one: its largest is a sub-call of 4 MiB with a reply of 4 MiB, each character escaped."""
MAX_LINE_VALUES: Final = 1_000_000
"""Lists, objects and their items. Nor one with more: its longest list has some thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What `verify_trace` found.

    Attributes:
        problem: What is wrong, with the line's number, or None.
        lines: Lines read.
        head: SHA-256 of the last of them.
        ended: Whether the last line is the run's end.
    """

    problem: str | None
    lines: int
    head: str
    ended: bool


def verify_trace(path: Path, *, anchor: str | None = None) -> Verdict:
    """Check a trace's chain, and its head against an anchor that was kept elsewhere.

    With the anchor, whatever was changed after the run shows. Without it, what was changed by somebody who also wrote
    all later digests anew can't be told: an edit of the last line, a cut at the end (unless `ended` is false), another
    file in its place. Nor can it be told, with or without, whether the run wrote the truth.

    Args:
        path: The trace.
        anchor: The head that the run reported, in hex; None where nobody kept it.

    Raises:
        ConfigError: The file can't be read.
    """
    head, number, ended = NO_LINE, 0, False
    try:
        with path.open("rb") as file:
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                record = read_line(raw)
                problem = check_line(record, head, number, ended=ended)
                if problem:
                    return Verdict(problem=problem, lines=number, head=head, ended=False)
                head, ended = hashlib.sha256(raw[:-1]).hexdigest(), record["kind"] == "run_end"
    except OSError as error:
        raise ConfigError(f"the trace {str(path)!r} can't be read: {error.strerror}") from error
    problem = None
    if number == 0:
        problem = "the file is empty"
    elif anchor is not None and anchor.strip().lower() != head:
        problem = f"the last line's digest is {head}, not the anchor: the end was cut off, or the file is another one"
    return Verdict(problem=problem, lines=number, head=head, ended=ended)


def read_line(raw: bytes) -> dict[str, Any]:
    """A line as the run wrote it: one object, each key once, no other way to write the same; else {}."""
    if has_more_values(raw, MAX_LINE_VALUES):
        return {}
    try:
        record = json.loads(raw)
        same = json.dumps(record).encode() == raw[:-1] and raw.endswith(b"\n")
    except (ValueError, RecursionError):
        return {}
    return record if same and isinstance(record, dict) else {}


def check_line(record: dict[str, Any], head: str, number: int, *, ended: bool) -> str | None:
    """What is wrong with a line.

    Args:
        record: What `read_line` made of it.
        head: Digest of the line before it.
        number: From 1.
        ended: Whether the line before it is the run's end. Behind it goes on a run that was resumed, or the next
            question of a session.
    """
    next_question = ended and _is_next_question(record)
    if ended and record.get("kind") != "resume" and not next_question:
        return f"line {number} stands behind the run's end"
    if not record:
        return f"line {number} is cut, or not as a run writes it"
    if record.get("previous") != head:
        return f"line {number} does not follow line {number - 1}: one of them was changed, moved or removed"
    if (record.get("kind") == "run_start") != (number == 1) and not next_question:
        return f"line {number} is not the start of a run" if number == 1 else f"line {number} is another run's start"
    if number == 1 and record.get("format") != FORMAT:
        return f"line 1 is not the start of a trace of format {FORMAT}"
    return None if isinstance(record.get("kind"), str) else f"line {number} names no event"


def _is_next_question(record: dict[str, Any]) -> bool:
    ask = record.get("ask")
    return record.get("kind") == "run_start" and type(ask) is int and ask > 1
