"""Turns of boxes: a box that waits for a child holds none, and none is lost on any way out."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.boxes import Boxes
from orchestrator.errors import LimitExceeded


async def all_turns_are_free(boxes: Boxes, count: int) -> bool:
    """Whether `count` boxes can run a cell at once, and no more."""
    async with asyncio.timeout(5):
        cells = [boxes.turns().cell() for _ in range(count)]
        for cell in cells:
            await cell.__aenter__()
        one_more = asyncio.ensure_future(boxes.turns().cell().__aenter__())
        await asyncio.sleep(0)
        waits = not one_more.done()
        one_more.cancel()
        await asyncio.gather(one_more, return_exceptions=True)
        for cell in cells:
            await cell.__aexit__(None, None, None)
    return waits


async def test_a_chain_of_any_depth_ends_with_one_turn() -> None:
    boxes = Boxes(max_boxes=1, max_live_boxes=100)

    async def run(depth: int) -> int:
        turns = boxes.turns()
        async with turns.cell():
            if depth == 50:
                return depth
            async with turns.child():
                return await run(depth + 1)

    async with asyncio.timeout(5):
        assert await run(0) == 50
    assert await all_turns_are_free(boxes, 1)


async def test_the_turn_comes_back_with_the_last_child() -> None:
    boxes = Boxes(max_boxes=1, max_live_boxes=100)
    turns, first, second = boxes.turns(), asyncio.Event(), asyncio.Event()

    async def child(end: asyncio.Event) -> None:
        async with turns.child():
            await end.wait()

    async with turns.cell():
        children = [asyncio.create_task(child(end)) for end in (first, second)]
        await asyncio.sleep(0)
        first.set()
        await children[0]
        async with boxes.turns().cell():  # it is free while one child works
            pass
        second.set()
        await children[1]
        other = asyncio.ensure_future(boxes.turns().cell().__aenter__())
        await asyncio.sleep(0)
        assert not other.done(), "the cell has its turn again"
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    assert await all_turns_are_free(boxes, 1)


async def test_a_child_that_outlives_its_cell_takes_no_turn() -> None:
    """A thread of the cell's had started it."""
    boxes = Boxes(max_boxes=1, max_live_boxes=100)
    turns, end = boxes.turns(), asyncio.Event()

    async def child() -> None:
        async with turns.child():
            await end.wait()

    async with turns.cell():
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
    end.set()
    await task
    assert await all_turns_are_free(boxes, 1)


@pytest.mark.parametrize("inside", ["child", "waiting for the turn"])
async def test_who_is_cancelled_leaves_no_turn_taken(inside: str) -> None:
    boxes = Boxes(max_boxes=1, max_live_boxes=100)
    turns, end = boxes.turns(), asyncio.Event()

    async def cell() -> None:
        async with turns.cell(), turns.child():
            await end.wait()

    task = asyncio.create_task(cell())
    await asyncio.sleep(0.01)
    other = boxes.turns().cell()
    await other.__aenter__()
    if inside != "child":
        end.set()
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await other.__aexit__(None, None, None)
    assert await all_turns_are_free(boxes, 1)


async def test_one_live_box_too_many_is_refused_at_once() -> None:
    boxes = Boxes(max_boxes=1, max_live_boxes=2)
    with boxes.alive(), boxes.alive():
        with pytest.raises(LimitExceeded, match="2 of 2 boxes are alive"), boxes.alive():
            pass
        assert boxes.live == 2
    assert boxes.live == 0
