"""Contexts on their way to a box: stored once, linked into a directory that the box sees read-only.

One process has one store, a directory of its own under the state directory, locked for as long as the process lives.
Whoever starts next removes the stores whose lock is free: nothing with document text outlives its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sandbox.errors import SandboxError

Form = Literal["text", "json"]


def state_dir() -> Path:
    """``$AIRLOCK_STATE``, else ``$XDG_STATE_HOME/airlock``, else ``~/.local/state/airlock``."""
    if configured := os.environ.get("AIRLOCK_STATE"):
        return Path(configured).absolute()
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "airlock"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredContext:
    """One context in the store.

    Attributes:
        digest: SHA-256 of its bytes, in hex; also its file name.
        form: ``text`` (UTF-8, lone surrogates as WTF-8 has them) or ``json``.
        size_bytes: Its size.
    """

    digest: str
    form: Form
    size_bytes: int


class Store:
    """The contexts of one process.

    Args:
        root: Directory that holds all stores of this user; made where it is missing.

    Raises:
        SandboxError: The directory can't be written; names it.
    """

    def __init__(self, root: Path) -> None:
        self._users: Counter[str] = Counter()
        self._changing = threading.Lock()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(root):  # nobody takes our new directory for an orphan before it is locked
                remove_orphans(root)
                self._dir = root / secrets.token_hex(8)
                self._dir.mkdir(mode=0o700)
                self._lock: int | None = _lock(self._dir, wait=False)
            (self._dir / "blobs").mkdir(mode=0o700)
        except OSError as error:
            raise SandboxError(
                f"the content store {str(root)!r} can't be written: {error.strerror}; set AIRLOCK_STATE"
            ) from error

    def put(self, value: Any) -> StoredContext:
        """Store a str as text, or a list or dict as JSON. Each `put` has its `forget`.

        Raises:
            SandboxError: The disk is full or the store can't be written.
        """
        form: Form = "text" if isinstance(value, str) else "json"
        raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()
        digest = hashlib.sha256(raw).hexdigest()
        with self._changing:
            if not self._users[digest]:
                self._write(self._dir / "blobs" / digest, raw)
            self._users[digest] += 1
        return StoredContext(digest=digest, form=form, size_bytes=len(raw))

    def _write(self, path: Path, raw: bytes) -> None:
        part = path.with_suffix(".part")
        try:
            part.write_bytes(raw)
            part.chmod(0o444)
            part.rename(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise SandboxError(f"storing a context of {len(raw):,} bytes failed: {error.strerror}") from error

    def new_box_dir(self) -> Path:
        """A directory to mount into one box. The box's user is another one, so it is open to all who know its name."""
        path = self._dir / f"box-{secrets.token_hex(8)}"
        path.mkdir()
        path.chmod(0o755)
        return path

    def link(self, context: StoredContext, box_dir: Path) -> str:
        """Show a context to a box: hard-linked, so that all boxes share its pages; returns its name there.

        Raises:
            SandboxError: It was forgotten.
        """
        with contextlib.suppress(FileExistsError):
            try:
                os.link(self._dir / "blobs" / context.digest, box_dir / context.digest)
            except FileNotFoundError:
                raise SandboxError("the context is not in the store any more, or its box has no directory") from None
        return context.digest

    def remove_box_dir(self, box_dir: Path) -> None:
        """Forget one box."""
        shutil.rmtree(box_dir, ignore_errors=True)

    def forget(self, context: StoredContext) -> None:
        """Take back one `put`; the last one removes the context. Boxes that have it linked keep it until they go."""
        with self._changing:
            self._users[context.digest] -= 1
            if self._users[context.digest] <= 0:
                del self._users[context.digest]
                (self._dir / "blobs" / context.digest).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the whole store. Safe to call twice."""
        shutil.rmtree(self._dir, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(directory: Path, *, wait: bool) -> int:
    """The system frees the lock when the process is gone, however it went."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = _lock(directory, wait=True)
    try:
        yield
    finally:
        os.close(descriptor)


def remove_orphans(root: Path) -> None:
    """Remove the stores of processes that are gone."""
    for directory in root.iterdir():
        with contextlib.suppress(OSError):
            descriptor = _lock(directory, wait=False)
            shutil.rmtree(directory, ignore_errors=True)
            os.close(descriptor)
