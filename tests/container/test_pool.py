"""A pool of ready boxes: each is used once, for one run, and none is left."""

from __future__ import annotations

import asyncio
import os

import pytest

from orchestrator import RLM, BoxError, ConfigError, Limits, SandboxPool, SandboxSpec, ScriptedProvider
from orchestrator.providers.base import ModelRequest
from sandbox.pool import Pool
from sandbox.sandbox import Sandbox
from sandbox.store import Store
from tests.boxes import exists, never
from tests.runs import boxes_left

WHERE = "import os\nwho = open('/proc/self/cgroup').read() + os.uname().nodename\nFINAL(who + context)"
SLOW = "import time\ntime.sleep(0.5)\nFINAL(context)"


def root(code: str = WHERE) -> ScriptedProvider:
    return ScriptedProvider(lambda _: f"```repl\n{code}\n```")


async def is_unused(pool: SandboxPool) -> None:
    """Boxes are removed behind their runs."""
    async with asyncio.timeout(60):
        while pool.boxes.used:
            await asyncio.sleep(0.01)


async def is_ready(pool: SandboxPool, count: int) -> None:
    async with asyncio.timeout(60):
        while pool.ready < count:
            await asyncio.sleep(0.02)


async def is_starting(pool: SandboxPool) -> None:
    async with asyncio.timeout(60):
        while not pool.boxes._starting:
            await asyncio.sleep(0.01)


async def test_each_run_has_a_box_of_its_own_that_waited_for_it() -> None:
    async with SandboxPool(2, max_boxes=3) as pool:
        rlm = RLM(root(), pool=pool)
        boxes = []
        for number in range(3):
            await is_ready(pool, 2)
            waiting = {box.container for box in pool.boxes._ready}
            result = await rlm.arun("Who are you?", f"context {number}")
            taken = waiting - {box.container for box in pool.boxes._ready}
            assert result.answer is not None
            assert result.answer.endswith(f"context {number}")
            assert len(taken) == 1
            boxes.append(result.answer.removesuffix(f"context {number}"))
        assert len(set(boxes)) == 3
    assert boxes_left() == []


async def test_more_runs_than_places_wait_for_their_turn() -> None:
    async with SandboxPool(1, max_boxes=2) as pool:
        rlm = RLM(root(SLOW), pool=pool)
        runs = [asyncio.create_task(rlm.arun("?", str(number))) for number in range(5)]
        most = 0
        while not all(run.done() for run in runs):
            most = max(most, pool.boxes.used)
            await asyncio.sleep(0.02)
        assert [run.result().answer for run in runs] == list("01234")
        assert most == 2
    assert boxes_left() == []


async def test_who_waits_in_vain_ends_with_its_time() -> None:
    async with SandboxPool(0, max_boxes=1) as pool:
        limits = Limits(max_wall_s=3)
        first = asyncio.create_task(RLM(root("import time\ntime.sleep(20)"), pool=pool).arun("?", "x"))
        while not pool.boxes.used:
            await asyncio.sleep(0.02)
        result = await RLM(root(), pool=pool, limits=limits).arun("?", "x")
        assert (result.stop_reason, result.turns) == ("time_limit", ())
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert boxes_left() == []


async def test_a_child_run_does_not_wait_for_the_place_that_its_parent_holds() -> None:
    def reply(request: ModelRequest) -> str:
        deep = "below" in request.messages[1].content
        return f"```repl\n{'FINAL(context)' if deep else 'FINAL(rlm_query(chr(98) + str(0), context))'}\n```".replace(
            "chr(98) + str(0)", "'below'"
        )

    async with SandboxPool(1, max_boxes=1) as pool:
        result = await RLM(ScriptedProvider(reply), max_depth=2, pool=pool).arun("?", "the text")
        assert result.answer == "the text"
        await is_unused(pool)
    assert boxes_left() == []


async def test_a_box_that_died_while_it_waited_is_replaced_and_never_given() -> None:
    async with SandboxPool(1) as pool:
        (box,) = pool.boxes._ready
        assert box.container is not None
        await box._engine.remove(box.container)
        async with asyncio.timeout(60):
            while box in pool.boxes._ready:
                await asyncio.sleep(0.02)
        await is_ready(pool, 1)
        assert (await RLM(root("FINAL(context)"), pool=pool).arun("?", "x")).answer == "x"
    assert boxes_left() == []


