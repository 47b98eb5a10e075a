"""Sessions: variables, contexts and history over several questions, one budget, and what a failure leaves behind."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import (
    RLM,
    ConfigError,
    ContextError,
    Limits,
    ScriptedProvider,
)
from orchestrator.audit_log import verify_trace
from orchestrator.providers.base import ModelRequest
from orchestrator.trace import TraceEvent
from tests.events import faults_in
from tests.runs import CONTEXT, all_shown, boxes_left, code, script, shown


def first_of(root: ScriptedProvider, request: int) -> str:
    """The first message of the question that this request belongs to."""
    return root.requests[request].messages[1].content


# --- what stays from one question to the next ---


async def test_variables_and_earlier_answers_stay() -> None:
    root = script(
        code("seen = {'lines': context.count('\\n')}\nprint(history)"),
        "FINAL(it has 150 lines)",
        code("print(seen, history[0]['question'], '|', history[0]['answer'], len(history))"),
        "FINAL(as I said)",
    )
    async with RLM(root).session(CONTEXT) as session:
        first = await session.ask("How many lines?")
        second = await session.ask("Are you sure?")
        assert session.history == [
            {"question": "How many lines?", "answer": "it has 150 lines"},
            {"question": "Are you sure?", "answer": "as I said"},
        ]
    assert first.turns[0].cells[0].output == "[]"
    assert second.turns[0].cells[0].output == "{'lines': 150} How many lines? | it has 150 lines 1"
    assert (first.answer, second.answer, len(second.turns)) == ("it has 150 lines", "as I said", 2)
    assert boxes_left() == []


async def test_the_root_is_told_what_was_before_and_not_what_variables_hold() -> None:
    root = script(
        code("secret = 'XYZZY'\nimport json\nfrom math import sqrt\ndef helper(): pass"), "FINAL(one)", "FINAL(two)"
    )
    async with RLM(root).session(CONTEXT) as session:
        await session.ask("First?")
        await session.ask("Second?")
    told = first_of(root, 2)
    assert '{"question": "First?", "answer": "one"}' in told
    lines = told[told.index("[variables ") : told.index("[end ", told.index("[variables "))].splitlines()[1:]
    assert lines == ["secret: str (5)", "helper: function"]
    assert told.endswith("The question:\nSecond?")
    assert "XYZZY" not in told
    assert "in this session" not in first_of(root, 0)


async def test_contexts_are_as_they_were_given_at_each_question() -> None:
    root = script(
        code("context.clear()\ncontext_1 = None\nkept = 1\nprint(len(context))"),
        "FINAL(x)",
        code("print(context, context is context_0, context_1, kept)"),
        "FINAL(y)",
    )
    async with RLM(root).session(["a", "b"], more=["second"]) as session:
        await session.ask("?")
        result = await session.ask("??")
    assert result.turns[0].cells[0].output == "['a', 'b'] True second 1"


async def test_contexts_are_added_between_questions_and_while_one_is_worked_on() -> None:
    added: list[str] = []

    async def think(request: ModelRequest) -> str:
        turn = len(root.requests)
        if turn == 3:
            added.append(await session.add_context({"k": 1}, name="table"))
            return code("print('table' in globals())")
        replies = [code("print(context_1)"), "FINAL(x)", "", code("print(table, len(history))"), "FINAL(y)"]
        return replies[turn - 1]

    root = ScriptedProvider(think)
    async with RLM(root).session("zero") as session:
        await session.add_context("one")
        result = await session.ask("?")
        assert result.turns[0].cells[0].output == "one"
        added.append(await session.add_context(["two"]))
        result = await session.ask("??")
        assert session.contexts == ("context", "context_1", "context_2", "table")
        assert len(result.documents) == 3  # what there was when it was asked
    assert added == ["context_2", "table"]
    assert [turn.cells[0].output for turn in result.turns if turn.cells] == ["False", "{'k': 1} 1"]
    assert "`context_1` is a string of 3 characters" in first_of(root, 2)
    assert "`context_2` is a list of 1 string" in first_of(root, 2)
    assert "The user has added a context: `table` is a dict of 1 key" in shown(root, 3)


@pytest.mark.parametrize("name", ["context", "context_0", "history", "FINAL", "1a", "a b", "_x", "class", "é", 7])
async def test_a_name_that_no_context_can_have_is_refused(name: Any) -> None:
    async with RLM(script()).session("zero") as session:
        with pytest.raises(ConfigError, match="add_context"):
            await session.add_context("one", name=name)
        with pytest.raises(ContextError):
            await session.add_context(7)
        assert session.contexts == ("context",)


# --- one budget ---


async def test_the_limits_hold_for_all_questions_together_and_turns_for_each() -> None:
    asks = "try:\n    print([llm_query('q') for _ in range(2)])\nexcept LimitExceeded as e:\n    print(e)"
    root = script(code(asks), "FINAL(1)", code(asks), "FINAL(2)", code(asks), "FINAL(3)")
    sub = ScriptedProvider(lambda _: "a")
    async with RLM(root, sub, limits=Limits(max_sub_calls=3, max_turns=2)).session(CONTEXT) as session:
        results = [await session.ask(f"{number}?") for number in range(3)]
        total = session.usage
    assert [result.turns[0].cells[0].output for result in results] == [
        "['a', 'a']",
        "3 of 3 sub-calls used",
        "3 of 3 sub-calls used",
    ]
    assert [result.usage.sub_calls for result in results] == [2, 1, 0]
    assert [result.stop_reason for result in results] == ["answered"] * 3
    assert (total.sub_calls, total.root_calls, len(sub.requests)) == (3, 6, 3)
    assert total.total_tokens == sum(result.usage.total_tokens for result in results)


async def test_time_is_used_up_while_a_question_is_worked_on_and_not_between_two() -> None:
    root = script(code("import time\ntime.sleep(0.3)"), "FINAL(1)", "FINAL(2)")
    async with RLM(root, limits=Limits(max_wall_s=60)).session(CONTEXT) as session:
        await session.ask("?")
        used_s = session.usage.wall_s
        await asyncio.sleep(0.2)
        assert session.usage.wall_s == used_s > 0.3
        await session.ask("??")
        assert session.usage.wall_s > used_s


async def test_a_session_whose_time_is_over_says_so_at_each_question() -> None:
    root = script(code("import time\ntime.sleep(30)"))
    async with RLM(root, limits=Limits(max_wall_s=1.5)).session(CONTEXT) as session:
        assert (await session.ask("?")).stop_reason == "time_limit"
        assert (await session.ask("??")).stop_reason == "time_limit"
    assert boxes_left() == []


async def test_child_runs_belong_to_their_question() -> None:
    asks = code("print(rlm_query('child?', 'text'))")
    root = script(asks, "FINAL(a)", "FINAL(1)", asks, "FINAL(b)", "FINAL(2)")
    events: list[TraceEvent] = []
    async with RLM(root, max_depth=2).session(CONTEXT, listeners=[events.append]) as session:
        results = [await session.ask("?"), await session.ask("??")]
    assert [result.turns[0].cells[0].output for result in results] == ["a", "b"]
    starts = [(event.facts["ask"], event.facts["run"]) for event in events if event.kind == "child_start"]
    assert starts == [(1, 1), (2, 2)]
    assert boxes_left() == []


@pytest.mark.parametrize("keep_text", [False, True])
async def test_the_trace_of_a_session_is_one_file_that_verifies(tmp_path: Path, keep_text: bool) -> None:
    rlm = RLM(script("FINAL(one)", "FINAL(two)"), trace_dir=tmp_path, keep_text=keep_text)
    async with rlm.session(CONTEXT) as session:
        results = [await session.ask("?"), await session.ask("??")]
    (file,) = tmp_path.iterdir()
    verdict = verify_trace(file)
    assert (verdict.problem, verdict.ended) == (None, True)
    assert faults_in(file) == []
    records = [json.loads(line) for line in file.read_text().splitlines()]
    ends = [(record["kind"], record["ask"]) for record in records if record["kind"].startswith("run_")]
    assert ends == [("run_start", 1), ("run_end", 1), ("run_start", 2), ("run_end", 2)]
    assert results[1].trace is not None
    assert results[1].trace.head == verdict.head


async def test_in_quarantine_nothing_of_the_box_or_of_an_answer_is_told() -> None:
    found = code("stolen = 'SESAME'\nFINAL_VAR('stolen')")
    root = script(found, code("print(history[0]['answer'], stolen)"), "FINAL_VAR(stolen)", "FINAL_VAR(stolen)")
    async with RLM(root, observe="typed").session("SESAME " * 9) as session:
        answers = [(await session.ask(f"{number}?")).answer for number in range(3)]
    assert answers == ["SESAME"] * 3
    assert "2 questions were asked in this session before" in first_of(root, -1)
    assert "SESAME" not in all_shown(root).replace(found, "")
