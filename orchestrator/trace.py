"""The trace: one JSONL file for each run, one line for each event.

By default a line holds code, sizes, digests, usage and timings, and no text that the document may have written: of
each text it says its length and SHA-256. With ``keep_text`` the text stands beside them. Journal, audit log and
views read this one format.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    """One thing that happened.

    Attributes:
        kind: ``run_start``, ``turn``, ``cell_start``, ``cell``, ``sub_call``, ``box_lost``, ``answer`` or ``run_end``.
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
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"the trace {str(self.path)!r} can't be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")

    def __call__(self, event: TraceEvent) -> None:
        """Write one event; on disk before the next thing happens."""
        record = event.to_record(keep_text=self._keep_text)
        if event.kind == "run_start":
            record = {"format": FORMAT, **record}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
