"""What a person sees while a reply is written, a cell prints and sub-calls are on their way."""

from __future__ import annotations

import io
import re

import pytest

from orchestrator.progress import ProgressPrinter
from orchestrator.providers.base import ModelReply, TokenUsage
from orchestrator.recorder import Recorder
from orchestrator.result import SubCall
from tests.unit.test_progress import HOSTILE, OBEYED, START, Terminal, facts


def test_the_live_line_shows_what_the_root_has_written_what_a_cell_printed_and_what_was_asked() -> None:
    printer = ProgressPrinter(io.StringIO())
    status = printer._tally.status

    def seen() -> str:
        return status().split(" · ")[0]

    recorder = Recorder([printer])
    recorder.emit("run_start", {**START, "limits": {}})
    recorder.emit("box", {"isolation": "container", "runtime": "runc", "held": 70, "not_checked": []})
    recorder.show("token", {"turn": 1, "reply": 1, "cut": False}, text="x" * 1_200)
    assert seen() == "the root writes, 1.2k chars, 0 s"
    recorder.show("token", {"turn": 1, "reply": 2, "cut": False}, text="x" * 30)
    assert seen() == "the root writes, 30 chars, 0 s"
    turn = recorder.turn(ModelReply(text="x", usage=TokenUsage(input_tokens=1, output_tokens=1)), 1.0)
    cell = recorder.cell_starts(turn, "pass")
    assert seen() == "running cell 1, 0 s"
    recorder.show("output", {"turn": 1, "cell": 1, "stream": "stdout", "cut": False}, text="y" * 2_000)
    assert seen() == "running cell 1, 2k chars, 0 s"
    calls = [SubCall(model="m", prompt="p"), SubCall(model="m", prompt="p")]
    for call in calls:
        recorder.sub_call_starts(call)
    assert seen() == "running cell 1, 2 asked, 0 s"
    for call in calls:
        recorder.sub_call(call)
    recorder.cell_ends(turn, cell, facts())
    assert seen() == "asking the root, 0 s"


def printed(*pieces: tuple[str, str], cut: bool = False, whole_output: bool = True) -> list[str]:
    """The lines about a cell that printed these."""
    stream = io.StringIO()
    recorder = Recorder([ProgressPrinter(stream, show_text=True, whole_output=whole_output)])
    turn = recorder.turn(ModelReply(text="x", usage=TokenUsage(input_tokens=1, output_tokens=1)), 1.0)
    cell = recorder.cell_starts(turn, "pass")
    for name, text in pieces:
        recorder.show("output", {"turn": 1, "cell": 1, "stream": name, "cut": cut}, text=text)
    cell.output = "the whole output"
    recorder.cell_ends(turn, cell, facts(stdout_chars=3))
    lines = stream.getvalue().splitlines()
    return lines[lines.index("  │ pass") + 1 :]


def test_with_whole_output_a_cells_lines_are_shown_as_they_end_and_not_once_more() -> None:
    assert printed(("stdout", "one\nt"), ("stderr", "warning\n"), ("stdout", "wo\r\nthr"), ("stdout", "ee")) == [
        "    one",
        "    warning",
        "    two",
        "    three",
        "  ╰ ok  0.00 s, 3 characters of output",
    ]
    assert printed(("stdout", "one\nt"), cut=True)[:3] == ["    one", "    t", "    … more was printed"]


def test_without_it_the_output_is_shown_shortened_when_the_cell_has_ended() -> None:
    assert printed(("stdout", "one\n"), whole_output=False) == [
        "  ╰ ok  0.00 s, 3 characters of output",
        "    the whole output",
    ]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_no_output_moves_a_terminal_while_it_is_printed(stream: io.StringIO) -> None:
    recorder = Recorder([ProgressPrinter(stream, whole_output=True)])
    recorder.show("output", {"turn": 1, "cell": 1, "stream": "stdout", "cut": False}, text=f"{HOSTILE}\rx\n" * 3)
    sent = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert sent.count("\\x1b]0;title\\x07") == 3
    assert OBEYED.findall(sent) == []


def test_a_model_that_is_out_a_new_strategy_and_a_shorter_conversation_are_lines() -> None:
    stream = io.StringIO()
    recorder = Recorder([ProgressPrinter(stream)])
    recorder.fallback("a:m", "b:m", role="root", depth=0, status=503)
    recorder.strategy(1, root="b:m", prompt_mode="conservative", why="3 turns without progress")
    shortened = {"turns": 2, "tokens_before": 8_000, "tokens_after": 1_000}
    recorder.compaction(shortened, None, 0.5)
    assert stream.getvalue().splitlines() == [
        "airlock:   a:m is out: b:m is asked instead",
        "airlock: no progress (3 turns without progress): strategy 1 goes on: b:m, conservative",
        "airlock:   the conversation was shortened by 2 turns: about 8,000 tokens became 1,000",
    ]
