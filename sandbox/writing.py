"""Files of the content store: written and hashed at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sandbox.errors import SandboxError

BESIDE_BYTES: Final = 16 << 20
"""Of what is hashed in one thread and written in another: SHA-256 takes as long as the write and all else. On a machine
whose cores are all busy the second thread has to wait for one, which less than that is not worth."""


def write(path: Path, raw: bytes) -> None:
    """Write a file of the store: ROOT/STORE/blobs/FILE.

    Raises:
        SandboxError: The disk is full, or it can't be written.
    """
    try:
        path.write_bytes(raw)
    except OSError as error:
        raise SandboxError(
            f"storing a context of {len(raw):,} bytes failed: {error.strerror}; "
            f"make room at {str(path.parents[2])!r}, or set AIRLOCK_STATE to a directory with room"
        ) from error


def write_hashed(path: Path, raw: bytes, meanwhile: Callable[[], object] = lambda: None) -> str:
    """Write a file of the store, and do something else while a large one is hashed; returns its SHA-256 in hex.

    Raises:
        SandboxError: As `write`.
    """
    if len(raw) < BESIDE_BYTES:
        write(path, raw)
        meanwhile()
        return hashlib.sha256(raw).hexdigest()
    with HashBeside() as beside:
        beside.update(raw)
        write(path, raw)
        meanwhile()
        return beside.hexdigest()


class HashBeside:
    """SHA-256 in a thread of its own, a chunk at a time, while the caller does something else with that chunk."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, "airlock-hash")
        self._last: Future[None] | None = None

    def update(self, chunk: bytes) -> None:
        """Take the next chunk, when the one before it is done."""
        self._wait()
        self._last = self._thread.submit(self._sha256.update, chunk)

    def hexdigest(self) -> str:
        """Of all that was taken."""
        self._wait()
        return self._sha256.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def __enter__(self) -> HashBeside:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
