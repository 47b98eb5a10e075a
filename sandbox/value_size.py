"""What a value in JSON would take as Python's objects, judged without decoding it."""

from __future__ import annotations

import re
from typing import Final

MAX_VALUE_MEMORY_BYTES: Final = 24 << 20
"""What a value may take as Python's objects: 4 MiB of JSON can become 100."""
_COSTS: Final = {b"{": 240, b"[": 90, b'"': 80, b",": 40}
"""Bytes that Python takes for what begins with each of these, on top of a string's characters."""
_TOKEN: Final = re.compile(rb'[{\[,]|"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)


_WIDE: Final = re.compile(rb"[\xf0-\xff]")
_WIDE_ESCAPE: Final = re.compile(rb"\\u[dD][89abAB]")
_WIDE_JSON_BYTES: Final = 2 << 20


def most_bytes(raw: bytes, most: int) -> int:
    """UTF-8 that is taken of a text: half of `most` where a character is beyond U+FFFF; then all take four bytes."""
    return most // 2 if len(raw) > most // 2 and _WIDE.search(raw) else most


def fits_memory(raw: bytes) -> bool:
    """Whether JSON stays within `MAX_VALUE_MEMORY_BYTES`, judged without parsing it; a text full of commas does."""
    if len(raw) > _WIDE_JSON_BYTES and _WIDE_ESCAPE.search(raw):
        return False  # all characters of such a string take four bytes
    if sum(cost * raw.count(first) for first, cost in _COSTS.items()) <= MAX_VALUE_MEMORY_BYTES:
        return True
    cost = 0
    for token in _TOKEN.finditer(raw):
        cost += _COSTS[raw[token.start() : token.start() + 1]]
        if cost > MAX_VALUE_MEMORY_BYTES:
            return False
    return True
