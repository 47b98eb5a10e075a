"""How fast a box of the pool is there: from its checkout to the result of a first cell that has read the context.

    python -m tests.bench.pool [--rounds 100] [--mib 10]

Prints the median, p95 and p99 of the whole and of its parts, beside a cold start of the same in the same run, and what
boxes that wait cost: CPU time over ten seconds, and proportional memory (PSS). The context is in the store before. A
second row is the same by `RLM.arun`, from the question to its first cell's end: the context is a str there, which each
run hashes and stores.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import time
from collections.abc import Sequence

from orchestrator import RLM, ScriptedProvider, TraceEvent
from orchestrator.pool import SandboxPool
from sandbox.box import Box
from sandbox.host import shared_host
from sandbox.messages import Asked
from sandbox.pool import Pool
from sandbox.sandbox import Sandbox
from sandbox.store import StoredContext
from tests.bench.machine import program
from tests.bench.memory import descendants, pss_bytes

IDLE_S = 10.0


async def answer(asked: Asked) -> str:
    """The sub-model that costs nothing."""
    return asked.prompt


async def one(pool: Pool | None, spec_of: SandboxPool, context: StoredContext) -> dict[str, float]:
    """Seconds of one checkout or start, and of its parts."""
    host = await shared_host(print)
    began = time.perf_counter()
    box = await Sandbox.start(
        spec_of.spec, engine=host.engine, store=host.store, image=host.image, handler=answer, pool=pool
    )
    async with box:
        started = time.perf_counter()
        await box.load("context", context)
        loaded = time.perf_counter()
        result = await box.execute("len(context)")
        ended = time.perf_counter()
        assert int(result.result.text) == context.size_bytes
    return {"whole": ended - began, "start": started - began, "load": loaded - started, "cell": ended - loaded}


async def one_run(pool: SandboxPool, text: str) -> float:
    """Seconds from a question to the end of the first cell that a root asks for at once."""
    ended: list[float] = []

    def listen(event: TraceEvent) -> None:
        if event.kind == "cell":
            ended.append(time.perf_counter())

    root = ScriptedProvider(lambda _: "```repl\nFINAL(len(context))\n```")
    began = time.perf_counter()
    result = await RLM(root, pool=pool).arun("How long is it?", text, listeners=[listen])
    assert result.answer == str(len(text))
    return ended[0] - began


async def ready(pool: SandboxPool, boxes: int) -> None:
    """Wait for so many ready boxes, and a moment more: nothing else is begun by then."""
    while pool.ready < boxes:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


async def waiting_costs(boxes: Sequence[Box]) -> tuple[float, float]:
    """Share of a core that a waiting box takes, and its PSS in bytes; the latter is NaN where it can't be read."""
    host = await shared_host(print)
    records = [await host.engine.inspect(str(box.container)) for box in boxes]
    before_s = [await box.cpu_s() for box in boxes]
    await asyncio.sleep(IDLE_S)
    after_s = [await box.cpu_s() for box in boxes]
    used_s = sum((after or 0) - (before or 0) for before, after in zip(before_s, after_s, strict=True))
    pss = [pss_bytes(descendants(record["State"]["Pid"])) or math.nan for record in records]
    return used_s / IDLE_S / len(boxes), sum(pss) / len(boxes)


def told(name: str, figures: list[dict[str, float]]) -> str:
    """A row of the table."""
    cells = []
    for part in figures[0]:
        taken = sorted(1000 * figure[part] for figure in figures)
        last = taken[min(len(taken) - 1, int(0.99 * len(taken)))]
        cells.append(f"{statistics.median(taken):,.1f} / {taken[int(0.95 * len(taken))]:,.1f} / {last:,.1f}")
    return f"| {name} | " + " | ".join(cells) + " |"


async def measure(rounds: int, mib: int) -> None:
    """Checkouts and cold starts in turn, so that the machine's moods meet both."""
    host = await shared_host(print)
    text = "a line of fifty characters, the last one a newline\n" * (mib * (1 << 20) // 51)
    context = host.store.put(text)
    try:
        async with SandboxPool(2) as pool:
            warm, runs, cold = [], [], []
            for number in range(rounds):
                await ready(pool, 2)
                warm.append(await one(pool.boxes, pool, context))
                if number % 5 == 0:
                    await ready(pool, 2)
                    runs.append({"whole": await one_run(pool, text[:-51] + f"{number:50}\n")})
                    cold.append(await one(None, pool, context))
            await ready(pool, 2)
            share, pss = await waiting_costs(pool.boxes._ready)
    finally:
        host.store.forget(context)
    print("| ms: p50 / p95 / p99 | " + " | ".join(warm[0]) + " |\n|" + "---|" * (len(warm[0]) + 1))
    print(told(f"a ready box, {mib} MiB", warm[1:] or warm))
    print(told("a cold start", cold))
    print(told("a run with a ready box, all that comes before its first cell included", runs))
    print(f"a box that waits: {100 * share:.2f} % of a core, {pss / 1e6:,.0f} MB PSS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--mib", type=int, default=10)
    options = parser.parse_args()
    asyncio.run(measure(options.rounds, options.mib))


if __name__ == "__main__":
    raise SystemExit(program(main))
