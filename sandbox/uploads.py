"""Contexts that a cell hands to child runs: they come in pieces and go into the content store, without being read.

Nothing here is decoded. A child's box reads the file as every box reads its context; what does not fit its form is
that box's error.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from sandbox.errors import ProtocolViolation, SandboxError
from sandbox.messages import Piece, SubCallFailure
from sandbox.store import Form, Store, StoredContext
from sandbox.threads import made_in_thread

MAX_OPEN_UPLOADS: Final = 1000
"""Contexts of one box on their way at once: as many as a batch of child runs has, and half."""


class StoreQuota:
    """What a run and its whole recursion tree may have in the store at once, beside the document.

    Args:
        max_bytes: Bytes of all contexts of child runs that have not ended.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Take so many bytes; says whether there were as many."""
        if self.used_bytes + size_bytes > self.max_bytes:
            return False
        self.used_bytes += size_bytes
        return True

    def give(self, size_bytes: int) -> None:
        """Give them back."""
        self.used_bytes -= size_bytes


@dataclass(slots=True)
class _Upload:
    part: Path
    form: Form
    size_bytes: int = 0
    is_ascii: bool = True
    digest: Any = field(default_factory=hashlib.sha256)
    failure: SubCallFailure | None = None


class Uploads:
    """The uploads of one box.

    Args:
        store: Where they go.
        quota: Shared by the whole recursion tree.
    """

    def __init__(self, store: Store, quota: StoreQuota) -> None:
        self._store = store
        self._quota = quota
        self._open: dict[str, _Upload] = {}

    async def add(self, piece: Piece) -> bool:
        """Append a piece to its upload. Returns whether it was kept: pieces of an upload that has failed are not.

        Raises:
            ProtocolViolation: The box has too many uploads open, or changed its mind about the form.
        """
        upload = self._open.get(piece.upload_id)
        if upload is None:
            if len(self._open) >= MAX_OPEN_UPLOADS:
                raise ProtocolViolation(f"more than {MAX_OPEN_UPLOADS:,} contexts on their way at once")
            upload = self._open[piece.upload_id] = _Upload(self._store.new_part(), piece.form)
        if upload.form != piece.form:
            raise ProtocolViolation("a context of two forms")
        if upload.failure is not None:
            return False
        if not self._quota.take(len(piece.raw)):
            await self._fail(upload, f"contexts of child runs may take {self._quota.max_bytes:,} bytes together")
            return False
        upload.size_bytes += len(piece.raw)
        try:
            await made_in_thread(partial(_append, upload, piece.raw), lambda _: None)  # else it could follow `clear`
        except OSError as error:
            await self._fail(upload, f"the host could not store it: {error.strerror}")
            return False
        return True

    async def _fail(self, upload: _Upload, why: str) -> None:
        upload.failure = SubCallFailure("LimitExceeded", f"the context was not taken: {why}")
        await self._discard(upload)

    async def take(self, upload_id: str) -> StoredContext | SubCallFailure:
        """A whole upload as a context of the store, to be given back by `release`; or why there is none."""
        upload = self._open.pop(upload_id, None)
        if upload is None:
            return SubCallFailure("SubCallError", "the context never came")
        if upload.failure is not None:
            return upload.failure
        digest = upload.digest.hexdigest()
        try:
            adopt = partial(
                self._store.adopt,
                upload.part,
                digest=digest,
                form=upload.form,
                size_bytes=upload.size_bytes,
                is_ascii=upload.is_ascii,
            )
            return await made_in_thread(adopt, self._store.forget)
        except SandboxError as error:
            await self._discard(upload)
            return SubCallFailure("SubCallError", f"the context was not taken: {error}")
        except asyncio.CancelledError:
            self._quota.give(upload.size_bytes)
            raise

    def release(self, context: StoredContext) -> None:
        """The child run has ended. At once, also when it was cancelled: no text stays on disk."""
        self._store.forget(context)
        self._quota.give(context.size_bytes)

    async def clear(self) -> None:
        """Drop what was never asked about: the cell has ended."""
        while self._open:
            _, upload = self._open.popitem()
            await self._discard(upload)

    async def _discard(self, upload: _Upload) -> None:
        self._quota.give(upload.size_bytes)
        upload.size_bytes = 0
        await asyncio.to_thread(upload.part.unlink, missing_ok=True)


def _append(upload: _Upload, raw: bytes) -> None:
    with upload.part.open("ab") as file:
        file.write(raw)
    upload.digest.update(raw)
    upload.is_ascii = upload.is_ascii and raw.isascii()
