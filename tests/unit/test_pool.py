"""The pool of boxes without an engine: what is left to do when it is closed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from sandbox.box import Box
from sandbox.engine import Engine
from sandbox.pool import Pool
from sandbox.spec import SandboxSpec
from sandbox.store import Store


async def test_whoever_gives_up_closing_the_pool_stops_no_removal(tmp_path: Path) -> None:
    store, slow, removed = Store(tmp_path / "store"), asyncio.Event(), []

    class SlowEngine:
        async def remove(self, container: str) -> bool:
            await slow.wait()
            removed.append(container)
            return True

    async def open_box(spec: SandboxSpec) -> Box:
        box = Box(spec, cast("Engine", SlowEngine()), store, store.new_box_dir())
        box.container = "of a run"
        return box

    spec = SandboxSpec()
    pool = Pool(spec, open_box, size=0, max_boxes=1, idle_s=60)
    try:
        await (await pool.take(spec)).aclose()
        closing = asyncio.create_task(pool.aclose())
        await asyncio.sleep(0.01)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        slow.set()
        async with asyncio.timeout(2):
            while pool.used:
                await asyncio.sleep(0.01)
        assert removed == ["of a run"]
    finally:
        store.close()
