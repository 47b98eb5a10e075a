"""How much memory the host's own process takes while it serves a box."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sandbox.spec import MIB

BOUND_BYTES: Final = 32 * MIB
_PROCESS: Final = Path("/proc/self")


def _kib(field: str) -> int:
    lines = (line.split() for line in (_PROCESS / "status").read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f"{field}:")


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """The peak of this process stays within `BOUND_BYTES` of what it had before; prints by how much it grew."""
    gc.collect()
    (_PROCESS / "clear_refs").write_text("5")  # the peak starts anew
    before = _kib("VmRSS")
    yield
    grown = (_kib("VmHWM") - before) << 10
    print(f"{what}: the host's process grew by {grown / MIB:.1f} MiB at its peak")
    assert grown <= BOUND_BYTES, what
