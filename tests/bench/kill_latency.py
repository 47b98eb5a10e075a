"""How long a box outlives its host process.

    python -m tests.bench.kill_latency [--isolation gvisor] [--kills 50] [--cell sleep|signals|stop]

Each round starts a process that runs a question with a scripted root, kills it with SIGKILL in the middle of a cell and
asks the engine until the box is gone. `signals` first sends PID 1 of the box every signal but SIGTERM and SIGKILL (and,
under gVisor, but SIGSTOP, which `stop` sends alone). Prints a Markdown row: rounds, p50, p99, most, left over.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import signal
import subprocess
import sys
import time

from sandbox.engine import LABEL, Engine
from sandbox.owner import Owner
from tests.bench.machine import program

SLEEP = "import time; print('in the cell'); time.sleep(120)"
SIGNALS = """
import contextlib, os, signal, time
for number in sorted(signal.valid_signals() - {{signal.SIGTERM, signal.SIGKILL, {spared}}}):
    with contextlib.suppress(OSError):
        os.kill(1, number)
time.sleep(120)
"""
STOP = """
import contextlib, os, signal, time
with contextlib.suppress(OSError):
    os.kill(1, signal.SIGSTOP)
time.sleep(120)
"""
CELLS = {
    ("sleep", "container"): SLEEP,
    ("sleep", "gvisor"): SLEEP,
    ("signals", "container"): SIGNALS.format(spared="0"),
    ("signals", "gvisor"): SIGNALS.format(spared="signal.SIGSTOP"),
    ("stop", "gvisor"): STOP,
    ("stop", "container"): STOP,
}
VICTIM = """
import asyncio, sys
from orchestrator import RLM, SandboxSpec, ScriptedProvider
def tell(event):
    if event.kind == "cell_start":
        print("cell", flush=True)
model = ScriptedProvider(lambda request: "```repl\\n" + sys.argv[1] + "\\n```")
rlm = RLM(model, prompt_mode="no_subcalls", sandbox=SandboxSpec(isolation=sys.argv[2]))
asyncio.run(rlm.arun("?", "text", listeners=[tell]))
"""
SETTLE_S = 0.2
"""After the host's `cell_start`, for the cell to be in its sleep."""
GIVE_UP_S = 30.0


async def boxes_of(engine: Engine, pid: int) -> list[str]:
    """The boxes whose owner is this process, running or not."""
    boxes = [(box["Id"], Owner.parse(box["Labels"][LABEL])) for box in await engine.list_boxes()]
    return [box for box, owner in boxes if owner and owner.pid == pid]


async def kill_one(engine: Engine, cell: str, isolation: str) -> float:
    """Kill one host in the middle of a cell; returns the seconds its box outlived it, or infinity."""
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, cell, isolation], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    line = await asyncio.to_thread(victim.stdout.readline)
    if line != "cell\n" or not await boxes_of(engine, victim.pid):
        raise SystemExit("the victim never ran its cell")
    await asyncio.sleep(SETTLE_S)
    os.kill(victim.pid, signal.SIGKILL)
    killed = time.monotonic()
    victim.wait()
    victim.stdout.close()
    while left := await boxes_of(engine, victim.pid):
        if time.monotonic() - killed > GIVE_UP_S:
            for box in left:
                await engine.remove(box)
            return math.inf
        await asyncio.sleep(0.01)
    return time.monotonic() - killed


async def measure(kills: int, cell: str, isolation: str) -> list[float]:
    """Seconds of each round, sorted."""
    engine = await Engine.connect()
    try:
        return sorted([await kill_one(engine, CELLS[cell, isolation], isolation) for _ in range(kills)])
    finally:
        await engine.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--cell", choices=["sleep", "signals", "stop"], default="sleep")
    parser.add_argument("--isolation", choices=["container", "gvisor"], default="container")
    options = parser.parse_args()
    taken = asyncio.run(measure(options.kills, options.cell, options.isolation))
    p99 = taken[min(len(taken) - 1, math.ceil(0.99 * len(taken)) - 1)]
    left = sum(math.isinf(value) for value in taken)
    print("| isolation | cell | kills | p50 s | p99 s | most s | outlived 30 s |\n|---|---|---|---|---|---|---|")
    print(
        f"| {options.isolation} | {options.cell} | {len(taken)} | {taken[len(taken) // 2]:.2f} | {p99:.2f} | "
        f"{taken[-1]:.2f} | {left} |"
    )


if __name__ == "__main__":
    raise SystemExit(program(main))
