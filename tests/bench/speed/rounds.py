"""Rounds of all subjects, one after another, so that what the machine does meanwhile meets all of them alike."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.own_process import Failed, measure_apart, say
from tests.bench.speed.figures import Counts
from tests.bench.speed.peers import remove_leftovers

WARM_UP = Counts(cells=2, calls=2, values=1, context_bytes=1_000_000)
WORKERS = "tests.bench.speed.workers"


@dataclass(slots=True, kw_only=True)
class Subject:
    """One column.

    Attributes:
        name: Of `rows.SUBJECTS`.
        module: The worker's.
        work: What it is told, besides the counts.
        python: Who runs it.
        slow: Whether its cells are so slow that fewer do.
        samples: Of all rounds so far.
        missing: Why there are none, or no more.
    """

    name: str
    module: str
    work: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    slow: bool = False
    samples: dict[str, list[float]] = field(default_factory=dict)
    missing: str = ""

    def play(self, counts: Counts, *, keep: bool) -> None:
        """Measure once, in a process of its own."""
        if self.slow:
            counts = dataclasses.replace(counts, cells=min(counts.cells, 10))
        work = {**self.work, "counts": dataclasses.asdict(counts)}
        try:
            found = measure_apart(f"{WORKERS}.{self.module}", work, python=self.python)
        except Failed as failure:
            self.missing = str(failure)
            say(f"  {self.name}: {failure}")
            remove_leftovers()
            return
        if keep:
            for name, figures in found["samples"].items():
                self.samples.setdefault(name, []).extend(figures)


def play(subjects: Sequence[Subject], counts: Counts, rounds: int, *, warm_up: bool = True) -> None:
    """A small round that nobody counts, so that files and images are in memory for all; then those that count. Each
    begins with another subject. Who fails once is left out from then on."""
    for number in range(0 if warm_up else 1, rounds + 1):
        first = number % len(subjects)
        for subject in (*subjects[first:], *subjects[:first]):
            if subject.missing:
                continue
            say(f"round {number} of {rounds}: {subject.name}" if number else f"warm-up: {subject.name}")
            subject.play(counts if number else WARM_UP, keep=number > 0)
