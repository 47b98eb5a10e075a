"""How boxes of a pool are removed: behind their runs, and by those that outlive it."""

from __future__ import annotations

import asyncio

from orchestrator import SandboxPool
from sandbox.sandbox import Sandbox
from tests.boxes import exists, never
from tests.runs import boxes_left


async def test_a_run_does_not_wait_for_the_removal_of_its_box_but_for_that_of_its_files() -> None:
    async with SandboxPool(0, max_boxes=1) as pool:
        sandbox = await Sandbox.start(
            pool.spec, engine=pool.host.engine, store=pool.host.store, handler=never, pool=pool.boxes
        )
        context = await asyncio.to_thread(pool.host.store.put, "secret")
        await sandbox.load("context", context)
        box = sandbox._box
        assert box is not None
        pool.boxes._removals = box.turn = held = asyncio.Semaphore(0)
        async with asyncio.timeout(10):
            await sandbox.aclose()
        assert not box.directory.exists()
        assert not box.alive
        assert pool.boxes.used == 1, "its place is free when it is gone"
        closing = asyncio.create_task(pool.aclose())
        await asyncio.sleep(0.1)
        assert not closing.done(), "whoever closes the pool waits for it"
        held.release()
        await closing
        pool.host.store.forget(context)
    assert boxes_left() == []


async def test_a_run_that_outlives_its_pool_removes_its_box_itself() -> None:
    async with SandboxPool(0) as pool:
        box = await pool.boxes.take(pool.spec)
        engine, container = box._engine, box.container
        assert container is not None
    await box.aclose()
    assert not await exists(engine, container)
    assert boxes_left() == []


async def test_whoever_gives_up_closing_the_pool_stops_no_removal() -> None:
    async with SandboxPool(0) as pool:
        boxes = pool.boxes
        box = await boxes.take(pool.spec)
        engine, container = box._engine, box.container
        assert container is not None
        box.turn = held = asyncio.Semaphore(0)
        await box.aclose()
        closing = asyncio.create_task(boxes.aclose())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        held.release()
        async with asyncio.timeout(60):
            while boxes.used:
                await asyncio.sleep(0.01)
        assert not await exists(engine, container)
    assert boxes_left() == []
