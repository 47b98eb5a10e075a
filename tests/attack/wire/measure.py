"""Plays attacks of `guest` against the host's real code in this process, and measures what they cost it.

Run as ``python -m tests.attack.wire.measure NAME...``: a process of its own, whose memory nothing else moves. A second,
honest kernel runs cells in the same event loop all the while. One line of JSON an attack.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

from sandbox import kernel as kernel_module
from sandbox import link, subcalls
from sandbox.cell import CellResult
from sandbox.children import ChildCalls, Children
from sandbox.clocks import CellClocks
from sandbox.errors import BoxGone, ProtocolViolation, ValueUnavailable
from sandbox.kernel import Kernel
from sandbox.link import Link
from sandbox.messages import Asked, SubCallFailure
from sandbox.protocol import decode_json_value
from sandbox.spec import CellLimits, KernelSettings
from sandbox.store import Store, StoredContext
from sandbox.tools import Tools, ToolSpec
from sandbox.uploads import StoreQuota
from tests.attack.wire.guest import TOOL, VALUES
from tests.kernel.local_box import LocalBox

GUEST = Path(__file__).with_name("guest.py")
TOOLS = Tools(specs=(ToolSpec(name="lookup", argument_bytes=TOOL),))
FUNCTIONS = ("llm_query", "llm_query_batched", "rlm_query", "report")
SETTINGS = KernelSettings(functions=FUNCTIONS, rlm_query="child", tools=TOOLS)
STORE_BYTES = 8 << 20
CLOCKS = CellLimits(wall_s=0.5, wait_s=0.5)
PATIENT = CellLimits(wall_s=600.0)
PATIENT_WITH = {"million_queries", "million_in_batches", "after_the_limit", "gigabytes_after_the_limit"}
PATIENT_WITH |= {
    "output_flood",
    "small_output_flood",
    "comm_open_storm",
    "growing_output",
    "growing_answer",
    "endless_context",
    "endless_empty_pieces",
    "reports",
    "busy_loop",
}
NEVER_ANSWERED = {"growing_prompts", "growing_batches"}
REFUSED = {"after_the_limit", "gigabytes_after_the_limit"}
QUIET_CELLS = 10  # before each attack: the machine is not the same all the time


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attack ended, and what it cost the host.

    Attributes:
        ended: ``violation: WORDS``, or a cell's status and, where one ran out, its clock.
        peak_mib: Memory at its worst above that of the process before the attack.
        idle_mib: Memory of the process before the attack.
        block_ms: Longest time for which the event loop did nothing else.
        honest_cells: Cells the other kernel ran meanwhile, all of them with the right result.
        p50_ratio, p99_ratio: Time of its cells during the attack to that before.
        p99_busy_ratio: The same to that beside a guest which sends nothing and burns as much CPU time as it gets.
    """

    attack: str
    ended: str
    late_chars: int
    seen: str
    took_s: float
    peak_mib: float
    idle_mib: float
    block_ms: float
    honest_cells: int
    p50_ratio: float
    p99_ratio: float
    p99_busy_ratio: float


def memory_kib(field: str) -> int:
    """Of this process: VmRSS now, VmHWM at its highest since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def forget_peak() -> None:
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


class Neighbour:
    """The honest kernel: runs cell after cell and takes the time."""

    def __init__(self, box: LocalBox) -> None:
        self._box = box
        self.times_s: list[float] = []
        self.block_s = 0.0
        self.going = True

    async def cell(self) -> None:
        number = len(self.times_s)
        started = time.perf_counter()
        result = await self._box.execute(f"llm_query('{number}')")
        self.times_s.append(time.perf_counter() - started)
        assert result.result.text == f"'<{number}>'", result

    async def alone(self, count: int) -> list[float]:
        """Times of cells while nobody attacks."""
        self.times_s = []
        for _ in range(count):
            await self.cell()
            await asyncio.sleep(0.005)
        return self.times_s

    async def cells(self) -> None:
        while self.going:
            await self.cell()
            await asyncio.sleep(0.005)

    async def watch_the_loop(self) -> None:
        while self.going:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            self.block_s = max(self.block_s, time.perf_counter() - started - 0.001)


def share(times_s: list[float], part: float) -> float:
    return sorted(times_s)[min(len(times_s) - 1, int(part * len(times_s)))]


class Attack:
    """One guest behind a link, and the host's end of it."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.asked = 0
        self._store = store

    async def child(self, question: str, context: StoredContext | None) -> str | SubCallFailure:
        return "y"

    async def answer(self, asked: Asked) -> str | SubCallFailure:
        self.asked += 1
        if self.name in NEVER_ANSWERED:
            await asyncio.Event().wait()
        if self.name in REFUSED:
            return SubCallFailure("LimitExceeded", "50 of 50 sub-calls used")
        return "y" * (64 << 10) if self.name == "never_reading" else "y"

    async def play(self) -> tuple[str, CellResult | None]:
        guest = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(GUEST), self.name, stdin=PIPE, stdout=PIPE
        )
        assert guest.stdin
        assert guest.stdout
        kernel = Kernel(Link(guest.stdout, guest.stdin, multiplexed=False))
        quota = StoreQuota(STORE_BYTES)
        calls = ChildCalls(Children(handler=self.child, quota=quota), self._store)
        try:
            return await self._play(kernel, calls)
        finally:
            await calls.clear()
            assert quota.used_bytes == 0
            await kernel.aclose()
            with contextlib.suppress(ProcessLookupError):
                os.kill(guest.pid, signal.SIGKILL)  # Process.kill takes the exit status from asyncio
            await guest.communicate()  # reads what is left: a process counts as ended when its pipes have

    async def _play(self, kernel: Kernel, calls: ChildCalls) -> tuple[str, CellResult | None]:
        try:
            async with asyncio.timeout(1 if self.name == "silent_start" else 600):
                await kernel.start()
                await kernel.set_up(SETTINGS, self.answer, calls)
        except TimeoutError:
            return "never answered", None
        except ProtocolViolation as violation:
            return f"violation: {violation}", None
        result = await kernel.execute("x", CellClocks(PATIENT if self.name in PATIENT_WITH else CLOCKS, 1, _no_cpu))
        if self.name == "answer_after_the_cell":
            await asyncio.wait_for(kernel.gone.wait(), 5)
        if kernel.violation:
            return f"violation: {kernel.violation}", result
        if self.name in VALUES:
            return await _value(kernel), result
        return result.status + (f" {result.clock}" if result.clock else ""), result


