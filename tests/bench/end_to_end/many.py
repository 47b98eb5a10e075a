"""Many runs of the bAbI task at once, by this engine."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from typing import Any

from sandbox.host import shared_host
from sandbox.messages import Asked
from sandbox.owner import owner_label
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from tests.bench.end_to_end.crowd import Crowd, sampled
from tests.bench.end_to_end.script import CELLS, Task, reply, tasks
from tests.bench.memory import container_memory

CELLS_OF_A_RUN = "cells of a run alone, ms"


def scripted(latency_s: float) -> Any:
    """The model, played in this process."""
    from orchestrator import ScriptedProvider

    return ScriptedProvider(
        lambda request: reply([{"role": one.role, "content": one.content} for one in request.messages]),
        latency_s=latency_s,
    )


async def many(work: Mapping[str, Any]) -> dict[str, float]:
    """Work: ``runs`` and ``latency_s``. Once from a pool that has a box ready for each, once from a small one."""
    of_each = await asyncio.to_thread(tasks, work["runs"])
    cell_s = await cells_of_a_run_s()
    figures = {CELLS_OF_A_RUN: 1000 * cell_s}
    for ready in (work["runs"], work["few"]):
        name, size = f"{work['runs']} runs at once, {ready} boxes ready", ready
        figures |= await crowd_of(name, size, of_each, work["latency_s"], cell_s)
    return figures


async def cells_of_a_run_s() -> float:
    """What the ideal run takes beside its model: the seconds of its cells in a box that does nothing else."""
    host = await shared_host(lambda line: None)

    async def answer(asked: Asked) -> str:
        return asked.prompt

    taken = []
    box = await Sandbox.start(SandboxSpec(), engine=host.engine, store=host.store, image=host.image, handler=answer)
    async with box:
        for _ in range(50):
            began = time.perf_counter()
            await box.execute("1")
            taken.append(time.perf_counter() - began)
    return CELLS * statistics.median(taken)


async def crowd_of(name: str, size: int, of_each: list[Task], latency_s: float, cell_s: float) -> dict[str, float]:
    from orchestrator import RLM, SandboxPool

    model = scripted(latency_s)
    loop = asyncio.get_running_loop()
    crowd = Crowd(latency_s, lambda: asyncio.run_coroutine_threadsafe(boxes_memory(), loop).result())
    async with SandboxPool(size, max_boxes=len(of_each)) as pool:

        async def one(task: Task) -> None:
            began = time.perf_counter()
            result = await RLM(model, pool=pool).arun(task.question, task.context)
            if result.answer != task.gold:
                raise RuntimeError(f"{task.question}: {result.answer!r}, not {task.gold!r}; {result.stop_reason}")
            crowd.ended(time.perf_counter() - began)

        while pool.ready < size:
            await asyncio.sleep(0.1)
        crowd.starts()
        own_s = time.process_time()
        await asyncio.gather(*map(one, of_each))
        own_s = time.process_time() - own_s
        figures = crowd.figures(name, cell_s)
    figures[f"{name}: CPU of the orchestrator for each run, ms"] = 1000 * own_s / len(of_each)
    return figures


async def boxes_memory() -> list[float]:
    """PSS of some of this process's boxes."""
    engine = (await shared_host(lambda line: None)).engine
    mine = [str(box["Id"]) for box in await engine.list_boxes() if owner_label() in box["Labels"].values()]
    pids = [int((await engine.inspect(box))["State"]["Pid"]) for box in sampled(mine)]
    found = await asyncio.to_thread(lambda: [container_memory(pid)["pss_bytes"] for pid in pids])
    return [size for size in found if size]
