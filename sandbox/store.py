"""Contexts on their way to a box: stored once, linked into a directory that the box sees read-only.

One process has one store, a directory of its own under the state directory (`sandbox.owned_dir`). Whoever starts next
removes the stores of dead processes: nothing with document text outlives its process for longer.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sandbox.errors import SandboxError
from sandbox.owned_dir import OwnedDir, remove_orphans
from sandbox.spec import MODULES
from sandbox.text_index import TextCounts, TextIndex
from sandbox.writing import write, write_hashed

Form = Literal["text", "json"]

STORE_PREFIX: Final = "store-"
INDEX_SUFFIX: Final = ".index"
"""Of the file beside a text by which the box finds its characters."""
LARGE_BYTES: Final = 1 << 20
"""Of a text that is known again while it is in use."""


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
        counts: Its characters and newlines, where they were counted.
        lazy: Whether the box reads it where it is looked at, by an index; else it is loaded whole.
        is_ascii: Whether it is known to have nothing but ASCII: the box reads it without a look at it.
    """

    digest: str
    form: Form
    size_bytes: int
    counts: TextCounts | None = None
    lazy: bool = False
    is_ascii: bool = False


def _refuse_shared(root: Path) -> None:
    """Who may rename a directory above the store could read what is put into it.

    Raises:
        SandboxError: Another user than this one and root may.
    """
    for folder in (root.resolve(), *root.resolve().parents):
        status = folder.stat()
        writable = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or writable:
            raise SandboxError(f"another user may change {str(folder)!r}, above the content store; set AIRLOCK_STATE")


