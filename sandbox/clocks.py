"""The three clocks of a cell."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from sandbox.cell import Clock
from sandbox.spec import CellLimits

_FIRST_READ_SHARE: Final = 1 / 60
"""Short cells, which are most, never ask the engine for their CPU time. What they used is counted at full speed."""
_LEAST_READ_S: Final = 0.1
"""A cell with next to nothing left that only waits is not asked about without pause."""


class CellClocks:
    """CPU seconds always count, wall seconds stop while a sub-call is in flight, the run's never stop.

    Args:
        limits: The cell's bounds.
        cpus: Cores of the box: CPU time can't grow faster, so it is read only when it may have run out.
        read_cpu_s: Reads the box's CPU seconds so far, or returns None where it can't be read.
        now: The time in seconds.
    """

    def __init__(
        self,
        limits: CellLimits,
        cpus: float,
        read_cpu_s: Callable[[], Awaitable[float | None]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._limits = limits
        self._cpus = cpus
        self._read_cpu_s = read_cpu_s
        self._started = self._changed = self._cpu_read = self._now()
        self._in_flight = 0
        self._running_s = 0.0
        self._waiting_s = 0.0
        self._cpu_last: float | None = None
        self._cpu_used = 0.0

    @property
    def wall_s(self) -> float:
        """Seconds since the start."""
        return self._now() - self._started

    @property
    def waited_s(self) -> float:
        """Seconds for which sub-calls have stopped the wall clock."""
        self._advance()
        return self._waiting_s

    @property
    def waiting(self) -> bool:
        """Whether a sub-call is in flight."""
        return self._in_flight > 0

    def call_started(self) -> None:
        """A sub-call of the cell is in flight."""
        self._advance()
        self._in_flight += 1

    def call_ended(self) -> None:
        """One sub-call less is in flight."""
        self._advance()
        self._in_flight -= 1

    def _advance(self) -> None:
        now = self._now()
        passed, self._changed = now - self._changed, now
        waiting = min(passed, self._limits.wait_s - self._waiting_s) if self._in_flight else 0.0
        self._waiting_s += waiting
        self._running_s += passed - waiting

    def next_check_s(self) -> float:
        """Seconds until a clock can have run out at the earliest."""
        self._advance()
        wall = self._limits.wall_s - self._running_s
        if self._in_flight:
            wall += self._limits.wait_s - self._waiting_s
        cpu = self._cpu_due() / self._cpus - (self._now() - self._cpu_read)
        return max(0.01, min(wall, cpu, self._limits.run_s - self.wall_s))

    async def expired(self) -> Clock | None:
        """The clock that has run out, if one has."""
        self._advance()
        if self.wall_s >= self._limits.run_s:
            return "run"
        if self._running_s >= self._limits.wall_s:
            return "wall"
        if (self._now() - self._cpu_read) * self._cpus >= self._cpu_due():
            await self._update_cpu()
            if self._cpu_used >= self._limits.cpu_s:
                return "cpu"
        return None

    def _cpu_due(self) -> float:
        """CPU seconds after which to read the box's count: the first time soon, later when all may be used up."""
        left = max(self._limits.cpu_s - self._cpu_used, _LEAST_READ_S)
        return min(left, self._limits.cpu_s * _FIRST_READ_SHARE) if self._cpu_last is None else left

    async def _update_cpu(self) -> None:
        """Until the first read, and where CPU time can't be read, the cell counts as running at full speed."""
        if self._limits.cpu_s == float("inf"):
            return
        now = self._now()  # before the read: a slow engine is no CPU time of the cell
        total = await self._read_cpu_s()
        if total is None or self._cpu_last is None:
            self._cpu_used += (now - self._cpu_read) * self._cpus
        else:
            self._cpu_used += total - self._cpu_last
        self._cpu_last = total
        self._cpu_read = now