async def _no_cpu() -> float | None:
    return None


async def _value(kernel: Kernel) -> str:
    try:
        reply = await kernel.request("airlock_value", {"name": "x", "form": "json", "max_bytes": 4 << 20})
        await asyncio.to_thread(decode_json_value, reply.buffers[0])  # as `Sandbox` does
    except (ProtocolViolation, ValueUnavailable, BoxGone) as error:
        return f"{type(error).__name__}: {error}"
    return "a value"


def ratios(times_s: list[float], quiet_s: list[float]) -> dict[str, float]:
    """Median and 99th percentile of the one to those of the other."""
    parts = {"p50_ratio": 0.5, "p99_ratio": 0.99}
    return {name: round(share(times_s or [0.0], part) / share(quiet_s, part), 2) for name, part in parts.items()}


async def measured(name: str, store: Store, neighbour: Neighbour, quiet_s: list[float], busy_s: list[float]) -> Outcome:
    quiet_s += await neighbour.alone(QUIET_CELLS)
    neighbour.times_s, neighbour.block_s, neighbour.going = [], 0.0, True
    forget_peak()
    idle_kib = memory_kib("VmRSS")
    started = time.perf_counter()
    busy = [asyncio.create_task(neighbour.cells()), asyncio.create_task(neighbour.watch_the_loop())]
    try:
        ended, result = await Attack(name, store).play()
    finally:
        neighbour.going = False
        await asyncio.gather(*busy)
    took_s = time.perf_counter() - started
    return Outcome(
        attack=name,
        ended=ended,
        late_chars=result.late_chars if result else 0,
        seen=(result.stdout.text + result.result.text)[:80] if result else "",
        took_s=round(took_s, 2),
        peak_mib=round((memory_kib("VmHWM") - idle_kib) / 1024, 1),
        idle_mib=round(idle_kib / 1024, 1),
        block_ms=round(neighbour.block_s * 1000, 1),
        honest_cells=len(neighbour.times_s),
        **ratios(neighbour.times_s, quiet_s),
        p99_busy_ratio=ratios(neighbour.times_s, busy_s or quiet_s)["p99_ratio"],
    )


async def main(names: list[str]) -> None:
    link.WRITE_TIMEOUT_S = 1.0  # type: ignore[misc]  # what is bounded by a time is the same with a shorter one
    kernel_module.INTERRUPT_GRACE_S = 0.5  # type: ignore[misc]
    if not os.environ.get("AIRLOCK_LONG"):
        subcalls.MAX_PROMPTS_PER_CELL //= 10  # type: ignore[misc]
        kernel_module.MAX_MESSAGES_PER_CELL //= 10  # type: ignore[misc]
    box = await LocalBox().open()
    neighbour = Neighbour(box)
    try:
        quiet_s = await neighbour.alone(10 * QUIET_CELLS)
        await measured("busy_loop", box.store, neighbour, quiet_s, [])
        busy_s, times_s = neighbour.times_s, list[float]()
        for name in names:
            print(
                json.dumps(dataclasses.asdict(await measured(name, box.store, neighbour, quiet_s, busy_s))), flush=True
            )
            times_s += neighbour.times_s
        busy_ratio = ratios(times_s, busy_s)["p99_ratio"]
        everything = {"honest_cells": len(times_s), **ratios(times_s, quiet_s), "p99_busy_ratio": busy_ratio}
        print(json.dumps({"attack": "all", **everything}))
    finally:
        await box.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
