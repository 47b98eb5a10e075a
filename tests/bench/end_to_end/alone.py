"""One run alone: what it costs over its model's own time, and for how long it holds up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

Figures = dict[str, float]

TURNS, CALLS = 10, 5
THREADS = 64
TICK_S = 0.001
APART_S = 1.5
"""Between the beginnings of two runs that then mostly wait side by side, so that one box's start meets no other."""


async def overhead(work: Mapping[str, Any]) -> Figures:
    """Two runs against their models' latency: one that starts its box, and beside it one whose box is ready."""
    from orchestrator import SandboxPool

    async with SandboxPool(1) as pool:
        cold = asyncio.create_task(_over(work["latency_s"], None))
        await asyncio.sleep(APART_S)
        ready = await _over(work["latency_s"], pool)
        return {
            "over the model's own time, cold start included, %": await cold,
            "over the model's own time, box ready, %": ready,
        }


async def _over(latency_s: float, pool: Any) -> float:
    from orchestrator import RLM, Limits, ScriptedProvider

    ask = f"replies = [llm_query(f'question {{number}}') for number in range({CALLS})]"
    cells = [f"turn = {turn}\n{ask}" for turn in range(TURNS - 1)] + [f"{ask}\nFINAL('done')"]
    root = ScriptedProvider([f"```repl\n{cell}\n```" for cell in cells], latency_s=latency_s)
    sub = ScriptedProvider(lambda request: "yes", latency_s=latency_s)
    rlm = RLM(root, sub, limits=Limits(max_turns=TURNS, max_sub_calls=TURNS * CALLS), pool=pool)
    started = time.perf_counter()
    result = await rlm.arun("What?", "a context")
    taken = time.perf_counter() - started
    if result.answer != "done" or result.usage.sub_calls != TURNS * CALLS:
        raise SystemExit(f"the run ended as {result.stop_reason} after {result.usage.sub_calls} sub-calls")
    own = latency_s * TURNS * (1 + CALLS)
    return 100 * (taken - own) / own


async def threads(work: Mapping[str, Any]) -> Figures:
    """A cell whose threads all ask at once, as the cell itself sees it. The first one of a box starts its threads."""
    from orchestrator import RLM, Limits, ScriptedProvider

    cell = f"""
import threading, time
replies = []
threads = [threading.Thread(target=lambda n=n: replies.append(llm_query(f"question {{n}}"))) for n in range({THREADS})]
began = time.perf_counter()
for thread in threads: thread.start()
for thread in threads: thread.join()
taken = time.perf_counter() - began
assert len(replies) == {THREADS}
print(taken)
"""
    root = ScriptedProvider([f"```repl\n{cell}\n```"] * work["cells"] + ["FINAL(done)"])
    sub = ScriptedProvider(lambda request: "yes", latency_s=work["latency_s"])
    limits = Limits(max_turns=work["cells"] + 1, max_sub_calls=THREADS * work["cells"], max_concurrency=THREADS)
    result = await RLM(root, sub, limits=limits).arun("What?", "a context")
    taken = [float(turn.cells[0].output) for turn in result.turns if turn.cells]
    if result.answer != "done" or len(taken) != work["cells"]:
        raise SystemExit(f"the run ended as {result.stop_reason} after {len(taken)} cells")
    over = sorted(1000 * (seconds - work["latency_s"]) for seconds in taken)
    return {f"{THREADS} threads of llm_query, over the model's time, ms": over[len(over) // 2]}


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
