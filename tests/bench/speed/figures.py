"""What every subject does, so that all do the same. Of the standard library alone: peers' Pythons import it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
LINE = "a line of fifty characters, the last one a newline\n"
GIVES_VALUE = "a value of one MiB, please"
"""What a cell asks the host for where the answer is to be large; anything else is answered by itself."""


@dataclass(frozen=True)
class Counts:
    """How often one process does what.

    Attributes:
        cells: Cells of one number.
        calls: Calls of the host from one cell.
        values: Values of 1 MiB, each way.
        context_bytes: Size of the context.
    """

    cells: int = 200
    calls: int = 200
    values: int = 5
    context_bytes: int = 50_000_000

    @classmethod
    def of(cls, work: dict[str, Any]) -> Counts:
        """As `measure_apart` was told."""
        return cls(**work["counts"])


def context_text(size_bytes: int) -> str:
    """Text of ASCII lines, never the same twice."""
    return (secrets.token_hex(8) + "\n" + LINE * (size_bytes // len(LINE) + 1))[:size_bytes]


def calls_code(call: str, count: int, *, reply_chars: int) -> str:
    """A cell that makes a call so many times and prints the seconds of each. A reply of another length is an error."""
    return (
        "import time as _time\n_taken = []\n"
        f"for _ in range({count}):\n    _before = _time.perf_counter()\n    _got = {call}\n"
        "    _taken.append(_time.perf_counter() - _before)\n"
        f"    assert len(_got) == {reply_chars}, _got[:300]\n"
        "print(' '.join(f'{_seconds:.6f}' for _seconds in _taken))"
    )


def seconds_printed(text: str) -> list[float]:
    """What `calls_code` printed."""
    return [float(word) for word in text.split()]
