"""What a failure leaves of a session, what ends it, and that no box is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, BoxError, ConfigError, ContextError, Limits, ProtocolViolation, ProviderError
from orchestrator.audit_log import verify_trace
from orchestrator.providers.base import ModelRequest
from orchestrator.providers.scripted import ScriptedProvider
from sandbox.spec import MIB
from sandbox.store import shared_store
from tests.runs import CONTEXT, boxes_left, boxes_of, code, script, shown

DEATH = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
VIOLATION = "get_ipython().kernel.tell({'kind': 'child', 'depth': 0})"


async def until(event: threading.Event) -> None:
    """Wait for something that happens on another thread or in the box."""
    while not event.is_set():
        await asyncio.sleep(0.01)


async def test_a_box_lost_in_a_question_comes_back_with_contexts_and_history() -> None:
    root = script(
        "FINAL(zero)",
        code(f"x = 1\n{DEATH}"),
        code("print('x' in globals(), len(context), context_1, history[0]['answer'])"),
        "FINAL(one)",
    )
    async with RLM(root).session(CONTEXT, more=["more"]) as session:
        await session.ask("?")
        result = await session.ask("??")
    assert result.turns[1].cells[0].output == f"False {len(CONTEXT)} more zero"
    assert "`context_1`, `history`: there again too." in shown(root, 2)
    assert boxes_left() == []


async def test_a_box_lost_between_two_questions_is_replaced_and_the_root_is_told() -> None:
    late = "import threading, os\nx = 1\nthreading.Timer(0.2, os._exit, (7,)).start()"
    root = script(code(late), "FINAL(one)", code("print('x' in globals(), context_1, len(history))"), "FINAL(two)")
    async with RLM(root).session(CONTEXT) as session:
        await session.ask("?")
        while session._box is not None and session._box.repl.alive:
            await asyncio.sleep(0.01)
        await session.add_context("more")
        result = await session.ask("??")
    assert result.turns[0].cells[0].output == "False more 1"
    assert "The REPL was lost since" in root.requests[2].messages[1].content


async def test_a_provider_that_fails_leaves_the_session_and_its_variables() -> None:
    root = script(code("x = 1"), ProviderError("down", provider="scripted"), code("print(x, history)"), "FINAL(2)")
    async with RLM(root).session(CONTEXT) as session:
        with pytest.raises(ProviderError) as caught:
            await session.ask("?")
        assert caught.value.result is not None
        assert len(caught.value.result.turns) == 1
        result = await session.ask("??")
    assert result.turns[0].cells[0].output == "1 []"
    assert "x: int" in root.requests[2].messages[1].content


@pytest.mark.parametrize("hit", ["cell", "model"])
async def test_a_cancelled_question_leaves_the_session(hit: str) -> None:
    reached = threading.Event()

    async def think(request: ModelRequest) -> str:
        number = len(root.requests)
        if number == 1:
            return code("x = 1")
        if number == 2:
            reached.set()
            if hit == "model":
                await asyncio.Event().wait()
            return code("import time\ntime.sleep(60)")
        return code("print('x' in globals(), len(context))") if number == 3 else "FINAL(2)"

    root = ScriptedProvider(think)
    async with RLM(root).session(CONTEXT) as session:
        asking = asyncio.create_task(session.ask("?"))
        await until(reached)
        await asyncio.sleep(0.3)  # the cell is on its way
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        result = await session.ask("??")
    assert result.turns[0].cells[0].output == f"{hit == 'model'} {len(CONTEXT)}"
    assert boxes_left() == []


def test_ctrl_c_in_a_blocking_question_leaves_the_session() -> None:
    def think(request: ModelRequest) -> str:
        if len(root.requests) == 1:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            return code("import time\ntime.sleep(60)")
        return code("print(context_1)") if len(root.requests) == 2 else "FINAL(done)"

    root = ScriptedProvider(think)
    with RLM(root).session(CONTEXT) as session:
        with pytest.raises(KeyboardInterrupt):
            session.query("?")
        assert session.add("more") == "context_1"
        answer, trajectory = session.query("??")
        assert (answer, trajectory[0].cells[0].output) == ("done", "more")
        assert len(boxes_of()) == 1
    assert boxes_left() == []
    with pytest.raises(BoxError, match="the session is closed: it has ended"):
        session.query("???")


@pytest.mark.parametrize("late", [False, True])
async def test_a_violation_closes_the_session(late: bool) -> None:
    cell = f"import threading\nthreading.Timer(0.2, lambda: {VIOLATION}).start()" if late else VIOLATION
    root = script(code(cell), "FINAL(1)", "FINAL(2)")
    async with RLM(root).session(CONTEXT) as session:
        if late:
            await session.ask("?")
            while session._box is not None and session._box.repl.alive:
                await asyncio.sleep(0.01)
        with pytest.raises(ProtocolViolation):
            await session.ask("??")
        assert boxes_left() == []
        with pytest.raises(BoxError, match="the session is closed: its box broke the protocol"):
            await session.ask("???")
        with pytest.raises(BoxError, match="is closed"):
            await session.add_context("x")


async def test_a_context_too_large_for_the_box_is_taken_out() -> None:
    root = script("FINAL(1)", code("print(len(context))"), "FINAL(2)")
    async with RLM(root, limits=Limits(memory_bytes=128 * MIB)).session(CONTEXT) as session:
        await session.ask("?")
        assert await session.add_context(["a word"] * 4_000_000) == "context_1"
        with pytest.raises(ContextError, match=r"context_1: .*taken out of the session"):
            await session.ask("??")
        assert session.contexts == ("context",)
        assert (await session.ask("???")).answer == "2"


async def test_one_question_at_a_time() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def think(request: ModelRequest) -> str:
        asked.set()
        await go.wait()
        return "FINAL(x)"

    async with RLM(ScriptedProvider(think)).session(CONTEXT) as session:
        first = asyncio.create_task(session.ask("?"))
        await asked.wait()
        with pytest.raises(ConfigError, match="await its answer first"):
            await session.ask("??")
        go.set()
        assert (await first).answer == "x"
        assert (await session.ask("???")).answer == "x"


@pytest.mark.parametrize("by", ["lifetime", "close"])
async def test_a_session_that_ends_takes_its_question_and_its_box_with_it(by: str) -> None:
    asked = asyncio.Event()

    async def think(request: ModelRequest) -> str:
        if len(root.requests) == 1:
            return code("x = 1")
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    root = ScriptedProvider(think)
    async with RLM(root).session(CONTEXT, lifetime_s=1.5 if by == "lifetime" else 600) as session:
        asking = asyncio.create_task(session.ask("?"))
        if by == "close":
            await asked.wait()
            await session.aclose()
        with pytest.raises(BoxError, match="lifetime" if by == "lifetime" else "it has ended"):
            await asking
        assert boxes_left() == []
        with pytest.raises(BoxError, match="the session is closed"):
            await session.ask("?")


async def test_two_sessions_at_once_have_nothing_in_common() -> None:
    async def play(word: str) -> Any:
        root = script(code(f"mine = '{word}'"), "FINAL(1)", code("print(mine, context, len(history))"), "FINAL(2)")
        async with RLM(root).session(word) as session:
            await session.ask("?")
            return (await session.ask("??")).turns[0].cells[0].output

    assert tuple(await asyncio.gather(play("one"), play("two"))) == ("one one 1", "two two 1")
    assert boxes_left() == []


async def test_a_session_that_is_used_wrongly_says_how() -> None:
    rlm = RLM(script("FINAL(1)"))
    session = rlm.session(CONTEXT)
    with pytest.raises(BoxError, match="use it in an `async with` block"):
        await session.ask("?")
    async with session:
        with pytest.raises(ConfigError, match="is not a question"):
            await session.ask(" ")
        with pytest.raises(BoxError, match="another event loop"):
            await asyncio.to_thread(session.query, "?")
        with pytest.raises(BoxError, match="opened already"):
            await session.__aenter__()
    await session.aclose()
    wrong: dict[str, Any]
    for wrong in ({"lifetime_s": 0}, {"lifetime_s": True}, {"lifetime_s": 1e9}, {"more": "text"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            rlm.session(CONTEXT, **wrong)
    with pytest.raises(ContextError):
        async with rlm.session(7):
            pass
    assert boxes_left() == []


async def test_what_a_thread_has_in_flight_ends_with_its_question(tmp_path: Path) -> None:
    """A child run would else go on in a box of its own, spend what nobody asked for, and tell behind the run's end."""
    asks = (
        "import threading, time\nthreading.Thread(target=rlm_query, args=('child?', 'text')).start()\ntime.sleep(0.5)"
    )

    async def think(request: ModelRequest) -> str:
        if "child?" in request.messages[1].content:
            asked.set()
            await asyncio.Event().wait()
        if len(root.requests) == 1:
            return code(asks)
        await asked.wait()
        return "FINAL(done)"

    asked, root = asyncio.Event(), ScriptedProvider(think)
    async with RLM(root, max_depth=2, trace_dir=tmp_path).session(CONTEXT) as session:
        results = [await session.ask("?"), await session.ask("??")]
        assert len(boxes_of()) == 1
        assert sum(result.usage.total_tokens for result in results) == session.usage.total_tokens
        assert results[0].usage.sub_calls == 1
        assert session._ledger.reserved_tokens == 0
    assert boxes_left() == []
    assert verify_trace(next(tmp_path.iterdir())).problem is None


async def test_contexts_of_a_session_that_does_not_open_or_is_closed_meanwhile_are_not_kept(tmp_path: Path) -> None:
    blobs = shared_store().folder / "blobs"
    before = set(blobs.iterdir())
    rlm = RLM(script(), context_mode="lazy")
    with pytest.raises(ContextError):
        async with rlm.session("of the first", more=[7]):
            pass
    large = tmp_path / "large.txt"
    large.write_text("a line\n" * 3_000_000)
    async with rlm.session("of the second") as session:
        adding = asyncio.create_task(session.add_context(large))
        await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(BoxError, match="it has ended"):
            await adding
    assert set(blobs.iterdir()) == before


async def test_a_box_that_takes_its_contexts_no_more_is_replaced() -> None:
    """Cells may have filled its memory, or broken what reads them; each further question would fail."""
    root = script(
        code("import repl\nx = 1\nrepl.read_context = None"), "FINAL(1)", code("print('x' in dir())"), "FINAL(2)"
    )
    async with RLM(root).session(CONTEXT) as session:
        await session.ask("?")
        result = await session.ask("??")
    assert result.turns[0].cells[0].output == "False"
    assert "The REPL was lost since" in root.requests[2].messages[1].content
    assert boxes_left() == []