async def test_a_box_that_waited_too_long_is_replaced() -> None:
    async with SandboxPool(1, idle_s=1) as pool:
        (old,) = pool.boxes._ready
        container, engine = old.container, old._engine
        assert container is not None
        async with asyncio.timeout(60):
            while await exists(engine, container):
                await asyncio.sleep(0.05)
    assert boxes_left() == []


async def test_a_killed_box_of_a_run_is_replaced_from_the_pool() -> None:
    replies = iter(("```repl\nimport os\nos._exit(1)\n```", "```repl\nFINAL(context)\n```"))
    async with SandboxPool(2) as pool:
        await is_ready(pool, 2)
        waited = {box.container for box in pool.boxes._ready}
        result = await RLM(ScriptedProvider(lambda _: next(replies)), pool=pool).arun("?", "still here")
        assert result.answer == "still here"
        assert waited & {box.container for box in pool.boxes._ready} == set()
        await is_unused(pool)
    assert boxes_left() == []


async def test_a_box_that_waits_gives_way_to_a_run_that_can_not_use_it() -> None:
    async with SandboxPool(1, max_boxes=1) as pool, RLM(root("FINAL(context)"), pool=pool).session("x") as session:
        (box,) = pool.boxes._ready
        container, engine = box.container, box._engine
        assert container is not None
        assert (await session.ask("?")).answer == "x"  # a session's box lives longer than those of the pool
        async with asyncio.timeout(60):
            while pool.ready or await exists(engine, container):
                await asyncio.sleep(0.02)
        assert pool.boxes.used == 1
    assert boxes_left() == []


async def test_a_place_is_free_again_where_a_box_can_not_be_removed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SandboxPool(0, max_boxes=1) as pool:
        monkeypatch.setattr(Store, "remove_box_dir", _no_space)
        with pytest.raises(OSError, match="no space"):
            await RLM(root("FINAL(context)"), pool=pool).arun("?", "x")
        monkeypatch.undo()
        assert (await RLM(root("FINAL(context)"), pool=pool).arun("?", "y")).answer == "y"


def _no_space(*_: object) -> None:
    raise OSError("no space")


async def test_a_session_takes_its_boxes_where_they_live_long_enough() -> None:
    async with SandboxPool(1) as pool, RLM(root("FINAL(context)"), pool=pool).session("a text") as session:
        assert [(await session.ask("?")).answer, (await session.ask("And?")).answer] == ["a text", "a text"]
    assert boxes_left() == []


async def test_whoever_waits_is_told_when_the_pool_closes() -> None:
    async with SandboxPool(0, max_boxes=1) as pool:
        first = asyncio.create_task(RLM(root(SLOW), pool=pool).arun("?", "x"))
        while not pool.boxes.used:
            await asyncio.sleep(0.02)
        second = asyncio.create_task(RLM(root(SLOW), pool=pool).arun("?", "x"))
        await asyncio.sleep(0.1)
    with pytest.raises(BoxError, match="the pool of boxes is closed"):
        await second
    assert (await first).answer == "x"
    assert boxes_left() == []


async def test_a_box_that_waited_has_the_modules_and_the_setup_code_of_its_run() -> None:
    async with SandboxPool(1) as pool:
        rlm = RLM(
            root("tables.word = 'changed'\nFINAL(tables.word + said + context)"),
            modules={"tables": "word = 'module'"},
            setup_code="import tables\nsaid = tables.word",
            pool=pool,
        )
        (waited,) = pool.boxes._ready
        assert (await rlm.arun("?", " text")).answer == "changedmodule text"
        assert waited not in pool.boxes._ready
    assert boxes_left() == []


