"""Files that options of `airlock ask` name: the schema of ``--schema``, the code of ``--setup``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigError
from orchestrator.modules import MAX_SETUP_BYTES

MAX_SCHEMA_BYTES: Final = 1 << 20


def schema_from(file: str | None) -> dict[str, Any] | None:
    """Read a JSON schema; None where no file is named.

    Raises:
        ConfigError: It can't be read, or holds no JSON object; the text names the option.
    """
    if file is None:
        return None
    raw = _read("--schema", file, MAX_SCHEMA_BYTES)
    try:
        schema = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--schema: {file!r} holds no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigError(f"--schema: {file!r} holds no JSON schema: it must be an object")
    return schema


def setup_from(file: str | None) -> str:
    """Read setup code; "" where no file is named.

    Raises:
        ConfigError: It can't be read, is too large or no UTF-8; the text names the option.
    """
    if file is None:
        return ""
    raw = _read("--setup", file, MAX_SETUP_BYTES)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"--setup: {file!r} is not UTF-8 text (offset {error.start:,})") from error


def _read(option: str, file: str, most_bytes: int) -> bytes:
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(most_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{option}: {file!r} can't be read: {error.strerror}") from error
    if len(raw) > most_bytes:
        raise ConfigError(f"{option}: {file!r} is larger than {most_bytes:,} bytes")
    return raw
