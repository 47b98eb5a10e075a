"""A directory that belongs to one process: locked while the process lives, removed by whoever comes next when it died.

The system frees a lock when the last process that holds it is gone, however it went. Names are a prefix and 16
hexadecimal digits: nothing else is ever looked at, since the directories around may be the user's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from sandbox.leftovers import Kind, Leftover

_TRIES: Final = 100
"""A directory that somebody takes for an orphan before it is locked is made again, under another name."""


class OwnedDir:
    """A new directory (0700) that this process owns.

    Args:
        parent: Where; it exists.
        prefix: How its name begins.

    Attributes:
        path: Its path.
        lock: The descriptor that holds the lock. A child process that writes into the directory should hold it too
            (``pass_fds``): it may outlive us.

    Raises:
        OSError: It can't be made or locked. Nothing is left then.
    """

    def __init__(self, parent: Path, prefix: str = "") -> None:
        for _ in range(_TRIES):
            self.path = parent / f"{prefix}{secrets.token_hex(8)}"
            self.path.mkdir(mode=0o700)
            try:
                lock = _lock(self.path)
            except OSError:
                self.path.rmdir()
                raise
            if lock is not None:
                self.lock: int = lock
                self._owner = os.getpid()
                self._open = True
                return
        raise OSError(f"no directory in {str(parent)!r} stays long enough to be locked")

    def close(self) -> None:
        """Remove it with all that is in it. Safe to call twice, and in a forked child, where it does nothing."""
        if self._open and self._owner == os.getpid():
            self._open = False
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self.lock)


def find_owned(parent: Path, prefix: str, kind: Kind, *, live_too: bool = False) -> list[Leftover]:
    """All directories of this kind in `parent`. Those of dead processes go, and with `live_too` all."""
    found = []
    for path in _candidates(parent, prefix):
        dead = _is_orphan(path)
        why = "its process is gone" if dead else "its process is alive"
        remove = partial(asyncio.to_thread, _remove, path, live_too=live_too) if dead or live_too else None
        found.append(Leftover(kind=kind, name=str(path), why=why, remove=remove))
    return found


def remove_orphans(parent: Path, prefix: str) -> None:
    """Remove the directories of processes that are gone."""
    for path in _candidates(parent, prefix):
        _remove(path)


def _is_orphan(path: Path) -> bool:
    with contextlib.suppress(OSError):
        lock = _lock(path)
        if lock is not None:
            os.close(lock)
            return True
    return False


def _remove(path: Path, *, live_too: bool = False) -> str:
    """Remove one; says why it could not."""
    try:
        lock = _lock(path)
    except OSError as error:
        return f"it can't be locked: {error.strerror}"
    if lock is None and not live_too:
        return "its process is alive" if path.exists() else ""
    shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        os.close(lock)
    return "it can't be removed: is something in it another user's?" if path.exists() else ""


def _candidates(parent: Path, prefix: str) -> Iterator[Path]:
    """Real directories, of this user, whose names are ours."""
    name = re.compile(re.escape(prefix) + "[0-9a-f]{16}")
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                        yield Path(entry.path)


def _lock(path: Path) -> int | None:
    """The lock of a directory; None where somebody else has it, or it is not there any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
