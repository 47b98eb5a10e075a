"""Recorded runs of real models: each cell, sent as a root's reply, parses into exactly the recorded code."""

from __future__ import annotations

import ast
from pathlib import Path

from orchestrator.parsing import missing_reason, parse_reply, reads_like_a_plan
from tests.datasets import load_trajectories
from tests.root_scripts import as_reply


def test_all_recorded_cells_parse_to_the_recorded_code(shared_data: Path) -> None:
    events = [event for event in load_trajectories(shared_data) if event.is_cell]
    assert len(events) == 77
    for event in events:
        assert event.code is not None
        parsed = parse_reply(as_reply(event.code))
        assert parsed.cells == (event.code,), f"{event.file} step {event.step}"
        assert parsed.final is None, "a FINAL of the cell's own is code"


def test_cells_that_ended_an_agent_parse_to_the_recorded_code(shared_data: Path) -> None:
    events = [event for event in load_trajectories(shared_data) if event.kind == "code_generated" and event.code]
    assert events
    for event in events:
        assert "FINAL" in (event.code or "")
        parsed = parse_reply(as_reply(event.code or ""))
        assert (parsed.cells, parsed.final) == ((event.code,), None)


def test_a_run_sent_as_one_reply_keeps_its_cells_apart(shared_data: Path) -> None:
    """Only where each cell is Python by itself: an unclosed string in one may swallow the next, by design."""
    codes = [event.code for event in load_trajectories(shared_data) if event.code and _is_python(event.code)]
    assert len(codes) > 77
    assert parse_reply(as_reply(*codes)).cells == tuple(codes)


def test_empty_code_asks_again(shared_data: Path) -> None:
    empty = [event for event in load_trajectories(shared_data) if event.code == ""]
    assert len(empty) == 3
    parsed = parse_reply(as_reply(""))
    assert (parsed.cells, parsed.final) == ((), None)
    assert missing_reason(parsed) == "the code block is empty"


def test_what_real_models_say_beside_their_code_is_no_answer(shared_data: Path) -> None:
    """Their reasoning speaks of FINAL now and then; none of it may end a run."""
    said = [event for event in load_trajectories(shared_data) if event.reasoning and event.code]
    assert len(said) > 70
    assert any("FINAL" in (event.reasoning or "") for event in said)
    for event in said:
        parsed = parse_reply(f"{event.reasoning}\n\n{as_reply(event.code or '')}")
        assert parsed.final is None, event.reasoning
        assert parsed.cells[-1] == event.code


def test_what_real_models_say_is_no_plan_inside_of_an_answer(shared_data: Path) -> None:
    results = [event.result for event in load_trajectories(shared_data) if event.result is not None]
    assert len(results) >= 5
    assert not [result for result in results if reads_like_a_plan(str(result))]


def _is_python(code: str) -> bool:
    try:
        compile(code, "<cell>", "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return False
    return True
