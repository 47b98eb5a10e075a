"""The trace: one JSONL file for each run, one line for each event.

By default a line holds code, sizes, digests, usage and timings, and no text that the document may have written: of
each text it says its length and SHA-256. With ``keep_text`` the text stands beside them. Journal, audit log and
views read this one format.

It is an audit log too: each line begins with the SHA-256 of the line before it, so an edit, a removal or a new order
shows (`verify_trace`). A cut at the end, or a file written anew, shows only against the digest of the last line, the
head, which therefore must be kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigError

FORMAT: Final = "airlock-trace/1"
NO_LINE: Final = "0" * 64
"""What the first line has in the place of a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    """One thing that happened.

    Attributes:
        kind: ``run_start``, ``setup``, ``box`` (what the audit of a new box says), ``turn``, ``cell_start``, ``cell``,
            ``sub_call``, ``box_lost`` or ``run_end``.
        t_s: Seconds since the run's start.
        facts: JSON values that hold no text of the document, of a model's reply or of a cell's output.
        texts: Texts that may.
    """

    kind: str
    t_s: float
    facts: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def to_record(self, *, keep_text: bool) -> dict[str, Any]:
        """The event as one JSON object."""
        record: dict[str, Any] = {"kind": self.kind, "t_s": round(self.t_s, 6), **self.facts}
        for name, text in self.texts.items():
            record[f"{name}_chars"] = len(text)
            record[f"{name}_sha256"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            if keep_text:
                record[name] = text
        return record


class TraceFile:
    """Appends events to a new file that only its owner can read.

    Args:
        directory: Where to make it (0700); made where it is missing.
        keep_text: Whether texts stand in it.

    Raises:
        ConfigError: The directory can't be written.
    """

    def __init__(self, directory: Path, *, keep_text: bool) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.path = directory / f"{stamp}-{secrets.token_hex(4)}.jsonl"
        self._keep_text = keep_text
        self.head = NO_LINE
        """SHA-256 of the last line written."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"the trace {str(self.path)!r} can't be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")

    def __call__(self, event: TraceEvent) -> None:
        """Write one event; on disk before the next thing happens."""
        record = event.to_record(keep_text=self._keep_text)
        start = {"previous": self.head} | ({"format": FORMAT} if event.kind == "run_start" else {})
        line = json.dumps(start | record)
        self.head = hashlib.sha256(line.encode()).hexdigest()
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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

    Without an anchor, a cut at the end (unless `ended` is false) and a file that was written anew can't be told.

    Args:
        path: The trace.
        anchor: The head that the run reported, in hex; None where nobody kept it.

    Raises:
        ConfigError: The file can't be read.
    """
    head, number, ended = NO_LINE, 0, False
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                problem, ended = _check_line(raw, head, number)
                if problem:
                    return Verdict(problem=problem, lines=number, head=head, ended=False)
                head = hashlib.sha256(raw[:-1]).hexdigest()
    except OSError as error:
        raise ConfigError(f"the trace {str(path)!r} can't be read: {error.strerror}") from error
    problem = None
    if number == 0:
        problem = "the file is empty"
    elif anchor is not None and anchor.strip().lower() != head:
        problem = f"the last line's digest is {head}, not the anchor: the end was cut off, or the file is another one"
    return Verdict(problem=problem, lines=number, head=head, ended=ended)


def _check_line(raw: bytes, head: str, number: int) -> tuple[str | None, bool]:
    """What is wrong with a line, and whether it is a run's last."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not raw.endswith(b"\n"):
        return f"line {number} is cut or no JSON object", False
    if record.get("previous") != head:
        return f"line {number} does not follow line {number - 1}: one of them was changed, moved or removed", False
    if number == 1 and record.get("format") != FORMAT:
        return f"line 1 is not the start of a trace of format {FORMAT}", False
    return None, record.get("kind") == "run_end"
