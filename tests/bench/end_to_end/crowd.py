"""What many runs at once cost, computed alike for ours and for a peer. Of the standard library alone.

The ideal has a machine that only waits for the model: ``runs x (model seconds + seconds of cells) / concurrency``.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sandbox.errors import SandboxError
from tests.bench.end_to_end.script import CALLS

T = TypeVar("T")

SAMPLED = 8
"""Boxes whose memory is read."""


def machine_cpu_s() -> float | None:
    """CPU seconds that this machine has worked so far, for whomever; None where the kernel does not say."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, softirq = map(int, words[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def process_cpu_s(pid: int) -> float:
    """CPU seconds of one process."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Crowd:
    """Takes the time of runs that are begun at once.

    Args:
        latency_s: Of each call of the model.
        memory: Reads the memory of some boxes, in bytes, while all wait for the model.
        not_ours: A process whose CPU time does not count.
    """

    def __init__(self, latency_s: float, memory: Callable[[], list[float]], not_ours: int | None = None) -> None:
        self._latency_s = latency_s
        self._memory = memory
        self._not_ours = not_ours
        self._seconds: list[float] = []
        self._boxes_bytes: list[float] = []
        self._before_s = self._cpu_s()
        self._began = time.perf_counter()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read)

    def _cpu_s(self) -> float | None:
        cpu_s = machine_cpu_s()
        if cpu_s is None or self._not_ours is None:
            return cpu_s
        return cpu_s - process_cpu_s(self._not_ours)

    def _read(self) -> None:
        """Once, when most that is alive waits for the model; later where nothing is alive so soon."""
        while not self._boxes_bytes and not self._ended.wait(1.5 * self._latency_s):
            with contextlib.suppress(SandboxError, OSError):  # a box has gone as it was looked at: once more
                self._boxes_bytes = self._memory()

    def starts(self) -> None:
        """Now they are begun; what was before is CPU time of theirs, and no time."""
        self._began = time.perf_counter()
        self._reader.start()

    def ended(self, seconds: float) -> None:
        """One of them has."""
        self._seconds.append(seconds)

    def figures(self, name: str, cell_s: float) -> dict[str, float]:
        """When all have ended.

        Args:
            name: Stands before each figure.
            cell_s: Seconds of the cells of one run.
        """
        wall_s = time.perf_counter() - self._began
        after_s = self._cpu_s()
        self._ended.set()
        runs = len(self._seconds)
        model_s = CALLS * self._latency_s
        over = sorted(1000 * (seconds - model_s) for seconds in self._seconds)
        figures = {
            "runs a minute": 60 * runs / wall_s,
            "share of the ideal's runs a minute, %": 100 * (model_s + cell_s) / wall_s,
            "over the model's time, p50, ms": statistics.median(over),
            "over the model's time, p95, ms": over[max(0, -(-95 * runs // 100) - 1)],
        }
        if self._before_s is not None and after_s is not None:
            cpu_s = (after_s - self._before_s) / runs
            figures["CPU of the machine for each run, ms"] = 1000 * cpu_s
            figures["runs a minute that this much CPU allows"] = 60 * (os.cpu_count() or 1) / cpu_s
        self._reader.join(1)
        if self._boxes_bytes:
            figures["memory of a box in a run, PSS, MB"] = statistics.mean(self._boxes_bytes) / 1e6
        return {f"{name}: {what}": value for what, value in figures.items()}


def sampled(boxes: Sequence[T]) -> Sequence[T]:
    """Some of them, from all over."""
    return boxes[:: max(1, len(boxes) // SAMPLED)][:SAMPLED]
