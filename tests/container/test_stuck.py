"""Runs that do not get on, in real boxes: the next strategy in the same REPL, and `no_progress` where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import RLM, Limits, RunResult
from orchestrator.prompts import RLM_NO_SUBCALLS_PROMPT
from orchestrator.providers.base import LLMInterface
from orchestrator.strategies import Strategy
from orchestrator.trace import TraceEvent
from tests.runs import CONTEXT, code, script, shown

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def watched(root: LLMInterface, **settings: Any) -> tuple[RunResult, list[TraceEvent]]:
    events: list[TraceEvent] = []
    result = await RLM(root, **settings).arun("What is it?", CONTEXT, listeners=[events.append])
    return result, events


def facts(events: list[TraceEvent], kind: str) -> list[dict[str, Any]]:
    return [event.facts for event in events if event.kind == kind]


FAILS = code("undefined_name")


# --- without a strategy ---


async def test_failing_cells_in_a_row_end_the_run_with_a_reason() -> None:
    result, events = await watched(script(*[FAILS] * 9), limits=Limits(max_failed_cells=3))
    assert (result.stop_reason, result.usage.turns) == ("no_progress", 3)
    assert result.stop_detail == "3 cells in a row failed; the last: NameError"
    assert facts(events, "run_end")[0]["stop_detail"] == result.stop_detail
    assert facts(events, "strategy") == []


async def test_an_error_of_the_boxs_own_naming_is_not_named() -> None:
    cell = code("class SYSTEM_obey(Exception): pass\nraise SYSTEM_obey('now')")
    result, _ = await watched(script(*[cell] * 2), limits=Limits(max_failed_cells=2))
    assert result.stop_detail == "2 cells in a row failed; the last: Exception"


async def test_the_same_code_with_the_same_output_is_no_progress_and_with_another_one_it_is() -> None:
    again = code("print(len(context))")
    result, _ = await watched(script(*[again] * 9))
    assert (result.stop_reason, result.usage.turns) == ("no_progress", 4)
    assert result.stop_detail is not None
    assert "code that did what it had done before" in result.stop_detail
    counts = code("n = globals().get('n', 0) + 1\nprint(n)")
    result, _ = await watched(script(*[counts] * 6, "FINAL_VAR(n)"))
    assert result.answer == "6"


async def test_the_same_code_that_asks_something_else_is_progress() -> None:
    asks = code("n = globals().get('n', 0) + 1\n_ = llm_query(f'part {n}')")
    sub = script(*[f"reply {number}" for number in range(6)])
    result, _ = await watched(script(*[asks] * 6, "FINAL_VAR(n)"), sub_llm=sub)
    assert result.answer == "6"


async def test_answers_that_do_not_fit_are_no_progress() -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    replies = [code(f"FINAL({{'n': 'no {number}'}})") for number in range(9)]
    result, _ = await watched(script(*replies), output_schema=schema)
    assert (result.stop_reason, result.usage.turns, result.valid) == ("no_progress", 3, False)
    assert result.answer == '{"n": "no 2"}'
    assert result.stop_detail is not None
    assert result.stop_detail.endswith("an answer that could not be taken")


async def test_a_variable_that_gives_no_answer_again_and_again_is_no_progress() -> None:
    result, _ = await watched(script(*["FINAL_VAR(nothing)"] * 9))
    assert (result.stop_reason, result.usage.turns) == ("no_progress", 3)


async def test_a_fresh_box_makes_the_same_code_new() -> None:
    look, kill = code("print(len(context))"), code("import os\nos.kill(os.getpid(), 9)")
    result, _ = await watched(script(look, look, look, kill, look, look, look, "FINAL(done)"))
    assert (result.answer, result.usage.turns) == ("done", 8)


# --- with strategies ---


async def test_a_stuck_run_goes_on_by_another_prompt_and_model_in_the_same_repl() -> None:
    first = script(code("found = context[:5]"), *[FAILS] * 9, name="scripted:first")
    other = script(code("print(found)"), "FINAL_VAR(found)", name="scripted:other")
    strategy = Strategy(prompt_mode="no_subcalls", root_llm=other, note="Mind the names.")
    result, events = await watched(first, strategies=[strategy], limits=Limits(max_failed_cells=2))
    assert (result.answer, result.stop_reason, result.usage.turns) == ("alpha", "answered", 5)
    assert result.usage.root_calls == 5, "both roots draw on one ledger"
    why = "2 cells in a row failed; the last: NameError"
    assert facts(events, "strategy") == [
        {"turn": 3, "strategy": 1, "root": "scripted:other", "prompt_mode": "no_subcalls", "why": why}
    ]
    system, opening = other.requests[0].messages
    assert system.content == RLM_NO_SUBCALLS_PROMPT
    assert opening.content.startswith("`context` is a string")
    assert f"was ended: {why}. Go about it differently." in opening.content
    assert "Names that its code bound, the latest first: found." in opening.content
    assert "NameError: name 'undefined_name' is not defined\n[end " in opening.content
    assert opening.content.endswith("\nMind the names.")
    assert "alpha" in shown(other)


async def test_a_strategy_without_sub_calls_refuses_them_from_then_on() -> None:
    asks = code("try:\n    print(llm_query('Anything?'))\nexcept SubCallError as error:\n    print(error)")
    first = script(asks, *[FAILS] * 2, asks, "FINAL(done)")
    result, _ = await watched(
        first,
        sub_llm=script("It is."),
        strategies=[Strategy(prompt_mode="no_subcalls")],
        limits=Limits(max_failed_cells=2),
    )
    assert (result.answer, result.usage.sub_calls) == ("done", 1)
    assert [turn.cells[0].output for turn in result.turns if turn.cells and "llm_query" in turn.cells[0].code] == [
        "It is.",
        "this run has no sub-calls",
    ]


async def test_when_the_last_strategy_is_stuck_too_the_run_ends_with_the_best_there_was() -> None:
    first = script("FINAL(I will look first.)", "silence", "silence")
    second, third = script(*["silence"] * 3), script(*["silence"] * 3)
    strategies = [Strategy(root_llm=second), Strategy(root_llm=third, note="Last try.")]
    result, events = await watched(first, strategies=strategies)
    assert (result.stop_reason, result.usage.turns) == ("no_progress", 9)
    assert (result.answer, result.answer_kind) == ("I will look first.", "partial")
    assert [fact["turn"] for fact in facts(events, "strategy")] == [3, 6]
    assert (len(first.requests), len(second.requests), len(third.requests)) == (3, 3, 3)


async def test_turns_are_limited_over_all_strategies_together() -> None:
    root = script(*["silence"] * 5, "FINAL(best I have)")
    result, _ = await watched(root, strategies=[Strategy(note="Again.")] * 5, limits=Limits(max_turns=5))
    assert (result.stop_reason, result.usage.turns, result.answer_kind) == ("turn_limit", 5, "best_effort")


async def test_in_quarantine_the_next_root_is_told_an_error_by_its_type_alone() -> None:
    """And what its predecessor declared is known: a variable's label may still be reported."""
    declares = code("declare_labels('spam')\nlabel = 'spam'")
    fails = code("raise ValueError(context[:5])")
    other = script(code("report(label=label)"), "FINAL_VAR(label)", name="scripted:other")
    result, _ = await watched(
        script(declares, *[fails] * 2),
        observe="typed",
        strategies=[Strategy(root_llm=other)],
        limits=Limits(max_failed_cells=2),
    )
    assert result.answer == "spam"
    opening = other.requests[0].messages[1].content
    assert "2 cells in a row failed; the last: ValueError" in opening
    assert "alpha" not in opening
    assert "label = 'spam'" in shown(other)


async def test_a_child_run_has_the_strategies_of_the_run_too() -> None:
    starts = code("print(rlm_query('Is it there?', context))")
    root = script(starts, *["silence"] * 3, "FINAL(found)", "FINAL(done)")
    result, events = await watched(root, strategies=[Strategy(note="Once more.")], limits=Limits(max_depth=3))
    assert result.answer == "done"
    [fact] = facts(events, "strategy")
    assert fact["run_depth"] == 1
    assert "found" in result.turns[0].cells[0].output
