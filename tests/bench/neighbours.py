"""What a hostile box costs its neighbour in the same process: a cell with one `llm_query`, alone and beside others.

    python -m tests.bench.neighbours [ATTACK...] [--seconds 5] [--isolation container]

The neighbour runs cell after cell, alone, beside a box that only burns its CPU quota, and beside each attack, whose
floods no cap ends. Prints a Markdown row each. The machine's own speed is in every figure: compare rows of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import time

from sandbox import kernel, link, subcalls
from sandbox.cell import CellResult
from sandbox.errors import SandboxError
from sandbox.host import Host, shared_host
from sandbox.messages import Asked, SubCallFailure
from sandbox.sandbox import Sandbox
from sandbox.spec import CellLimits, KernelSettings, SandboxSpec
from tests.attack.wire.hostile_box import HostileEngine
from tests.bench.machine import program

SETTINGS = KernelSettings(functions=("llm_query", "llm_query_batched", "report"))
ATTACKS = ["after_the_limit", "million_queries", "gigabytes_after_the_limit", "reports", "output_flood"]
REFUSED = {"after_the_limit", "gigabytes_after_the_limit"}


async def echo(asked: Asked) -> str:
    return asked.prompt


async def refuse(asked: Asked) -> SubCallFailure:
    return SubCallFailure("LimitExceeded", "50 of 50 sub-calls used")


async def start(host: Host, spec: SandboxSpec, attack: str = "") -> Sandbox:
    engine = HostileEngine(attack) if attack else host.engine
    handler = refuse if attack in REFUSED else echo
    return await Sandbox.start(
        spec, engine=engine, store=host.store, image=host.image, settings=SETTINGS, handler=handler
    )


async def cells(neighbour: Sandbox, until: float) -> list[float]:
    """Seconds of each cell."""
    taken = []
    while time.perf_counter() < until:
        started = time.perf_counter()
        result: CellResult = await neighbour.execute("llm_query('?')")
        taken.append(time.perf_counter() - started)
        assert result.result.text == "'?'", result
        await asyncio.sleep(0.005)
    return taken


async def play(attacker: Sandbox, seconds: float) -> None:
    """The attack, again and again."""
    with contextlib.suppress(SandboxError):
        while attacker.alive:
            await attacker.execute("x", CellLimits(wall_s=seconds * 2, wait_s=seconds * 2, cpu_s=1000))


async def beside(host: Host, spec: SandboxSpec, neighbour: Sandbox, attack: str, seconds: float) -> list[float]:
    attacker = await start(host, spec, attack)
    playing = asyncio.create_task(play(attacker, seconds))
    await asyncio.sleep(0.2)
    taken = await cells(neighbour, time.perf_counter() + seconds)
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    await attacker.aclose()
    return taken


def share(taken: list[float], part: float) -> float:
    return sorted(taken)[int(part * len(taken))] * 1000


def row(name: str, taken: list[float], alone: list[float], busy: list[float]) -> str:
    p50, p99 = share(taken, 0.5), share(taken, 0.99)
    ratios = f"x{p99 / share(alone, 0.99):.2f} | x{p99 / share(busy, 0.99):.2f}"
    return f"| {name} | {len(taken)} | {p50:.1f} ms | {p99:.1f} ms | {ratios} |"


async def measure(attacks: list[str], seconds: float, spec: SandboxSpec) -> None:
    host = await shared_host(print)
    print("| beside | cells | p50 | p99 | p99 to alone | p99 to CPU burned |\n|---|---|---|---|---|---|")
    async with await start(host, spec) as neighbour:
        for attack in attacks:
            alone = await cells(neighbour, time.perf_counter() + seconds)
            busy = await beside(host, spec, neighbour, "busy_loop", seconds)
            taken = await beside(host, spec, neighbour, attack, seconds)
            for name, figures in (("nobody", alone), ("CPU burned", busy), (attack, taken)):
                print(row(name, figures, alone, busy), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", default=ATTACKS)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--isolation", choices=["container", "gvisor"], default="container")
    options = parser.parse_args()
    link.WRITE_TIMEOUT_S = options.seconds * 2  # type: ignore[misc]
    kernel.MAX_MESSAGES_PER_CELL = kernel.MAX_BYTES_PER_CELL = 1 << 60  # type: ignore[misc]
    subcalls.MAX_PROMPTS_PER_CELL = subcalls.MAX_REFUSED_BYTES_PER_CELL = 1 << 60  # type: ignore[misc]
    spec = dataclasses.replace(SandboxSpec(), isolation=options.isolation)
    asyncio.run(measure(options.attacks, options.seconds, spec))


if __name__ == "__main__":
    raise SystemExit(program(main))
