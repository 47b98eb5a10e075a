"""A box's share of the event loop: nobody else waits for more than a few of its messages, whatever it sends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from sandbox.clocks import CellClocks
from sandbox.encoding import encode_frame
from sandbox.errors import BoxGone
from sandbox.kernel import Kernel
from sandbox.link import Link
from sandbox.messages import RELAY, Asked, Query
from sandbox.open_cell import OpenCell
from sandbox.pace import MOST_IN_A_TURN, Pace
from sandbox.spec import CellLimits
from sandbox.subcalls import SubCalls


class Turns:
    """Somebody else in the loop, who counts how often it gets it."""

    def __init__(self) -> None:
        self.count = 0

    async def take(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    turns = Turns()
    taking = asyncio.create_task(turns.take())
    yield turns
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)


async def busy(pace: Pace) -> None:
    time.sleep(0.01)  # as hard work as any: it holds the loop
    await pace.rest()


async def test_what_runs_in_it_returns_raises_and_is_cancelled_as_elsewhere() -> None:
    pace = Pace()

    async def work(value: int) -> int:
        try:
            await asyncio.sleep(60 if value < 0 else 0)
        except asyncio.CancelledError:
            return -value
        if not value:
            raise KeyError("none")
        return value

    assert await pace.counted(work, 3) == 3
    with pytest.raises(KeyError):
        await pace.counted(work, 0)
    task = asyncio.create_task(pace.counted(work, -5))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == 5
    never_begun = asyncio.create_task(pace.counted(work, 1))
    never_begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await never_begun


async def test_it_rests_for_a_box_at_work_and_for_no_other(turns: Turns) -> None:
    pace, other = Pace(), Pace()
    with pace.at_work():
        before = turns.count
        await pace.counted(busy, pace)
        assert turns.count - before <= 3
        with other.at_work():
            before = turns.count
            await pace.counted(busy, pace)
            assert turns.count - before > 3


async def test_others_have_a_turn_after_a_few_quick_ones(turns: Turns) -> None:
    pace = Pace()

    async def quick() -> None:
        for _ in range(100 * MOST_IN_A_TURN):
            await pace.rest()

    before = turns.count
    await pace.counted(quick)
    assert turns.count - before >= 100


async def test_a_flood_of_messages_leaves_turns_to_others(turns: Turns) -> None:
    ours, box = socket.socketpair()
    kernel = Kernel(Link(*await asyncio.open_unix_connection(sock=ours), multiplexed=False))
    box.sendall(encode_frame(RELAY, [b'{"event":"hello"}']) * 100 * MOST_IN_A_TURN)
    box.shutdown(socket.SHUT_WR)
    before = turns.count
    with pytest.raises(BoxGone):
        await kernel.start()
    assert turns.count - before >= 100
    await kernel.aclose()
    box.close()


async def test_a_batch_is_begun_a_few_prompts_a_turn(turns: Turns) -> None:
    begun: Counter[int] = Counter()

    async def handle(asked: Asked) -> str:
        begun[turns.count] += 1
        return asked.prompt

    ours, box = socket.socketpair()
    pace = Pace()
    link = Link(*await asyncio.open_unix_connection(sock=ours), multiplexed=False)
    calls = SubCalls(link, "c" * 32, handle, pace)
    query = Query("0" * 32, tuple(range(500)), (Asked("?"),) * 500)
    await pace.counted(calls.open, query, OpenCell(CellClocks(CellLimits(), 1, no_cpu), 100))
    while begun.total() < 500:
        await asyncio.sleep(0)
    assert max(begun.values()) <= MOST_IN_A_TURN
    await calls.aclose()
    link.abort()
    box.close()


async def answer(asked: Asked) -> str:
    return asked.prompt


async def no_cpu() -> float | None:
    return None
