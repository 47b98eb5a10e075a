"""Airlock: a kernel in a locked box, without the gate and the loop above it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

from sandbox.engine import Engine
from sandbox.host import shared_host
from sandbox.messages import Asked
from sandbox.owner import owner_label
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from sandbox.store import Store
from tests.bench.memory import container_memory
from tests.bench.own_process import Samples, measured_here
from tests.bench.speed.figures import GIVES_VALUE, MIB, Counts, calls_code, context_text, seconds_printed

VALUE = "v" * MIB


async def answer(asked: Asked) -> str:
    """The sub-model that costs nothing."""
    return VALUE if asked.prompt == GIVES_VALUE else asked.prompt


async def shown(sandbox: Sandbox, code: str) -> str:
    """What a cell printed."""
    result = await sandbox.execute(code)
    if result.status != "ok":
        raise SystemExit(f"{code[:100]}: {result}"[:500])
    return result.stdout.text


async def own_box(engine: Engine) -> int:
    """The first process of the one box of this process, as the host numbers it."""
    mine = [box["Id"] for box in await engine.list_boxes() if owner_label() in box["Labels"].values()]
    record = await engine.inspect(mine[0])
    return int(record["State"]["Pid"])


async def measure(work: dict[str, Any]) -> dict[str, Any]:
    """All figures of one box."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["AIRLOCK_STATE"] = state
        host = await shared_host(lambda line: None)
        store = Store(Path(state) / "bench")
        try:
            samples = await one_box(work, host.engine, host.image, store)
        finally:
            store.close()
    return {"samples": samples.taken}


async def one_box(work: dict[str, Any], engine: Engine, image: str, store: Store) -> Samples:
    counts, samples = Counts.of(work), Samples()
    spec = SandboxSpec(isolation=work["isolation"])
    await engine.check(spec)  # once a process, as the image and the store
    await _engine_alone(spec, engine, image, samples)
    with samples.timed("start"):
        sandbox = await Sandbox.start(spec, engine=engine, store=store, image=image, handler=answer)
        await sandbox.execute("1")
    async with sandbox:
        for name, size in container_memory(await own_box(engine)).items():
            samples.add(name, size)
        await _cells(sandbox, "cell", counts.cells, samples)
        samples.add(
            "host_call",
            *seconds_printed(await shown(sandbox, calls_code("llm_query('?')", counts.calls, reply_chars=1))),
        )
        await _values(sandbox, store, counts, samples)
        text = context_text(counts.context_bytes)
        with samples.timed("context"):
            await sandbox.load("context", await asyncio.to_thread(store.put, text))
        await _cells(sandbox, "cell_with_context", counts.cells, samples)
    return samples


async def _engine_alone(spec: SandboxSpec, engine: Engine, image: str, samples: Samples) -> None:
    """The engine's share of a start: a box that nobody says hello to."""
    with tempfile.TemporaryDirectory() as folder:
        with samples.timed("engine_start"):
            box = await engine.create(spec, image=image, context_dir=folder, owner="bench 0")
            try:
                _, writer = await engine.attach(box)
                await engine.start(box)
            except BaseException:
                await engine.remove(box)
                raise
        writer.close()
        await engine.remove(box)


async def _cells(sandbox: Sandbox, name: str, count: int, samples: Samples) -> None:
    for _ in range(count):
        with samples.timed(name):
            await sandbox.execute("1")


async def _values(sandbox: Sandbox, store: Store, counts: Counts, samples: Samples) -> None:
    """The three ways of 1 MiB into the kernel; the store is the one that Airlock is made for."""
    replies = calls_code(f"llm_query({GIVES_VALUE!r})", counts.values, reply_chars=MIB)
    samples.add("value_as_reply", *seconds_printed(await shown(sandbox, replies)))
    for _ in range(counts.values):
        text = context_text(MIB)
        with samples.timed("value"):
            await sandbox.load("value", await asyncio.to_thread(store.put, text))
        code = f"value = {context_text(MIB)!r}"
        with samples.timed("value_as_code"):
            await shown(sandbox, code)


if __name__ == "__main__":
    measured_here(lambda work: asyncio.run(measure(work)))
