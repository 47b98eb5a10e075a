"""The journal: what a run needs to go on after its process was killed, in a directory of its own.

``journal.jsonl`` is a trace (`orchestrator.trace`) with all text and nothing redacted, and between its events stand
notes: each reply of a model, each attempt's reservation before it is sent and its bill behind it, each child run's
start. ``run.json`` says what was asked, about which files, and how. A context that can't be read again stands in
``context.json``. All of it is for its owner alone, holds the document's text wherever a model saw it, and no key.

A run that is resumed is the same run once more: its cells run in a fresh box, and whatever they or the root ask is
answered from here (`orchestrator.memory`). It appends to the same file, where a line ``resume`` begins each life.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import stat
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import ConfigError
from orchestrator.journal_context import files_record, read_again, write_copy, write_new
from orchestrator.limits import MIB, UNLIMITED, Usage
from orchestrator.record_reader import read_record
from orchestrator.recorded import Record, event_key
from orchestrator.regular_file import open_regular
from orchestrator.result import RunResult, StopReason
from orchestrator.seal import is_sealed, seal_of
from orchestrator.trace import TraceEvent, TraceFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.context import Context
    from orchestrator.settings import RunSettings

FORMAT: Final = "airlock-journal/1"
FILE: Final = "journal.jsonl"
ABOUT: Final = "run.json"
MAX_ABOUT_BYTES: Final = 8 * MIB

_SYNCED: Final = frozenset({"run_start", "root_reply", "call", "permit", "cell", "resume", "run_end"})
"""Lines after which the disk has them: what was paid for, and what is done again otherwise."""


class JournalFile(TraceFile):
    """The trace in a journal: goes on where it stopped, and leaves out the events that it has already.

    Attributes:
        record: What it held when it was opened.

    Raises:
        ConfigError: Another process has it, it can't be written or read, or it was changed.
    """

    _OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK  # of a pipe, too, nobody waits for

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, keep_text=True, redact=False)
        try:
            self.record: Record = read_record(self.path)
            os.ftruncate(self._file.fileno(), self.record.size_bytes)
        except BaseException:
            self._file.close()
            raise
        self.head = self.record.head
        self.digest_key = self.record.digest_key or self.digest_key
        self._known = Counter(self.record.events)
        self._started = time.monotonic() - self.record.wall_s

    def _name(self) -> str:
        return FILE

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(f"the journal {str(self.path.parent)!r} is in use: a run writes it now") from None
        except OSError:  # a file system without locks
            pass

    def __call__(self, event: TraceEvent) -> None:
        """Write one event, where it is not one of an earlier life that happens again."""
        key = event_key(event.kind, event.facts)
        if self._known[key] > 0:
            self._known[key] -= 1
            return
        super().__call__(event)

    def note(self, kind: str, **facts: Any) -> None:
        """Write a line that is no event."""
        self._write({"kind": kind, "t_s": round(time.monotonic() - self._started, 6), **facts})

    def _write(self, record: dict[str, Any]) -> None:
        super()._write(record)
        if record["kind"] in _SYNCED and not _is_free_failure(record):
            with contextlib.suppress(OSError):  # a file system that can't
                os.fdatasync(self._file.fileno())


def _is_free_failure(record: dict[str, Any]) -> bool:
    """Whether it is what cost nothing and brought nothing. A cell can be refused ten thousand times, and a disk takes
    milliseconds for each line that it is waited for.
    """
    return record["kind"] == "call" and record["failure"] is not None and not record["permits"]


class Journal:
    """A journal that is open, for one life of its run. Use `create` or `open`, and `close` at the end.

    Attributes:
        directory: Where it is.
        about: What was asked, about what, and how, as ``run.json`` has it.
        file: Its trace; None where nothing is written.
        record: What earlier lives left in it.
        own: Whether ``run.json`` is as this user wrote it on this machine (`orchestrator.seal`). What another one says
            of models, addresses, files and limits is a stranger's word.
        allow_divergence: Whether a question that is not in the record is paid for, instead of ending the run.
        asks_nobody: Whether this life is for comparing alone: whatever is not in the record, fails.
    """

    def __init__(self, directory: Path, about: dict[str, Any]) -> None:
        self.directory = directory
        self.about = about
        self.file: JournalFile | None = None
        self.record = Record()
        self.own = True
        self.allow_divergence = False
        self.asks_nobody = False

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        question: str,
        context: Context,
        settings: RunSettings,
        files: Sequence[str] = (),
        command: dict[str, Any] | None = None,
    ) -> Journal:
        """Begin one.

        Args:
            directory: Where; made where it is missing, and has no journal yet.
            question: What is asked.
            context: About what, in its normal form.
            settings: How.
            files: The files that the context was read from; where there are none, a copy of it is kept.
            command: The command's options, for `airlock resume`.

        Raises:
            ConfigError: The directory has a journal, another user may change it, or it can't be written.
        """
        if os.path.lexists(directory / ABOUT) or os.path.lexists(directory / FILE):
            raise ConfigError(
                f"{str(directory)!r} has a journal already: name another directory, or resume it "
                f"(airlock resume {directory})"
            )
        about = {
            "format": FORMAT,
            "question": question,
            "models": _models(settings),
            "settings": _settings(settings),
            "context": files_record(files) if files else {"copy_sha256": None},
            "command": command,
        }
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_others(directory)
            if not files:
                about["context"] = {"copy_sha256": write_copy(directory, context)}
            write_new(directory / ABOUT, json.dumps(about | {"seal": seal_of(about)}, indent=1).encode())
        except OSError as error:
            raise ConfigError(f"the journal {str(directory)!r} can't be written: {error.strerror}") from error
        journal = cls(directory, about)
        journal._write_on()
        return journal

    def _write_on(self) -> None:
        self.file = JournalFile(self.directory)
        self.record = self.file.record

    @classmethod
    def open(cls, directory: Path, *, to_compare: bool = False) -> Journal:
        """Open one to go on with it.

        Args:
            directory: Where it is.
            to_compare: Only to see whether it happens once more, which is another run: nothing is written, and no
                model is asked.

        Raises:
            ConfigError: There is none, it is of another format, was changed, or another run has it.
        """
        path = directory / ABOUT
        try:
            with open_regular(path) as file:
                about = json.loads(file.read(MAX_ABOUT_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            why = getattr(error, "strerror", None) or "is not JSON"
            raise ConfigError(f"{str(directory)!r} is no journal: {ABOUT}: {why}") from error
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            found = about.get("format") if isinstance(about, dict) else None
            raise ConfigError(f"{path}: the format is {found!r:.40}, and this version of Airlock reads {FORMAT!r}")
        missing = [name for name in ("question", "models", "settings", "context", "command") if name not in about]
        if missing or not isinstance(about["question"], str) or not isinstance(about["context"], dict):
            raise ConfigError(f"{path}: {', '.join(missing) or 'question or context'} is missing or wrong")
        seal = about.pop("seal", None)
        journal = cls(directory, about)
        journal.own = is_sealed(about, seal)
        if to_compare:
            journal.asks_nobody = True
            journal.record = read_record(directory / FILE)
            journal.record.wall_s = 0.0
        else:
            journal._write_on()
        return journal

    def context(self) -> Context:
        """What the run is about, read again.

        Raises:
            ConfigError: It is not what it was.
            ContextError: A file can't be read.
        """
        return read_again(self.about["context"], self.directory)

    def check(self, settings: RunSettings) -> None:
        """Whether a run with these settings is the one that is recorded. Limits may differ.

        Raises:
            ConfigError: It is not.
        """
        found = _models(settings)
        for name, value in self.about["models"].items():
            if found.get(name) != value:
                now, then = f"{found.get(name)!r:.400}", f"{value!r:.400}"
                raise ConfigError(f"{name}: {now} is not what the journal was begun with: {then}")

    def begins(self) -> None:
        """A life of the run begins."""
        if self.record.lives:
            self.note("resume", life=self.record.lives + 1)

    def note(self, kind: str, **facts: Any) -> None:
        """Write a line that is no event."""
        if self.file is not None:
            self.file.note(kind, **facts)

    def result(self) -> RunResult | None:
        """How the run ended, where it has ended for good."""
        end = self.record.end
        if end is None:
            return None
        try:
            return RunResult(
                answer=None if end.get("answer") is None else str(end["answer"]),
                answer_kind=end["answer_kind"],
                valid=end["valid"],
                stop_reason=StopReason(end["stop_reason"]),
                stop_detail=end["stop_detail"],
                usage=_usage(end["usage"]),
                turns=(),
                isolation=None,
                trace=self.file.info() if self.file else None,
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(f"{self.directory / FILE}: the run's end is not complete: {error!r:.80}") from error

    @property
    def trace(self) -> JournalFile:
        """The file, where it is written."""
        if self.file is None:
            raise RuntimeError("a journal that was opened to compare is not written")
        return self.file

    def close(self) -> None:
        """Let go of it."""
        if self.file is not None:
            self.file.close()


def _usage(values: dict[str, Any]) -> Usage:
    cost = values["cost_usd"]
    return Usage(**values | {"cost_usd": None if cost is None else Decimal(str(cost))})


def _models(settings: RunSettings) -> dict[str, Any]:
    """What must be the same in all lives of a run."""
    return {
        "root": settings.root.name,
        "sub": settings.sub.name if settings.sub else None,
        "observe": settings.observe,
        "prompt_mode": settings.prompt_mode,
        "strategies": [strategy.facts for strategy in settings.strategies],
    }


def _settings(settings: RunSettings) -> dict[str, Any]:
    """What the box and the loop need to do the same again without the program that began it."""
    return {
        "limits": {name: _plain(value) for name, value in dataclasses.asdict(settings.limits).items()},
        "sub_llms": {name: model.name for name, model in settings.sub_llms.items()},
        "isolation": settings.spec.isolation,
        "image": settings.spec.image,
        "setup_code": settings.setup_code,
        "on_depth_limit": settings.on_depth_limit,
        "on_kill": settings.on_kill,
        "output_schema": settings.schema.text if settings.schema else None,
    }


def _plain(value: float | Decimal) -> float | str:
    if value == UNLIMITED:
        return "unlimited"
    return str(value) if isinstance(value, Decimal) else value


def _refuse_others(directory: Path) -> None:
    """Who may change the directory could read what is put into it, and say what a resumed run does."""
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"another user may change {str(directory)!r}: name a directory of your own for the journal")
