"""A cell whose CPU time an engine is slow to say."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.clocks import CellClocks
from sandbox.messages import Reply
from sandbox.open_cell import OpenCell
from sandbox.spec import CellLimits

OK = Reply(
    parent_id="1", msg_type="execute_reply", ok=True, error_name="", error_text="", traceback="", true_chars={},
    error_line=0, buffers=(),
)  # fmt: skip


class SlowEngine:
    """Says the CPU time when it is let."""

    def __init__(self) -> None:
        self.asked, self.may_say = asyncio.Event(), asyncio.Event()

    async def cpu_s(self) -> float:
        self.asked.set()
        await self.may_say.wait()
        return 100.0


def cell_of(engine: SlowEngine) -> OpenCell:
    return OpenCell(CellClocks(CellLimits(cpu_s=0.001), 1.0, engine.cpu_s), 100)


@pytest.mark.parametrize("how", ["the cell ends", "the box ends"])
async def test_what_ends_meanwhile_does_not_wait_for_the_engine(how: str) -> None:
    engine, gone = SlowEngine(), asyncio.Event()
    cell = cell_of(engine)
    await asyncio.sleep(0.002)
    asking = asyncio.create_task(cell.expired(gone))
    await engine.asked.wait()
    if how == "the cell ends":
        cell.reply, cell.idle = OK, True
    else:
        gone.set()
    cell.progress.set()
    async with asyncio.timeout(10):
        assert await asking is None


async def test_a_cell_that_only_goes_on_waits_until_the_engine_has_said_it() -> None:
    engine = SlowEngine()
    cell = cell_of(engine)
    await asyncio.sleep(0.002)
    asking = asyncio.create_task(cell.expired(asyncio.Event()))
    await engine.asked.wait()
    for _ in range(3):
        cell.progress.set()  # as sub-calls do that end
        await asyncio.sleep(0.001)
    assert not asking.done()
    engine.may_say.set()
    assert await asking == "cpu"
