"""The trace: one JSONL file for each run, one line for each event.

By default a line holds code, sizes, digests, usage and timings, and no text that the document may have written: of
each text it says its length and a digest. With ``keep_text`` the text stands beside them. Journal, audit log and views
read this one format. Code is the root model's own, and in ``observe="full"`` the root may have copied words of the
document into it. In code and kept text, what has the form of a secret is replaced (`orchestrator.policies.secrets`).

A digest is an HMAC-SHA-256 of the text, under a key that the run drew: who reads the trace alone can't find a short
text by trying (a plain hash of "yes" is known to all). The key stands in `TraceFile.digest_key` and in the result, and
in the first line where text is kept anyway; with it, anybody who has a text can show that the trace means this text.
Documents' digests are plain SHA-256, so that the file can be told: of a very short document they can be guessed too.

It is an audit log too: each line begins with the SHA-256 of the line before it, so an edit, a removal or a new order
shows (`orchestrator.audit_log`). A cut at the end, or a file written anew, shows only against the digest of the last
line, the head, which therefore must be kept elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigError
from orchestrator.policies.secrets import redact_secrets
from orchestrator.result import TraceInfo

FORMAT: Final = "airlock-trace/2"
NO_LINE: Final = "0" * 64
"""What the first line has in the place of a digest."""
PIECES: Final = ("token", "output")
"""Kinds that come in pieces of one text, which another event brings whole; all of them are transient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    """One thing that happened.

    Attributes:
        kind: What: `orchestrator/trace_schema.json` lists all kinds, with the facts and the texts of each.
        t_s: Seconds since the run's start.
        facts: JSON values that hold no text of the document, of a model's reply or of a cell's output; but ``code``,
            which the root wrote and may have copied words into.
        texts: Texts that may.
        transient: Only for who watches the run: no trace holds it. Another event says the same later, or more.
    """

    kind: str
    t_s: float
    facts: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    transient: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON values, as the schema describes them: kind, time, facts and texts side by side."""
        return {"kind": self.kind, "t_s": round(self.t_s, 6), **self.facts, **self.texts}


def checked_directory(field: str, given: object) -> Path | None:
    """A directory that a caller named, if any. Whether it can be written shows when it is.

    Raises:
        ConfigError: It is no path.
    """
    if given is None or (isinstance(given, str | Path) and str(given).strip()):
        return None if given is None else Path(given)
    raise ConfigError(f"{field}: {given!r:.80} is no path of a directory")


class TraceFile:
    """Appends events to a new file that only its owner can read. It is locked until it is closed (`orchestrator.kept`).

    Args:
        directory: Where to make it (0700); made where it is missing.
        keep_text: Whether texts stand in it.
        redact: Whether secrets are replaced in code and in kept text.

    Attributes:
        head: SHA-256 of the last line written.
        digest_key: Key of the texts' digests, in hex.
        redactions: Secrets replaced so far.

    Raises:
        ConfigError: The directory can't be written.
    """

    def __init__(self, directory: Path, *, keep_text: bool, redact: bool = True) -> None:
        self._keep_text = keep_text
        self._redact = redact
        self.head = NO_LINE
        self.digest_key = secrets.token_hex(16)
        self.redactions = 0
        self.path = directory / self._name()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_CREAT | os.O_CLOEXEC | self._OPEN_FLAGS, 0o600)
        except OSError as error:
            raise ConfigError(f"the trace {str(self.path)!r} can't be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "r+" if self._OPEN_FLAGS & os.O_RDWR else "w", encoding="utf-8")
        self._lock()

    _OPEN_FLAGS = os.O_WRONLY | os.O_EXCL

    def _name(self) -> str:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return f"{stamp}-{secrets.token_hex(4)}.jsonl"

    def _lock(self) -> None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __call__(self, event: TraceEvent) -> None:
        """Write one event; on disk before the next thing happens."""
        self._write(self._record(event))

    def _write(self, record: dict[str, Any]) -> None:
        line = json.dumps({"previous": self.head} | record)
        self.head = hashlib.sha256(line.encode()).hexdigest()
        self._file.write(line + "\n")
        self._file.flush()

    def _record(self, event: TraceEvent) -> dict[str, Any]:
        record: dict[str, Any] = {"kind": event.kind, "t_s": round(event.t_s, 6), **event.facts}
        if event.kind == "run_start":
            record["format"] = FORMAT
            if self._keep_text:
                record["digest_key"] = self.digest_key
        if isinstance(record.get("code"), str):
            record["code"] = self._cleaned(record["code"])
        for name, text in event.texts.items():
            record[f"{name}_chars"] = len(text)
            record[f"{name}_digest"] = text_digest(text, self.digest_key)
            if self._keep_text:
                record[name] = self._cleaned(text)
        if event.kind == "run_end":
            record["redactions_in_trace"] = self.redactions
        return record

    def _cleaned(self, text: str) -> str:
        if not self._redact:
            return text
        text, count = redact_secrets(text)
        self.redactions += count
        return text

    def info(self) -> TraceInfo:
        """What its reader needs."""
        return TraceInfo(path=str(self.path), head=self.head, digest_key=self.digest_key, redactions=self.redactions)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def text_digest(text: str, key: str) -> str:
    """The digest that a trace has of a text.

    Args:
        text: The text, before anything was redacted in it.
        key: The trace's ``digest_key``, in hex.
    """
    return hmac.digest(bytes.fromhex(key), text.encode("utf-8", "surrogatepass"), "sha256").hex()
