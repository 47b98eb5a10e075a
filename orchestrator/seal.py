"""Seals of this user's on this machine: by one, a file that was written here is told from one that somebody sent.

A seal is an HMAC under a key in the state directory, which is made at its first use and leaves this machine nowhere.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from orchestrator.regular_file import open_regular
from sandbox.store import state_dir

FILE: Final = "seal.key"
_KEY_BYTES: Final = 32


def seal_of(record: dict[str, Any]) -> str | None:
    """The seal of a record of JSON values; None where this machine has no key and none can be made."""
    try:
        key = _key()
    except OSError:
        return None
    return hmac.digest(key, json.dumps(record, sort_keys=True).encode(), "sha256").hex()


def is_sealed(record: dict[str, Any], seal: object) -> bool:
    """Whether this is the seal of a record that was written here."""
    own = seal_of(record)
    return own is not None and isinstance(seal, str) and seal.isascii() and hmac.compare_digest(own, seal)


def _key() -> bytes:
    path = state_dir() / FILE
    with contextlib.suppress(FileNotFoundError):
        return _own_key(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{FILE}.{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):  # another process was first, and its key counts
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
    return _own_key(path)


def _own_key(path: Path) -> bytes:
    """Another user who could have put the key there, or read it, could seal any journal as this one's."""
    with open_regular(path, os.O_NOFOLLOW) as file:
        facts, key = os.fstat(file.fileno()), file.read(_KEY_BYTES + 1)
    if len(key) != _KEY_BYTES or facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise OSError(f"{FILE} is not as it was written")
    return key