class Store:
    """The contexts of one process.

    Args:
        root: Directory that holds all stores of this user; made where it is missing.

    Raises:
        SandboxError: The directory can't be written, or another user could put another one in its place; names it.
    """

    def __init__(self, root: Path) -> None:
        self._users: Counter[str] = Counter()
        self._texts: dict[int, tuple[str, StoredContext]] = {}  # large ones in use, by their id
        self._changing = threading.Lock()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_shared(root)
            remove_orphans(root, STORE_PREFIX)
            self._owned = OwnedDir(root, STORE_PREFIX)
            self._dir = self._owned.path
            self._make_blobs()
        except OSError as error:
            raise SandboxError(
                f"the content store {str(root)!r} can't be written: {error.strerror}; set AIRLOCK_STATE"
            ) from error

    def _make_blobs(self) -> None:
        try:
            (self._dir / "blobs").mkdir(mode=0o700)
        except BaseException:
            self.close()
            raise

    def put(self, value: Any, *, counted: bool = False) -> StoredContext:
        """Store a str as text, or a list or dict as JSON. Each `put` has its `forget`.

        The very same str is not looked at again while somebody uses it: many runs may have one document.

        Args:
            value: A JSON value.
            counted: Whether the characters and newlines of a str are counted.

        Raises:
            SandboxError: The disk is full or the store can't be written.
        """
        if isinstance(value, str):
            return self._again(value, counted) or self._put_text(value, counted)
        return self._put(json.dumps(value).encode(), form="json", is_ascii=True)

    def _again(self, text: str, counted: bool) -> StoredContext | None:
        with self._changing:
            known, context = self._texts.get(id(text), ("", None))
            if known is not text or context is None or (counted and context.counts is None):
                return None
            self._users[context.digest] += 1
            return context

    def _put_text(self, text: str, counted: bool) -> StoredContext:
        raw = text.encode("utf-8", "surrogatepass")
        counts: list[TextCounts] = []

        def count() -> None:
            if counted:
                counts.append(TextCounts(chars=len(text), newlines=raw.count(b"\n")))

        context = self._put(raw, form="text", is_ascii=text.isascii(), meanwhile=count)
        if counts:
            context = dataclasses.replace(context, counts=counts[0])
        if len(raw) >= LARGE_BYTES:
            with self._changing:
                self._texts[id(text)] = (text, context)
        return context

    def _put(
        self, raw: bytes, *, form: Form, is_ascii: bool, meanwhile: Callable[[], object] = lambda: None
    ) -> StoredContext:
        part = self.new_part()
        try:
            digest = write_hashed(part, raw, meanwhile)
            return self.adopt(part, digest=digest, form=form, size_bytes=len(raw), is_ascii=is_ascii)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def new_part(self) -> Path:
        """A file to write a context into, for `adopt`. It is not there yet."""
        return self._dir / "blobs" / f"{secrets.token_hex(16)}.part"

    def adopt(
        self,
        part: Path,
        *,
        digest: str,
        form: Form,
        size_bytes: int,
        index: TextIndex | None = None,
        is_ascii: bool = False,
    ) -> StoredContext:
        """Take a file of `new_part` as a context. As after `put`, there is a `forget` to it.

        Args:
            part: The file.
            digest: Its SHA-256, in hex.
            form: What is in it.
            size_bytes: Its size.
            index: Of a text; is stored beside it.
            is_ascii: Whether it is known to have nothing but ASCII.

        Raises:
            SandboxError: The file is not there, or the disk is full.
        """
        path = self._dir / "blobs" / digest
        try:
            with self._changing:
                if self._users[digest]:
                    part.unlink()
                else:
                    part.chmod(0o444)
                    part.rename(path)
                self._users[digest] += 1
        except OSError as error:
            raise SandboxError(f"a context of {size_bytes:,} bytes can't be stored: {error.strerror}") from error
        context = StoredContext(digest=digest, form=form, size_bytes=size_bytes, is_ascii=is_ascii)
        if index is None:
            return context
        try:
            return self.add_index(context, index)
        except BaseException:
            self.forget(context)
            raise

    def add_index(self, context: StoredContext, index: TextIndex) -> StoredContext:
        """Keep the index of a text beside it, for as long.

        Returns:
            The context with its counts; whoever wants it lazy says so.

        Raises:
            SandboxError: The disk is full.
        """
        with self._changing:
            path = self.blob(context).with_suffix(INDEX_SUFFIX)
            if not path.exists():
                self._write_index(path, index)
        return dataclasses.replace(context, counts=index.counts)

    def _write_index(self, path: Path, index: TextIndex) -> None:
        part = self.new_part()
        try:
            write(part, index.to_bytes())
            part.chmod(0o444)
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._dir

    def blob(self, context: StoredContext) -> Path:
        """The file of a context."""
        return self._dir / "blobs" / context.digest

    def keep(self, context: StoredContext) -> None:
        """One `forget` more, for a second user."""
        with self._changing:
            self._users[context.digest] += 1

    def new_box_dir(self) -> Path:
        """A directory to mount into one box. The box's user is another one, so it is open to all who know its name.

        Raises:
            SandboxError: The disk is full or the store can't be written.
        """
        path = self._dir / f"box-{secrets.token_hex(8)}"
        try:
            path.mkdir()
            path.chmod(0o755)
        except OSError as error:
            raise SandboxError(f"a box's directory {str(path)!r} can't be made: {error.strerror}") from error
        return path

    def link(self, context: StoredContext, box_dir: Path) -> str:
        """Show a context to a box: hard-linked, so that all boxes share its pages; returns its name there.

        Raises:
            SandboxError: It was forgotten, or the disk is full.
        """
        try:
            for suffix in ("", INDEX_SUFFIX) if context.lazy else ("",):
                with contextlib.suppress(FileExistsError):
                    os.link(f"{self.blob(context)}{suffix}", f"{box_dir / context.digest}{suffix}")
        except FileNotFoundError:
            raise SandboxError("the context is not in the store any more, or its box has no directory") from None
        except OSError as error:
            raise SandboxError(f"the context can't be linked into {str(box_dir)!r}: {error.strerror}") from error
        return context.digest

    def unlink(self, context: StoredContext, box_dir: Path) -> None:
        """Take back one `link`. The box may have it open; its bytes go with that."""
        for suffix in ("", INDEX_SUFFIX):
            (box_dir / context.digest).with_suffix(suffix).unlink(missing_ok=True)

    def write_modules(self, modules: Mapping[str, bytes], box_dir: Path) -> None:
        """Show extra modules to a box that is to be made.

        Args:
            modules: Their text by their path, whose parts are plain names.
            box_dir: The box's.

        Raises:
            SandboxError: The disk is full.
        """
        try:
            for name, text in modules.items():
                path = box_dir / MODULES / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
                for made in (path, *path.parents):
                    if made == box_dir:
                        break
                    made.chmod(0o755 if made.is_dir() else 0o444)  # whatever the umask says
        except OSError as error:
            raise SandboxError(f"modules can't be stored at {str(box_dir)!r}: {error.strerror}") from error

    def remove_box_dir(self, box_dir: Path) -> None:
        """Forget one box."""
        shutil.rmtree(box_dir, ignore_errors=True)

    def forget(self, context: StoredContext) -> None:
        """Take back one `put`; the last one removes the context. Boxes that have it linked keep it until they go."""
        with self._changing:
            self._users[context.digest] -= 1
            if self._users[context.digest] <= 0:
                del self._users[context.digest]
                self._texts = {key: kept for key, kept in self._texts.items() if kept[1].digest != context.digest}
                for suffix in ("", INDEX_SUFFIX):
                    self.blob(context).with_suffix(suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the whole store. Safe to call twice."""
        self._owned.close()


_shared: dict[Path, Store] = {}
_opening = threading.Lock()


def shared_store() -> Store:
    """The store of this process below the state directory that the environment names now; opened at the first call.

    Raises:
        SandboxError: See `Store`.
    """
    root = state_dir() / "store"
    with _opening:
        if root not in _shared:
            _shared[root] = Store(root)
            atexit.register(_shared[root].close)
        return _shared[root]
