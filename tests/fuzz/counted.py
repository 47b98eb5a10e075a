"""Frames decoded by `test_wire`, by check."""

from __future__ import annotations

from typing import Final

from tests.told import TOLD, tell

_SECTION: Final = "frames decoded"


def decoded(check: str, frames: int) -> None:
    """A check has decoded so many frames."""
    tell(_SECTION, (check, frames))


def line() -> str:
    """All frames of this session in words; "" where there are none."""
    counts = sorted(TOLD.get(_SECTION, []))
    parts = ", ".join(f"{name.removeprefix('check_')} {count:,}" for name, count in counts)
    return f"fuzzed wire: {sum(count for _, count in counts):,} frames decoded ({parts})" if counts else ""
