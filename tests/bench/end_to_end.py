"""What a run costs over its model's own time, how long it holds up the event loop, and how fast the command starts.

    python -m tests.bench.end_to_end [--parts overhead blocks starts] [--latency 1] [--rounds 3] [--out DIR]

- `overhead`: a run of 10 turns with 5 sub-calls in each, one after another, by scripted models of a stated latency: the
  time that the run took over theirs, its box's start included.
- `blocks`: the longest time in which the event loop of a run got nothing else done, while a cell prints 50 MB and while
  the orchestrator cuts a text of that size.
- `starts`: `airlock --help`, `import orchestrator`, and a bare `python -c pass` beside them.

Each is measured in a process of its own, in rounds. A part is a function of `PARTS` and its rows of `AIMS`: what a pool
of boxes makes of a hundred runs at once belongs there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.engine import Engine
from sandbox.image import ensure_image
from tests.bench.findings import default_folder, missed, write
from tests.bench.machine import machine, machine_lines, versions
from tests.bench.own_process import REPOSITORY, Failed, interruptible, measure_apart, measured_here, say

TURNS, CALLS = 10, 5
PRINTED_CHARS = 50_000_000
TICK_S = 0.001
Figures = dict[str, float]

AIMS = {
    "overhead": {"over the model's own time, %": 1.0},
    "blocks": {
        "longest block, a run that prints little, ms": 50.0,
        "longest block, a cell prints 50 MB at once, ms": 50.0,
        "longest block, a cell prints 50 MB in lines, ms": 50.0,
        "longest block, a text of 50 MB is cut, ms": 50.0,
    },
    "starts": {"airlock --help, ms": 200.0, "import orchestrator, ms": 150.0, "python -c pass, ms": float("inf")},
}
"""What each part gives, and the most that it shall be."""


async def overhead(work: Mapping[str, Any]) -> Figures:
    """One run against its models' latency."""
    from orchestrator import RLM, Limits, ScriptedProvider

    latency_s = work["latency_s"]
    ask = f"replies = [llm_query(f'question {{number}}') for number in range({CALLS})]"
    cells = [f"turn = {turn}\n{ask}" for turn in range(TURNS - 1)] + [f"{ask}\nFINAL('done')"]
    root = ScriptedProvider([f"```repl\n{cell}\n```" for cell in cells], latency_s=latency_s)
    sub = ScriptedProvider(lambda request: "yes", latency_s=latency_s)
    rlm = RLM(root, sub, limits=Limits(max_turns=TURNS, max_sub_calls=TURNS * CALLS))
    started = time.perf_counter()
    result = await rlm.arun("What?", "a context")
    taken = time.perf_counter() - started
    if result.answer != "done" or result.usage.sub_calls != TURNS * CALLS:
        raise SystemExit(f"the run ended as {result.stop_reason} after {result.usage.sub_calls} sub-calls")
    own = latency_s * TURNS * (1 + CALLS)
    return {"over the model's own time, %": 100 * (taken - own) / own}


@contextlib.asynccontextmanager
async def longest_block(figures: Figures, name: str) -> AsyncIterator[None]:
    """Note by how much a task that wants to wake each millisecond was kept from it at most."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            longest = max(longest, time.perf_counter() - due)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    try:
        yield
    finally:
        ticking.cancel()
        figures[name] = longest * 1000


async def blocks(work: Mapping[str, Any]) -> Figures:
    """The longest block of a run for each kind of output."""
    from orchestrator import RLM, ScriptedProvider, truncate_output

    chars = work["printed_chars"]
    printing = {
        "a run that prints little": "print(1)",
        "a cell prints 50 MB at once": f"print('x' * {chars})",
        "a cell prints 50 MB in lines": f"for _ in range({chars // 100}): print('x' * 99)",
    }
    figures: Figures = {}
    for what in ("a run that prints little", *printing):  # twice: the first run of a process imports what all use
        root = ScriptedProvider([f"```repl\n{printing[what]}\n```", "FINAL(done)"])
        async with longest_block(figures, f"longest block, {what}, ms"):
            result = await RLM(root).arun("What?", "a context")
        if result.answer != "done":
            raise SystemExit(f"{what}: the run ended as {result.stop_reason}")
    text = "x" * chars
    async with longest_block(figures, "longest block, a text of 50 MB is cut, ms"):
        truncate_output(text)
        await asyncio.sleep(2 * TICK_S)
    return figures


async def starts(work: Mapping[str, Any]) -> Figures:
    """The least of a few starts of each, since a start can only be held up."""
    commands = {
        "airlock --help, ms": [str(Path(sys.executable).parent / "airlock"), "--help"],
        "import orchestrator, ms": [sys.executable, "-c", "import orchestrator"],
        "python -c pass, ms": [sys.executable, "-c", "pass"],
    }
    figures: Figures = {}
    for name, command in commands.items():
        for _ in range(work["starts"] + 1):  # the first fills the page cache
            started = time.perf_counter()
            subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
            taken = (time.perf_counter() - started) * 1000
            figures[name] = min(taken, figures.get(name, taken))
    return figures


PARTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {"overhead": overhead, "blocks": blocks, "starts": starts}


def measure(work: dict[str, Any]) -> Figures:
    """Work: ``part``, and what that part reads."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["AIRLOCK_STATE"] = state
        figures: Figures = asyncio.run(PARTS[work["part"]](work))
    return figures


def markdown(findings: Mapping[str, Any]) -> str:
    """A line for each figure: its median, the most, and the aim."""
    lines = ["# A whole run", "", *machine_lines(findings), f"- rounds: {findings['rounds']}", ""]
    lines += ["| | median | most | aim | |", "|---|---|---|---|---|"]
    for part, figures in findings["parts"].items():
        for name, values in figures.items():
            aim, median = AIMS[part][name], statistics.median(values)
            most = "-" if aim == float("inf") else f"{aim:g}"
            verdict = "" if most == "-" else "met" if median <= aim else missed(median / aim)
            lines.append(f"| {name} | {median:,.3g} | {max(values):,.3g} | {most} | {verdict} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=inspect.getdoc(sys.modules[__name__]))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--latency", type=float, default=1.0, help="seconds of each call of a model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a little of each: only to see that it works")
    parser.add_argument("--out", type=Path, help="folder of the results (tests/bench/results/DATE-HOST)")
    options = parser.parse_args(arguments)
    work = {"latency_s": options.latency, "printed_chars": PRINTED_CHARS, "starts": 10}
    if options.small:
        work |= {"printed_chars": PRINTED_CHARS // 100, "starts": 1}
    on = machine()
    ensure_image(say)
    found: dict[str, dict[str, list[float]]] = {}
    failed = 0
    for number in range(options.rounds):
        for part in options.parts:
            say(f"round {number + 1} of {options.rounds}: {part}")
            try:
                figures = measure_apart("tests.bench.end_to_end", {**work, "part": part})
            except Failed as failure:
                say(f"  {failure}")
                failed += 1
                continue
            for name, value in figures.items():
                found.setdefault(part, {}).setdefault(name, []).append(value)
    findings = {"machine": on, "versions": asyncio.run(_versions()), "rounds": options.rounds, "parts": found}
    write(options.out or default_folder(on), "end_to_end", findings, markdown(findings), plot=False)
    return 1 if failed else 0


async def _versions() -> dict[str, str]:
    engine = await Engine.connect()
    try:
        return await versions(engine)
    finally:
        await engine.aclose()


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):
        measured_here(measure)
    else:
        raise SystemExit(interruptible(main))
