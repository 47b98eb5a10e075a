"""How a caller's context comes in: as a value, or, where it is a large text, by way of the store.

Which of the two is decided by its size and the box's memory. A large file is never held in the host's memory: it is
copied into the store in chunks, checked and counted on the way, before the run starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

from orchestrator.context import MAX_DOCUMENT_BYTES, Context, check_context, describe_bad_bytes
from orchestrator.documents import documents_of
from orchestrator.errors import BoxError, ConfigError, ContextError
from orchestrator.limits import MIB
from orchestrator.result import Document
from sandbox.errors import NotUtf8, SandboxError
from sandbox.large_text import index_text, put_text_file
from sandbox.store import Store, StoredContext, shared_store
from sandbox.threads import made_in_thread

ContextMode = Literal["auto", "str", "lazy"]
"""What a text is in the box: a ``str``, a ``lazy`` text that is read where it is looked at, or what fits (``auto``)."""

SPARE_BYTES: Final = 128 * MIB
"""Of the box's memory, left to all that is not the context; of a small box half."""


def checked_mode(mode: object) -> ContextMode:
    """A context mode.

    Raises:
        ConfigError: There is no such mode.
    """
    for known in get_args(ContextMode):
        if mode == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"context_mode: {mode!r:.80} is none of {', '.join(get_args(ContextMode))}")


def is_lazy(size_bytes: int, mode: ContextMode, memory_bytes: int) -> bool:
    """Whether a text is lazy in a box: one that is asked for, or whose bytes, times four, would not fit.

    Args:
        size_bytes: Of the text in UTF-8. As a str it takes up to four times as much.
        mode: What the caller asks for.
        memory_bytes: The box's.
    """
    if mode == "auto":
        return 4 * size_bytes > memory_bytes - min(SPARE_BYTES, memory_bytes // 2)
    return mode == "lazy"


async def take_in(context: object, mode: ContextMode, memory_bytes: int) -> Context | StoredContext:
    """A caller's context in its normal form, or in the store, to be given back by `let_go`.

    Args:
        context: As for `RLM.query`.
        mode: What the caller asks for. It is about texts: lists and dicts are loaded whole.
        memory_bytes: The box's.

    Raises:
        ContextError: It can't be used; names the reason.
        BoxError: The store can't be written.
    """
    stop = threading.Event()
    take = partial(take_in_now, context, mode, memory_bytes, stopped=stop.is_set)
    return await made_in_thread(take, let_go, on_cancel=stop.set)


@contextlib.asynccontextmanager
async def taken_in(context: object, mode: ContextMode, memory_bytes: int) -> AsyncIterator[Context | StoredContext]:
    """`take_in`, and `let_go` behind the body.

    Raises:
        As `take_in`.
    """
    taken = await take_in(context, mode, memory_bytes)
    try:
        yield taken
    finally:
        await asyncio.shield(asyncio.to_thread(let_go, taken))  # a large file takes a while to be removed


@contextlib.asynccontextmanager
async def stored(context: Context | StoredContext) -> AsyncIterator[tuple[Any, tuple[Document, ...]]]:
    """A run's context and its documents. A text goes into the store here, for as long as the body lasts: its one hash
    is for both.

    Raises:
        BoxError: The store can't be written.
    """
    keep: Callable[[], Any] = partial(_in_store, context) if isinstance(context, str) else lambda: context
    kept = await made_in_thread(keep, lambda made: let_go(made) if made is not context else None)
    try:
        yield kept, await asyncio.to_thread(documents_of, kept)
    finally:
        if kept is not context:
            await asyncio.shield(asyncio.to_thread(let_go, kept))


def _in_store(text: str) -> StoredContext:
    try:
        return _store().put(text, counted=True)
    except SandboxError as error:
        raise BoxError(str(error)) from error


def take_in_now(
    context: object, mode: ContextMode, memory_bytes: int, *, stopped: Callable[[], bool] = lambda: False
) -> Context | StoredContext:
    """`take_in`, for who may block."""
    if isinstance(context, os.PathLike) and is_large_file(context, mode, memory_bytes):
        return _from_file(Path(os.fsdecode(context)), mode, memory_bytes, stopped)
    checked = check_context(context)
    if isinstance(checked, str) and is_lazy(_utf8_bytes(checked), mode, memory_bytes):
        return _from_text(checked)
    return checked


def is_large_file(path: str | os.PathLike[Any], mode: ContextMode, memory_bytes: int) -> bool:
    """Whether this is a file that goes into the store unread, to be copied there."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False  # `check_context` finds out what is wrong with it
    large = status.st_size > MAX_DOCUMENT_BYTES or is_lazy(status.st_size, mode, memory_bytes)
    return stat.S_ISREG(status.st_mode) and large


def let_go(context: Any) -> None:
    """Give back what `take_in` returned."""
    if isinstance(context, StoredContext):
        shared_store().forget(context)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _from_file(path: Path, mode: ContextMode, memory_bytes: int, stopped: Callable[[], bool]) -> StoredContext:
    store = _store()
    try:
        stored = put_text_file(store, path, stopped=stopped)
    except NotUtf8 as error:
        with path.open("rb") as file:
            raise ContextError(describe_bad_bytes(str(path), file.read(4), error.byte, error.offset)) from None
    except SandboxError as error:
        raise ContextError(f"{path}: {error}") from error
    except OSError as error:
        raise ContextError(f"{path}: can't be read: {error.strerror}") from error
    return dataclasses.replace(stored, lazy=is_lazy(stored.size_bytes, mode, memory_bytes))


def _from_text(text: str) -> StoredContext:
    store = _store()
    try:
        stored = store.put(text)
        try:
            return dataclasses.replace(index_text(store, stored), lazy=True)
        except BaseException:
            store.forget(stored)
            raise
    except SandboxError as error:
        raise BoxError(str(error)) from error


def _store() -> Store:
    try:
        return shared_store()
    except SandboxError as error:
        raise BoxError(str(error)) from error
