"""Texts that are too large to be held in memory: from a file into the store, in chunks, counted on the way."""

from __future__ import annotations

import codecs
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from sandbox.errors import SandboxError
from sandbox.store import Store, StoredContext
from sandbox.text_index import CHUNK_BYTES, TextIndex, Utf8Check
from sandbox.writing import HashBeside

_FREE_BYTES: Final = 64 * 1024 * 1024
"""Of the store's disk, left free for all else."""


class Stopped(Exception):
    """Somebody asked for it. Nothing is left of what was begun."""


def put_text_file(store: Store, source: Path, *, stopped: Callable[[], bool] = lambda: False) -> StoredContext:
    """Copy a UTF-8 file into the store. As after `Store.put`, there is a `forget` to it; it is counted, not lazy yet.

    Takes what SHA-256 takes, or the disk where that is slower, and no more memory than for two chunks. A leading byte
    order mark is left out.

    Args:
        store: Where to.
        source: A regular file. Whoever changes it afterwards does not change the copy.
        stopped: Asked at each chunk whether to give up.

    Raises:
        NotUtf8: It is not UTF-8; names the first wrong byte, counted from the file's beginning.
        SandboxError: It is no regular file, grows while it is read, or does not fit the disk.
        OSError: It can't be read.
        Stopped: Asked for.
    """
    with source.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SandboxError("is no regular file")
        _check_room(store, status.st_size)
        part = store.new_part()
        try:
            copy = _Copy(part, most_bytes=status.st_size)
            copy.take_all(file, stopped)
            return store.adopt(
                part,
                digest=copy.digest,
                form="text",
                size_bytes=copy.size_bytes,
                index=copy.index,
                is_ascii=copy.index.counts.chars == copy.size_bytes,
            )
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def index_text(store: Store, context: StoredContext) -> StoredContext:
    """Count a text that the store has already.

    Raises:
        SandboxError: It is not there, or the disk is full.
    """
    index = TextIndex()
    try:
        with store.blob(context).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                index.add(chunk)
    except OSError as error:
        raise SandboxError(f"a context of {context.size_bytes:,} bytes can't be read: {error.strerror}") from error
    return store.add_index(context, index)


class _Copy:
    """A file on its way into the store."""

    def __init__(self, part: Path, *, most_bytes: int) -> None:
        self._part = part
        self._most_bytes = most_bytes
        self.size_bytes = 0
        self.digest = ""
        self.index = TextIndex()

    def take_all(self, file: BinaryIO, stopped: Callable[[], bool]) -> None:
        mark = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        file.seek(mark)
        self._most_bytes -= mark
        check = Utf8Check(mark)
        with self._part.open("wb", buffering=0) as part, HashBeside() as beside:
            while chunk := file.read(CHUNK_BYTES):
                if stopped():
                    raise Stopped
                beside.update(chunk)
                check.add(chunk)
                self._take(chunk, part)
            self.digest = beside.hexdigest()
        check.finish()

    def _take(self, chunk: bytes, part: BinaryIO) -> None:
        self.size_bytes += len(chunk)
        if self.size_bytes > self._most_bytes:
            raise SandboxError("grows while it is read")
        self.index.add(chunk)
        try:
            left = memoryview(chunk)
            while left:
                left = left[part.write(left) :]
        except OSError as error:
            raise SandboxError(
                f"can't be copied: {error.strerror}; make room at {str(self._part.parent)!r}, or set AIRLOCK_STATE"
            ) from error


def _check_room(store: Store, size_bytes: int) -> None:
    free = shutil.disk_usage(store.folder).free
    if size_bytes + _FREE_BYTES > free:
        raise SandboxError(
            f"has {size_bytes:,} bytes, and {str(store.folder)!r}, where it must be copied, has {free:,} free; "
            "make room, or set AIRLOCK_STATE to a directory with room"
        )
