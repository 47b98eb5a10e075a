"""What a box costs: cold start, a cell, an `llm_query` answered at once, a context of 50 MB.

    python -m tests.bench.box_timings [--isolation container gvisor] [--rounds 5]

Prints a Markdown row for each isolation, medians over the rounds. The machine's own speed is in every figure: compare
rows of one run only. `create + start` is the engine's share of the cold start.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from sandbox.engine import Engine
from sandbox.host import Host, shared_host
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from sandbox.store import Store

CELLS = 200
CONTEXT = "a line of fifty characters, the last one a newline\n" * 1_000_000


async def answer(prompt: str, data: str | None) -> str:
    """The sub-model that costs nothing."""
    return prompt


async def timed(awaitable: Awaitable[Any]) -> tuple[float, Any]:
    """Seconds it took, and what it returned."""
    started = time.perf_counter()
    value = await awaitable
    return time.perf_counter() - started, value


async def create_and_start(engine: Engine, spec: SandboxSpec, image: str, directory: str) -> float:
    """The engine's own share of a start."""
    started = time.perf_counter()
    box = await engine.create(spec, image=image, context_dir=directory, owner="bench 0")
    await engine.attach(box)
    await engine.start(box)
    taken = time.perf_counter() - started
    await engine.remove(box)
    return taken


async def one_round(host: Host, store: Store, spec: SandboxSpec) -> dict[str, float]:
    """All figures of one box, in seconds."""
    with tempfile.TemporaryDirectory() as directory:
        engine_s = await create_and_start(host.engine, spec, host.image, directory)
    started = time.perf_counter()
    sandbox = await Sandbox.start(spec, engine=host.engine, store=store, image=host.image, handler=answer)
    async with sandbox:
        await sandbox.execute("1")
        cold_s = time.perf_counter() - started
        cells_s, _ = await timed(_cells(sandbox))
        queries_s, _ = await timed(sandbox.execute(f"for _ in range({CELLS}): llm_query('?')"))
        stored = store.put(CONTEXT)
        load_s, _ = await timed(sandbox.load("context", stored))
    return {
        "create + start": engine_s,
        "cold start to first cell": cold_s,
        "cell": cells_s / CELLS,
        "llm_query": queries_s / CELLS,
        "load of 50 MB": load_s,
    }


async def _cells(sandbox: Sandbox) -> None:
    for _ in range(CELLS):
        await sandbox.execute("1")


async def measure(isolation: str, rounds: int) -> dict[str, float]:
    """Medians over the rounds, in seconds."""
    host = await shared_host(print)
    spec = SandboxSpec(isolation=isolation)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory))
        taken = [await one_round(host, store, spec) for _ in range(rounds)]
        store.close()
    return {name: statistics.median(figures[name] for figures in taken) for name in taken[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isolation", nargs="+", choices=["container", "gvisor"], default=["container"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for number, isolation in enumerate(options.isolation):
        figures = asyncio.run(measure(isolation, options.rounds))
        if number == 0:
            print("| isolation | " + " | ".join(figures) + " |\n|" + "---|" * (len(figures) + 1))
        print(f"| {isolation} | " + " | ".join(f"{value * 1000:,.1f} ms" for value in figures.values()) + " |")


if __name__ == "__main__":
    main()
