"""Cutting text into pieces, and guessing how many tokens a piece has."""

from __future__ import annotations

from typing import Final

from orchestrator.errors import ConfigError

CHARS_PER_TOKEN: Final = 4
"""The method's rule of thumb. English prose has about 4; code, digits and other scripts have fewer."""


def chunk_text(text: str, chunk_size: int, overlap: int = 0) -> list[str]:
    """Cut `text` into chunks of `chunk_size` characters, each starting with the last `overlap` of the one before.

    Every character is in a chunk, in order. The last chunk may be shorter; it is never wholly inside the one before
    it. An empty text has no chunks. Words and lines are cut wherever the size falls.

    Args:
        text: What to cut.
        chunk_size: Characters a chunk, 1 and more.
        overlap: Characters shared by neighbours, 0 to ``chunk_size - 1``.

    Raises:
        ConfigError: A size is out of its range. (It is a `ValueError` too.)
    """
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1:
        raise ConfigError(f"chunk_size: {chunk_size!r} is not an integer from 1")
    if isinstance(overlap, bool) or not isinstance(overlap, int) or not 0 <= overlap < chunk_size:
        raise ConfigError(f"overlap: {overlap!r} is not an integer from 0 to {chunk_size - 1:,} (chunk_size - 1)")
    last_start = max(1, len(text) - overlap)
    return [text[start : start + chunk_size] for start in range(0, last_start, chunk_size - overlap)] if text else []


def estimate_tokens(text: str) -> int:
    """Guess the tokens of `text`: 4 characters each, rounded up. Not a bound: hostile text can have one a byte."""
    return -(-len(text) // CHARS_PER_TOKEN)