async def test_who_waits_gets_a_place_in_turn_and_who_gives_up_takes_none() -> None:
    order: list[int] = []

    async def take(number: int) -> None:
        box = await pool.boxes.take(pool.spec)
        order.append(number)
        await box.aclose()

    async with SandboxPool(0, max_boxes=1) as pool:
        holder = await pool.boxes.take(pool.spec)
        waiting = [asyncio.create_task(take(number)) for number in range(4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        await holder.aclose()
        waiting[0].cancel()  # as its turn has come
        await asyncio.gather(*waiting, return_exceptions=True)
        assert order == [2, 3]
        await is_unused(pool)
    assert boxes_left() == []


async def test_a_run_has_the_machine_alone_until_its_first_results() -> None:
    async with SandboxPool(1) as pool:
        box = await pool.boxes.take(pool.spec)
        for _ in range(10):
            await asyncio.sleep(0)
            assert pool.boxes._starting == 0
        await is_ready(pool, 1)
        await box.aclose()
    assert boxes_left() == []


async def test_a_run_takes_the_box_that_gets_ready_before_one_could_be_started_for_it() -> None:
    async with SandboxPool(1) as pool:
        first = await pool.boxes.take(pool.spec)
        pool.boxes._starts = core = asyncio.Semaphore(1)
        while not core.locked():
            await asyncio.sleep(0.01)
        second = await pool.boxes.take(pool.spec)
        assert second.waited
        await asyncio.gather(first.aclose(), second.aclose())
    assert boxes_left() == []


async def test_a_box_that_dies_as_it_is_taken_is_not_the_runs_trouble() -> None:
    async with SandboxPool(1) as pool:
        (box,) = pool.boxes._ready
        box._engine.api.remove_container(box.container, force=True)
        assert box.alive, "nobody has noticed yet"
        sandbox = await Sandbox.start(
            pool.spec, engine=pool.host.engine, store=pool.host.store, handler=never, pool=pool.boxes
        )
        async with sandbox:
            assert (await sandbox.execute("1 + 1")).result.text == "2"
        await is_unused(pool)
    assert boxes_left() == []


async def test_closing_ends_a_start_that_is_under_way() -> None:
    async with SandboxPool(2) as pool:
        await is_starting(pool)
    assert boxes_left() == []


async def test_whatever_keeps_a_box_from_starting_the_pool_tries_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with SandboxPool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "new_box_dir", _no_space)
            await (await pool.boxes.take(pool.spec)).aclose()
            async with asyncio.timeout(60):
                while "no space" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert pool.boxes._starting == 1
        await is_ready(pool, 1)
    assert boxes_left() == []


async def test_starts_are_at_most_one_for_each_core() -> None:
    now = most = 0

    async def open_box(*_: object) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        raise AssertionError

    pool = Pool(SandboxSpec(), open_box, size=0, max_boxes=64, idle_s=60)  # type: ignore[arg-type]
    takers = [asyncio.create_task(pool.take(SandboxSpec())) for _ in range(20)]
    await asyncio.gather(*takers, return_exceptions=True)
    assert most == min(20, os.cpu_count() or 1)
    assert pool.used == 0
    await pool.aclose()


def test_blocking_calls_share_one_too() -> None:
    with SandboxPool(1) as pool:
        assert RLM(root("FINAL(context)"), pool=pool).query("?", "x")[0] == "x"
    assert boxes_left() == []


async def test_a_pool_of_another_loop_or_none_is_said() -> None:
    pool = SandboxPool(1)
    with pytest.raises(BoxError, match="the pool is not open"):
        await RLM(root(), pool=pool).arun("?", "x")
    with pool, pytest.raises(BoxError, match="opened on another event loop"):
        await RLM(root(), pool=pool).arun("?", "x")
    assert boxes_left() == []


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: SandboxPool(-1), r"SandboxPool.size: -1 is not an integer from 0 to 16"),
        (lambda: SandboxPool(17), r"SandboxPool.size: 17"),
        (lambda: SandboxPool(1, max_boxes=True), r"SandboxPool.max_boxes: True"),
        (lambda: SandboxPool(1, idle_s=0), r"SandboxPool.idle_s: 0"),
        (lambda: RLM(root(), pool="yes"), r"pool: of type str"),  # type: ignore[arg-type]
        (
            lambda: RLM(root(), pool=SandboxPool(1), limits=Limits(memory_bytes=1 << 28)),
            r"pool: its boxes have memory_bytes 1073741824, this RLM's 268435456",
        ),
        (lambda: RLM(root(), pool=SandboxPool(1), limits=Limits(max_wall_s=5000)), "the same Limits.max_wall_s"),
        (
            lambda: RLM(root(), pool=SandboxPool(1), sandbox=SandboxSpec(open_files=512)),
            "pool: its boxes have open_files",
        ),
    ],
)
def test_what_does_not_fit_is_refused(made: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made()  # type: ignore[operator]
