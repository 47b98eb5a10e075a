"""The schema of ``airlock ask --schema FILE.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigError

MAX_FILE_BYTES: Final = 1 << 20


def schema_from(file: str | None) -> dict[str, Any] | None:
    """Read a JSON schema; None where no file is named.

    Raises:
        ConfigError: It can't be read, or holds no JSON object; the text names the option.
    """
    if file is None:
        return None
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--schema: {file!r} can't be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"--schema: {file!r} is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        schema = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--schema: {file!r} holds no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigError(f"--schema: {file!r} holds no JSON schema: it must be an object")
    return schema
