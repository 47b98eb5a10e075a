"""`on_kill="replay"`: after a killed box the earlier cells run again in the fresh one, and nothing is asked anew."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import RLM, ConfigError, RunResult, ScriptedProvider
from orchestrator.trace import TraceEvent
from tests.runs import code, run, script, shown

DIE = "import os\nos.kill(os.getpid(), 9)"


async def replayed(*replies: str, **settings: Any) -> tuple[RunResult, ScriptedProvider, ScriptedProvider]:
    root, sub = script(*replies), ScriptedProvider(lambda request: f"<{request.messages[-1].content}>")
    return await run(root, sub=sub, on_kill="replay", **settings), root, sub


async def test_variables_and_answers_are_back_and_the_root_is_told() -> None:
    result, root, sub = await replayed(
        code("import json\nn = len(context)\nprint('shown once')"),
        code("said = [llm_query(f'q{i}') for i in range(3)] + llm_query_batched(['q0', 'q1'])"),
        code(f"llm_query('of the cell that dies')\n{DIE}"),
        code("FINAL(json.dumps([n, said]))"),
    )
    assert result.answer == '[1000, ["<q0>", "<q1>", "<q2>", "<q0>", "<q1>"]]'
    assert len(sub.requests) == 6
    assert result.usage.sub_calls == 6
    assert [len(turn.cells) for turn in result.turns] == [1, 1, 1, 1]
    assert [len(turn.sub_calls) for turn in result.turns] == [0, 5, 1, 0]
    told = shown(root)
    assert "the 2 earlier cells ran again there with the same answers" in told
    assert "this cell, which was not run again" in told
    assert "shown once" not in told


async def test_every_later_box_is_restored_too() -> None:
    result, *_ = await replayed(
        code("log = ['one']"), code(DIE), code("log.append('two')"), code(DIE), code("FINAL(str(log))")
    )
    assert result.answer == "['one', 'two']"


async def test_a_cell_that_fails_now_and_did_not_before_is_told() -> None:
    """Its sub-call asks something else the second time: nobody is asked."""
    result, root, sub = await replayed(
        code("import time\nsaid = llm_query(str(time.time_ns()))"), code(DIE), code("FINAL(str('said' in dir()))")
    )
    assert result.answer == "False"
    assert len(sub.requests) == 1
    assert "1 failed this time" in shown(root)


async def test_a_failed_cell_fails_again_and_that_is_nothing_new() -> None:
    result, root, _ = await replayed(code("x = 1\n1 / 0"), code(DIE), code("FINAL(str(x))"))
    assert result.answer == "1"
    assert "failed this time" not in shown(root)


async def test_where_the_fresh_box_dies_too_the_root_is_told_what_was_lost() -> None:
    """Its sub-call asks something else the second time, and it takes the failure badly."""
    asks = "llm_query(str(__import__('time').time_ns()))"
    caught = f"try:\n    {asks}\nexcept Exception:\n    import os\n    os.kill(os.getpid(), 9)"
    heard: list[TraceEvent] = []
    root = script(code(f"kept = 1\n{caught}"), code(DIE), code("FINAL(str('kept' in dir()))"))
    sub = script("reply", "too many")
    result = await RLM(root, sub, on_kill="replay").arun("What?", "context", listeners=[heard.append])
    assert result.answer == "False"
    assert len(sub.requests) == 1
    told = shown(root)
    assert "all other variables and imports are gone. Its earlier cells were run again there, and that failed" in told
    (event,) = [event for event in heard if event.kind == "replayed"]
    assert event.facts == {"turn": 2, "cells": 1, "failed": 0, "done": False}


async def test_child_runs_are_not_run_again() -> None:
    root = script(
        code("said = rlm_query('Count', 'abc')"),
        code("FINAL(str(len(context)))"),
        code(DIE),
        code("FINAL(said)"),
    )
    result = await run(root, on_kill="replay", max_depth=2)
    assert result.answer == "3"
    assert len(root.requests) == 4


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="on_kill: 'retry' is neither 'tell' nor 'replay'"):
        RLM(script(), on_kill="retry")  # type: ignore[arg-type]


async def test_in_a_session_cells_of_earlier_questions_run_again_too() -> None:
    root = script(code("first = llm_query('one')\nFINAL('1')"), code(DIE), code("FINAL(first)"))
    sub = script("<one>")
    async with RLM(root, sub, on_kill="replay").session("the text") as session:
        assert (await session.ask("What?")).answer == "1"
        assert (await session.ask("And?")).answer == "<one>"
