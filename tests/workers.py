"""Several workers at once: how many, in which order, and who waits while a test marked `alone` runs.

Such a test looks at all that is in the engine, or measures the machine. It runs when the other workers have ended.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

MOST = 4
"""More than these wait for the one engine."""
LONGEST_FIRST = ("attack", "container", "lifecycle", "injection", "kernel", "contract")
"""Folders under `tests/`. What comes last is short: no worker waits long for another one's last file."""


def number() -> int:
    """How many workers: one a core."""
    return min(os.cpu_count() or 1, MOST)


def order(items: list[pytest.Item]) -> None:
    """Sort the items for workers. A file with a test that is `alone` is so as a whole: its tests share boxes."""
    alone = {item.path for item in items if item.get_closest_marker("alone")}
    for item in items:
        if item.path in alone:
            item.add_marker("alone")

    def rank(item: pytest.Item) -> tuple[bool, int]:
        places = [LONGEST_FIRST.index(name) for name in item.path.parts if name in LONGEST_FIRST]
        return item.path in alone, min(places, default=len(LONGEST_FIRST))

    items.sort(key=rank)


def lock_path(session: str) -> Path:
    """The lock of a session's workers."""
    return Path(tempfile.gettempdir(), f"airlock-tests-{session}.lock")


class Turns:
    """One worker's share of the machine: it keeps it from its first test to its last, or to the first that is alone.

    Args:
        session: What the workers of a session have in common.
    """

    def __init__(self, session: str) -> None:
        self._file = lock_path(session).open("a")
        self._held = fcntl.LOCK_UN

    def take(self, item: pytest.Item) -> None:
        """Wait until it may run. The kernel gives back what an ended worker held."""
        wanted = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
        if wanted != self._held:
            fcntl.flock(self._file, fcntl.LOCK_UN)  # or two that want to be alone would wait for each other
            fcntl.flock(self._file, wanted)
            self._held = wanted

    def close(self) -> None:
        """Let the others run."""
        self._file.close()
