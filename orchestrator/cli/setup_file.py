"""The setup code of ``airlock ask --setup FILE.py``."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.modules import MAX_SETUP_BYTES


def setup_from(file: str | None) -> str:
    """Read setup code; "" where no file is named.

    Raises:
        ConfigError: It can't be read, is too large or no UTF-8; the text names the option.
    """
    if file is None:
        return ""
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(MAX_SETUP_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--setup: {file!r} can't be read: {error.strerror}") from error
    if len(raw) > MAX_SETUP_BYTES:
        raise ConfigError(f"--setup: {file!r} is larger than {MAX_SETUP_BYTES:,} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"--setup: {file!r} is not UTF-8 text (offset {error.start:,})") from error
