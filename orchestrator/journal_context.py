"""What a journal's run is about: the files that it was read from, by their digests, or a copy of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.context import MAX_DOCUMENT_BYTES, Context, check_context, load_documents
from orchestrator.errors import ConfigError, ContextError
from orchestrator.limits import MIB
from orchestrator.regular_file import open_regular

COPY: Final = "context.json"
MAX_COPY_BYTES: Final = 2048 * MIB


def read_again(kept: dict[str, Any], directory: Path) -> Context:
    """The context.

    Args:
        kept: What is kept of it, as `files_record` has it, or with the copy's digest.
        directory: The journal's.

    Raises:
        ConfigError: It is not what it was.
        ContextError: It can't be read.
    """
    if "files" in kept:
        try:
            digests = {str(file["path"]): file["sha256"] for file in kept["files"]}
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{directory}: context is wrong: {error!r:.80}") from error
        for path, digest in digests.items():
            if _file_digest(path) != digest:
                raise ConfigError(f"{path}: has changed since the journal was begun; its run can't go on with it")
        return load_documents(list(digests))
    copy = directory / COPY
    try:
        with open_regular(copy) as file:
            raw = file.read(MAX_COPY_BYTES + 1)
    except OSError as error:
        raise ContextError(f"{copy}: can't be read: {error.strerror}") from error
    if hashlib.sha256(raw).hexdigest() != kept.get("copy_sha256"):
        raise ConfigError(f"{copy}: is not the context that the journal was begun with")
    try:
        return check_context(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise ContextError(f"{copy}: is no context: {error!r:.80}") from error


def files_record(paths: Sequence[str]) -> dict[str, Any]:
    """What is kept of a context that was read from files.

    Raises:
        ContextError: One can't be read.
    """
    return {"files": [{"path": os.path.abspath(path), "sha256": _file_digest(path)} for path in paths]}


def _file_digest(path: str) -> str:
    try:
        with open_regular(Path(path)) as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise ContextError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    return hashlib.sha256(raw).hexdigest()


def write_copy(directory: Path, context: Context) -> str:
    """Keep a copy. Returns its SHA-256.

    Raises:
        ConfigError: It is too large.
        OSError: It can't be written.
    """
    raw = json.dumps(context).encode()
    if len(raw) > MAX_COPY_BYTES:
        raise ConfigError(
            f"a journal keeps a context of at most {MAX_COPY_BYTES:,} bytes of JSON; this has {len(raw):,}"
        )
    return write_new(directory / COPY, raw)


def write_new(path: Path, raw: bytes) -> str:
    """Write a file that appears whole or not at all. Returns its SHA-256."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    return hashlib.sha256(raw).hexdigest()
