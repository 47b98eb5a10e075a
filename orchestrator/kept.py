"""The traces that `airlock ask` keeps in the state directory, and their age limit."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.store import state_dir

KEEP_DAYS: Final = 30
"""Days for which a trace is kept by default."""
MAX_KEEP_DAYS: Final = 36_500

_NAME: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\.jsonl", re.ASCII)
_DAY_S: Final = 24 * 3600


def traces_dir() -> Path:
    """Where `airlock ask` writes its traces."""
    return state_dir() / "traces"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTrace:
    """One trace on disk.

    Attributes:
        path: Its file.
        age_days: Days since its last line.
    """

    path: Path
    age_days: float

    def in_use(self) -> bool:
        """Whether the run that writes it still lasts."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    def remove(self) -> str:
        """Remove it; says why it could not, or "" where it is gone."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            return f"it can't be removed: {error.strerror}"
        return ""


def kept_traces(directory: Path) -> list[KeptTrace]:
    """The traces in a directory, by name: plain files of this user that are named as we name them, and nothing else.

    Symbolic links are not followed, also not where the directory is one.
    """
    now = time.time()
    return sorted(
        (KeptTrace(path=path, age_days=(now - status.st_mtime) / _DAY_S) for path, status in _traces(directory)),
        key=lambda trace: trace.path,
    )


def _traces(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(directory.lstat().st_mode):
            return
        for path in directory.iterdir():
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                        yield path, status


def remove_old_traces(directory: Path, keep_days: int) -> None:
    """Remove the traces whose last line is older.

    Args:
        directory: Where the traces are.
        keep_days: 0 keeps them for ever.
    """
    if keep_days:
        for trace in kept_traces(directory):
            if trace.age_days > keep_days:
                trace.remove()
