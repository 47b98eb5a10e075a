"""One point of one series, in a process of its own: what one size costs in seconds and in bytes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from orchestrator import RLM, UNLIMITED, Limits, ScriptedProvider
from orchestrator.providers.base import ModelRequest
from sandbox.host import Host, shared_host
from sandbox.large_text import put_text_file
from sandbox.messages import Asked
from sandbox.owner import owner_label
from sandbox.sandbox import Sandbox
from sandbox.spec import MIB, SandboxSpec
from tests.bench.memory import container_memory
from tests.bench.own_process import measured_here
from tests.bench.speed.figures import LINE, context_text

BATCH = 100
CLEAR_REFS = Path("/proc/self/clear_refs")
Figures = dict[str, float]


async def echo(asked: Asked) -> str:
    return asked.prompt


def status_bytes(field: str) -> int:
    """A field of this process's memory, as the kernel keeps it: ``VmRSS`` now, ``VmHWM`` the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field + ":"))


@contextlib.contextmanager
def costed(figures: Figures) -> Iterator[None]:
    """Note the block's seconds, and the most memory that this process had more in it than before."""
    linux = CLEAR_REFS.exists()
    if linux:
        CLEAR_REFS.write_text("5")  # the most so far is what it has now
    before, started = status_bytes("VmRSS") if linux else 0, time.perf_counter()
    yield
    figures["seconds"] = time.perf_counter() - started
    if linux:
        figures["host_bytes"] = max(1, status_bytes("VmHWM") - before)


async def box_bytes(host: Host) -> float | None:
    """PSS of all boxes of this process together; None where it can't be read."""
    total = 0
    for box in await host.engine.list_boxes():
        if owner_label() in box["Labels"].values():
            record = await host.engine.inspect(box["Id"])
            pss = container_memory(int(record["State"]["Pid"]))["pss_bytes"]
            if pss is None:
                return None
            total += pss
    return total


async def started_box(host: Host, spec: SandboxSpec) -> Sandbox:
    return await Sandbox.start(spec, engine=host.engine, store=host.store, image=host.image, handler=echo)


async def context(size: int, figures: Figures) -> None:
    """A str of so many bytes into the store and into a box."""
    host = await shared_host(lambda line: None)
    text = context_text(size)
    box = await started_box(host, SandboxSpec(memory_bytes=max(512 * MIB, 3 * size + 256 * MIB)))
    async with box:
        with costed(figures):
            await box.load("context", await asyncio.to_thread(host.store.put, text))
        await _add_box_bytes(host, figures)


async def lazy_context(size: int, figures: Figures) -> None:
    """A file of so many bytes into the store and, lazily, into a box of one size."""
    host = await shared_host(lambda line: None)
    box = await started_box(host, SandboxSpec(memory_bytes=512 * MIB))
    async with box:
        path = host.store.folder / "growth.txt"
        with path.open("w") as file:
            for _ in range(size // MIB + 1):
                file.write(LINE * (MIB // len(LINE)))
            file.flush()
            os.fsync(file.fileno())  # or the store's copy would wait for the disk to take this one
        with costed(figures):
            stored = await asyncio.to_thread(put_text_file, host.store, path)
            await box.load("context", dataclasses.replace(stored, lazy=True))
            await box.execute("context.count('as many as there are')")
        await _add_box_bytes(host, figures)


async def boxes(size: int, figures: Figures) -> None:
    """So many boxes started at once, a cell in each."""
    host = await shared_host(lambda line: None)
    spec = SandboxSpec(memory_bytes=256 * MIB, start_timeout_s=600)
    async with contextlib.AsyncExitStack() as opened:

        async def one() -> None:
            box = await opened.enter_async_context(await started_box(host, spec))
            await box.execute("1")

        with costed(figures):
            await asyncio.gather(*(one() for _ in range(size)))
        await _add_box_bytes(host, figures)


async def _add_box_bytes(host: Host, figures: Figures) -> None:
    pss = await box_bytes(host)
    if pss is not None:
        figures["box_bytes"] = pss


async def turns(size: int, figures: Figures) -> None:
    """A run of so many turns, each a cell that does something new."""

    def reply(request: ModelRequest) -> str:
        number = len(root.requests)
        return "FINAL(done)" if number > size else f"```repl\nvalue_{number} = {number}\nprint(value_{number})\n```"

    root = ScriptedProvider(reply)
    with costed(figures):
        await _answered(RLM(root, limits=dataclasses.replace(WIDE, max_turns=size + 1)))


async def sub_calls(size: int, figures: Figures) -> None:
    """A run whose one cell asks so many sub-questions, a hundred at a time."""

    def answer(request: ModelRequest) -> str:
        sub.requests.clear()  # or the script's memory would be measured
        return "yes"

    asking = "llm_query_batched([f'{number}?' for number in range(start, min(start + batch, count))])"
    cell = f"count, batch = {size}, {BATCH}\nfor start in range(0, count, batch):\n    {asking}"
    root = ScriptedProvider([f"```repl\n{cell}\n```", "FINAL(done)"])
    sub = ScriptedProvider(answer)
    with costed(figures):
        result = await _answered(RLM(root, sub, limits=WIDE))
    if result.usage.sub_calls != size:
        raise SystemExit(f"{result.usage.sub_calls} sub-calls of {size}: {result.turns[0].cells[0].output[-500:]}")


WIDE = Limits(
    max_sub_calls=UNLIMITED,
    max_tokens=UNLIMITED,
    max_wall_s=UNLIMITED,
    cell_wall_s=UNLIMITED,
    cell_cpu_s=UNLIMITED,
    cell_wait_s=UNLIMITED,
)


async def _answered(rlm: RLM) -> Any:
    result = await rlm.arun("What?", "a context")
    if result.answer != "done":
        raise SystemExit(f"the run ended as {result.stop_reason}: {result.answer!r:.200}")
    return result


SERIES: dict[str, Callable[[int, Figures], Any]] = {
    "context": context,
    "lazy_context": lazy_context,
    "turns": turns,
    "sub_calls": sub_calls,
    "boxes": boxes,
}


def measure(work: dict[str, Any]) -> Figures:
    """Work: ``series`` and ``size``."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as state:
        os.environ["AIRLOCK_STATE"] = state
        asyncio.run(SERIES[work["series"]](work["size"], figures))
    return figures


if __name__ == "__main__":
    measured_here(measure)
