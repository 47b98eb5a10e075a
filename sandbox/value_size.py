"""What a value in JSON would take as Python's objects, judged without decoding it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

MAX_VALUE_MEMORY_BYTES: Final = 24 << 20
"""What a value may take as Python's objects: 4 MiB of JSON can become 100."""
_COSTS: Final = {b"{": 240, b"[": 90, b'"': 80, b",": 40}
"""Bytes that Python takes for what begins with each of these, on top of a string's characters."""
_TOKEN: Final = re.compile(rb'[{\[,]|"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
_VALUE: Final = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+"?+|[^"{\[,]++)*+(?:[{\[,]|\Z)', re.DOTALL)
"""Up to the next value: a line may have a hundred million strings in between."""


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


def has_more_values(raw: bytes, values: int) -> bool:
    """Whether JSON has more lists, objects and items than so many, judged without parsing it: 3 bytes can be a list,
    which takes Python 64.
    """
    if sum(map(raw.count, (b"[", b"{", b","))) <= values:
        return False
    ends = (raw[found.end() - 1] for found in _VALUE.finditer(raw))
    return any(number > values for number, _ in enumerate((end for end in ends if end in b"[{,"), start=1))


def is_within(value: Any, *, depth: int, values: int) -> bool:
    """Whether a decoded value has lists and dicts at most `depth` deep in one another (a flat one is 1 deep), and at
    most so many items and entries in all of them together.
    """
    layer = [value]
    for _ in range(depth + 1):
        layer = [item for part in layer for item in _items(part)]
        values -= len(layer)
        if not layer or values < 0:
            return values >= 0
    return False


def containers_in(value: Any) -> int:
    """How many lists and dicts a decoded value has, itself included."""
    count, layer = 0, [value]
    while layer:
        count += sum(isinstance(part, list | dict) for part in layer)
        layer = [item for part in layer for item in _items(part)]
    return count


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
