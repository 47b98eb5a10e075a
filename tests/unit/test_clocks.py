"""The clocks of a cell, with a time that the test turns."""

from __future__ import annotations

import asyncio
import math

import pytest

from sandbox.clocks import CellClocks
from sandbox.spec import CellLimits


class Time:
    """A clock in the test's hand, and the engine's reading of the box's CPU seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cpu: float | None = 50.0  # what earlier cells used
        self.reads = 0

    def __call__(self) -> float:
        return self.now

    async def read_cpu(self) -> float | None:
        self.reads += 1
        return self.cpu

    def clocks(self, cpus: float = 1.0, **limits: float) -> CellClocks:
        return CellClocks(CellLimits(**limits), cpus, self.read_cpu, now=self)

    async def run(self, clocks: CellClocks, seconds: float, *, cores: float) -> str | None:
        """Let time pass as `Kernel` does, from check to check, while the box uses `cores`; stop where one runs out."""
        end = self.now + seconds
        while self.now < end:
            step = min(clocks.next_check_s(), end - self.now)
            self.now += step
            if self.cpu is not None:
                self.cpu += step * cores
            if clock := await clocks.expired():
                return clock
        return None


@pytest.fixture
def time() -> Time:
    return Time()


async def test_the_wall_clock_runs_out_at_its_limit(time: Time) -> None:
    clocks = time.clocks(wall_s=10)
    assert await time.run(clocks, 9.9, cores=0) is None
    assert await time.run(clocks, 5, cores=0) == "wall"
    assert clocks.wall_s == pytest.approx(10)


async def test_the_wall_clock_stands_while_a_call_is_in_flight(time: Time) -> None:
    clocks = time.clocks(wall_s=10)
    await time.run(clocks, 5, cores=0)
    clocks.call_started()
    assert await time.run(clocks, 100, cores=0) is None
    clocks.call_started()
    clocks.call_ended()
    assert await time.run(clocks, 100, cores=0) is None, "one of two calls is still in flight"
    clocks.call_ended()
    assert clocks.waited_s == pytest.approx(200)
    assert await time.run(clocks, 4.9, cores=0) is None
    assert await time.run(clocks, 1, cores=0) == "wall"


async def test_waiting_is_bought_for_a_capped_total(time: Time) -> None:
    clocks = time.clocks(wall_s=10, wait_s=30)
    for _ in range(3):
        clocks.call_started()
        assert await time.run(clocks, 10, cores=0) is None
        clocks.call_ended()
    clocks.call_started()
    assert await time.run(clocks, 9.9, cores=0) is None
    assert await time.run(clocks, 10, cores=0) == "wall"
    assert clocks.waited_s == pytest.approx(30)
    assert clocks.wall_s == pytest.approx(40)


async def test_cpu_seconds_count_while_a_call_is_in_flight(time: Time) -> None:
    clocks = time.clocks(wall_s=10, cpu_s=10, wait_s=1000)
    clocks.call_started()
    assert await time.run(clocks, 9.7, cores=1) is None
    assert await time.run(clocks, 10, cores=1) == "cpu"


@pytest.mark.parametrize("cpu_s", [0.5, 1, 2, 60])
async def test_a_cell_that_sleeps_uses_no_cpu(time: Time, cpu_s: float) -> None:
    clocks = time.clocks(wall_s=1000, cpu_s=cpu_s)
    assert await time.run(clocks, 900, cores=0) is None


@pytest.mark.parametrize(("cores", "cpus"), [(1, 1), (0.5, 1), (0.1, 1), (4, 4), (1, 4)])
async def test_cpu_seconds_are_the_engines_within_a_part_of_them(time: Time, cores: float, cpus: float) -> None:
    clocks = time.clocks(cpus, wall_s=10_000, cpu_s=60)
    assert await time.run(clocks, 10_000, cores=cores) == "cpu"
    assert 58 <= clocks.wall_s * cores <= 60.5 + cpus * 0.1


async def test_cpu_of_earlier_cells_is_not_charged(time: Time) -> None:
    time.cpu = 10_000.0
    assert await time.run(time.clocks(wall_s=1000, cpu_s=60), 900, cores=0.01) is None


async def test_where_the_engine_can_not_say_full_speed_counts(time: Time) -> None:
    time.cpu = None
    clocks = time.clocks(2.0, wall_s=1000, cpu_s=60)
    assert await time.run(clocks, 29, cores=0) is None
    assert await time.run(clocks, 2, cores=0) == "cpu"


async def test_a_short_cell_never_asks_the_engine(time: Time) -> None:
    await time.run(time.clocks(), 0.9, cores=1)
    assert time.reads == 0


async def test_the_engine_is_asked_seldom(time: Time) -> None:
    clocks = time.clocks(wall_s=1000, cpu_s=60)
    await time.run(clocks, 59.99, cores=1)
    await time.run(clocks, 100, cores=0)
    assert time.reads <= 1100


async def test_the_runs_clock_never_stops(time: Time) -> None:
    clocks = time.clocks(run_s=20, wait_s=1000)
    clocks.call_started()
    assert await time.run(clocks, 100, cores=0) == "run"
    assert clocks.wall_s == pytest.approx(20)


async def test_a_run_that_is_over_ends_its_cell_at_once(time: Time) -> None:
    assert await time.clocks(run_s=-1).expired() == "run"
    assert time.clocks(run_s=-1).next_check_s() > 0


async def test_infinity_turns_every_clock_off(time: Time) -> None:
    clocks = time.clocks(wall_s=math.inf, cpu_s=math.inf, wait_s=math.inf)
    time.now += 1e9
    assert await clocks.expired() is None
    clocks.call_started()
    time.now += 1e9
    assert await clocks.expired() is None
    assert time.reads == 0
    async with asyncio.timeout(clocks.next_check_s()):  # the event loop takes what it is told to wait
        await asyncio.sleep(0)
