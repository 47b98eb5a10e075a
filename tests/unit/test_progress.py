"""What a person sees of a run: enough, short, and nothing that a terminal would obey or a log should not hold."""

from __future__ import annotations

import io
import re
import threading
import time
from typing import Any

import pytest

from orchestrator.limits import Usage
from orchestrator.policies.limits import EgressLimit
from orchestrator.progress import CODE_LINES, OUTPUT_LINES, SUB_CALLS_SHOWN, ProgressPrinter
from orchestrator.providers.base import ModelReply, TokenUsage
from orchestrator.recorder import Recorder
from orchestrator.result import StopReason, SubCall
from orchestrator.screens import PlainScreen
from orchestrator.tally import short
from orchestrator.tool_record import ToolCall

SECRET = "what the document says"
HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e\x9b"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


class Terminal(io.StringIO):
    """Keeps what a terminal would be sent."""

    def isatty(self) -> bool:
        return True


START = {"root": "r:m", "sub": "s:m", "isolation": "container", "context": "a string of 9 characters"}


def facts(**changes: Any) -> dict[str, Any]:
    """What the loop says of a cell."""
    return {
        "waited_s": 0.0,
        "stdout_chars": 0,
        "stderr_chars": 0,
        "result_chars": 0,
        "clock": None,
        "lost_because": None,
        "late_chars": 0,
        "answered": False,
    } | changes


def play(
    printer: ProgressPrinter, text: str = SECRET, *, sub_calls: int = 2, limits: dict[str, Any] | None = None
) -> None:
    """A run with one turn whose every text is `text`."""
    recorder = Recorder([printer])
    bounds = {"max_turns": 30, "max_sub_calls": 100, "max_tokens": 2_000_000, "max_wall_s": 900} | (limits or {})
    recorder.emit("run_start", START | {"limits": bounds}, question=text)
    recorder.emit("setup", {"doing": "building the image"})
    recorder.emit("box", {"isolation": "container", "runtime": "runc", "held": 70, "not_checked": ["a", "b"]})
    usage = TokenUsage(input_tokens=1000, output_tokens=234)
    turn = recorder.turn(ModelReply(text=f"{text}\n```repl\npass\n```", usage=usage), 1.5)
    cell = recorder.cell_starts(turn, f"print(1)\n# {text}")
    for _ in range(sub_calls):
        recorder.sub_call(SubCall(model="s:m", prompt=text, data=text, reply=text, usage=usage, wall_s=0.5))
    recorder.sub_call(SubCall(model="s:m", prompt=text, error_kind="LimitExceeded", error=text))
    cell.output, cell.status, cell.error, cell.wall_s = text, "error", f"ValueError: {text}", 0.25
    recorder.cell_ends(turn, cell, facts(stdout_chars=20, result_chars=2))
    recorder.box_lost(turn, "the kernel died by signal 9")
    recorder.run_ends(StopReason.TURN_LIMIT, Usage(turns=1, sub_calls=2, input_tokens=5, refusals=1, wall_s=3.0), text)


def test_a_log_has_one_plain_line_an_event_with_sizes_and_no_text() -> None:
    stream = io.StringIO()
    play(ProgressPrinter(stream))
    assert stream.getvalue().splitlines() == [
        "airlock: root r:m, sub-calls to s:m, isolation container",
        "airlock: context is a string of 9 characters",
        "airlock:   building the image",
        "airlock: box started: container (runc), audit: 70 controls held, 2 could not be checked",
        "airlock: turn 1: 1.5 s, 1,234 tokens",
        "airlock: turn 1, cell 1: error ValueError, 0.25 s, 22 characters of output, 3 sub-calls (1 LimitExceeded)",
        "airlock:   the box was lost (the kernel died by signal 9); a fresh one is started with the context in it",
        "airlock: turn limit: 1 turn, 2 sub-calls, 1 refused, 5 tokens (5 in, 0 out), $0.00, 3.0 s",
    ]


def test_an_answer_that_does_not_fit_and_the_question_behind_the_last_turn_are_lines_without_text() -> None:
    stream = io.StringIO()
    recorder = Recorder([ProgressPrinter(stream)])
    recorder.invalid_answer(["$.name: missing", "$.n: int_parsing"], SECRET)
    recorder.last_chance(ModelReply(text=SECRET, usage=TokenUsage(input_tokens=1, output_tokens=1)), 0.5)
    recorder.last_chance(None, 0.5, failure="LimitExceeded")
    assert stream.getvalue().splitlines() == [
        "airlock:   the answer does not fit the schema: $.name: missing",
        "airlock: no turns are left: the root was asked once more, for its best answer",
        "airlock: no turns are left: the root was asked once more, for its best answer (LimitExceeded)",
    ]


def test_a_terminal_shows_the_text_and_a_live_line() -> None:
    stream = Terminal()
    play(ProgressPrinter(stream))
    shown = stream.getvalue()
    assert shown.count(SECRET) >= 6  # reply, code, question, replies, output, error
    assert re.search(r"asking the root, 0 s · turn 2/30 · 3/100 sub-calls · 3\.7k/2M tokens · 14:\d\d left", shown)
    assert "turn limit" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is there again


def test_the_live_line_follows_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    printer = ProgressPrinter(stream)
    play(printer, limits={"max_wall_s": "unlimited", "max_turns": "unlimited"})
    status = printer._tally.status()
    assert status == "asking the root, 0 s · turn 2 · 3/100 sub-calls · 3.7k/2M tokens · 0:00 gone"
    assert len(status) < 80, "of the narrowest terminal nothing is cut off"


def test_the_live_line_shows_the_turn_under_way() -> None:
    printer = ProgressPrinter(io.StringIO())
    seen = []
    status = printer._tally.status
    recorder = Recorder([printer, lambda event: seen.append((event.kind, status()))])
    recorder.emit("run_start", {**START, "limits": {"max_turns": 1}})
    recorder.emit("box", {"isolation": "container", "runtime": "runc", "held": 70, "not_checked": []})
    turn = recorder.turn(ModelReply(text="x", usage=TokenUsage(input_tokens=1, output_tokens=1)), 1.0)
    recorder.cell_ends(turn, recorder.cell_starts(turn, "pass"), facts())
    assert [(kind, line.split(", ")[0], line.split(" · ")[1]) for kind, line in seen] == [
        ("run_start", "starting the box", "turn 1/1"),
        ("box", "asking the root", "turn 1/1"),
        ("turn", "asking the root", "turn 1/1"),
        ("cell_start", "running cell 1", "turn 1/1"),
        ("cell", "asking the root", "turn 1/1"),
    ]


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (2_149, "2.1k"),
        (19_438, "19k"),
        (999_499, "999k"),
        (999_999, "1M"),
        (10**15, "1000T"),
    ],
)
def test_numbers_of_the_live_line_are_short(number: int, shown: str) -> None:
    assert short(number) == shown


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("NameError: name 'x' is not defined", "error NameError, "),
        ("the words of the document: x", "error, "),
        ("a\x1b[2J: x", "error, "),
        ("", "error, "),
        ("N" * 50, "error " + "N" * 39 + "…, "),
    ],
)
def test_of_an_error_a_log_shows_the_name_alone(error: str, shown: str) -> None:
    stream = io.StringIO()
    recorder = Recorder([ProgressPrinter(stream)])
    turn = recorder.turn(ModelReply(text="x", usage=TokenUsage(input_tokens=1, output_tokens=1)), 1.0)
    cell = recorder.cell_starts(turn, "pass")
    cell.status, cell.error = "error", error
    recorder.cell_ends(turn, cell, facts())
    assert f"turn 1, cell 1: {shown}0.00 s, 0 characters of output\n" in stream.getvalue()


def test_all_models_that_may_be_asked_are_named_at_the_start() -> None:
    stream = io.StringIO()
    roles = [("root", None, "r:m"), ("sub", None, "s:m"), ("sub", "fast", "f:m"), ("fallback", None, "z:\x1b[2Jm")]
    models = [{"role": role, "name": name, "model": model} for role, name, model in roles]
    Recorder([ProgressPrinter(stream)]).emit("run_start", {**START, "limits": {}, "models": models})
    assert stream.getvalue().splitlines()[1] == r"airlock: also fast: f:m, fallback z:\x1b[2Jm"


def test_the_policies_are_named_at_the_start() -> None:
    stream = io.StringIO()
    summaries = ["Canary", EgressLimit(0.0001).summary(69)]
    Recorder([ProgressPrinter(stream)]).emit("run_start", {**START, "limits": {}, "policy_summaries": summaries})
    assert stream.getvalue().endswith(
        "airlock: policies: Canary, EgressLimit of 4,194,304 bytes (the floor; 0.0001 x 69 bytes is no more)\n"
    )


def test_a_run_that_is_left_behind_has_an_end_line_and_one_that_ended_has_no_second(tmp_path: Any) -> None:
    stream = io.StringIO()
    printer = ProgressPrinter(stream, trace=tmp_path / "t.jsonl")
    recorder = Recorder([printer])
    recorder.turn(ModelReply(text="x", usage=TokenUsage(input_tokens=1000, output_tokens=1)), 1.0)
    printer.left_behind()
    printer.left_behind()
    *_, last = stream.getvalue().splitlines()
    assert last == f"airlock: cancelled: 1 turn, 0 sub-calls, 1,001 tokens so far; trace {tmp_path}/t.jsonl"
    assert stream.getvalue().count("cancelled") == 1
    ended = io.StringIO()
    printer = ProgressPrinter(ended)
    play(printer)
    printer.left_behind()
    assert "cancelled" not in ended.getvalue()


def test_a_run_that_did_not_begin_has_no_end_line() -> None:
    stream = io.StringIO()
    ProgressPrinter(stream).left_behind()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_nothing_a_terminal_obeys_gets_through(stream: io.StringIO) -> None:
    play(ProgressPrinter(stream, show_text=True), HOSTILE)
    sent = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).replace("\r", "")  # the colours of our own
    assert "\\x1b]0;title\\x07" in sent
    assert OBEYED.findall(sent) == []
    assert "\x1b[2J" not in stream.getvalue()


def test_long_texts_are_shortened_and_say_so() -> None:
    stream = io.StringIO()
    lines = "\n".join(f"line {number}" for number in range(1000))
    play(ProgressPrinter(stream, show_text=True), lines, sub_calls=50)
    shown = stream.getvalue()
    assert len(shown.splitlines()) < CODE_LINES + OUTPUT_LINES + SUB_CALLS_SHOWN + 20
    assert "… 992 more lines" not in shown  # what lies beyond the part that is read is not counted
    assert re.search(r"… \d+ more lines", shown)
    assert "line 0" in shown
    assert "51 sub-calls" in shown


def test_one_endless_line_is_cut() -> None:
    stream = io.StringIO()
    play(ProgressPrinter(stream, show_text=True), "x" * 5_000_000)
    assert len(stream.getvalue()) < 5_000


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    stream = io.StringIO()
    printer = ProgressPrinter(stream)
    stream.close()
    play(printer)
    printer.close()


def test_the_trace_is_named_at_the_end(tmp_path: Any) -> None:
    stream = io.StringIO()
    play(ProgressPrinter(stream, trace=tmp_path / "t\x1b.jsonl"))
    assert stream.getvalue().endswith(f"; trace {tmp_path}/t\\x1b.jsonl\n")


def test_closing_twice_and_events_after_it_do_no_harm() -> None:
    printer = ProgressPrinter(Terminal())
    play(printer)
    printer.close()
    printer.note("a warning")


def wait_for(text: str, stream: io.StringIO) -> str:
    """What the stream holds when `text` is in it."""
    until = time.monotonic() + 10
    while text not in stream.getvalue():
        assert time.monotonic() < until, stream.getvalue()
        time.sleep(0.01)
    return stream.getvalue()


def test_a_log_says_what_is_waited_for_and_stops_at_the_end() -> None:
    stream = io.StringIO()
    screen = PlainScreen(stream, "airlock: ", lambda: "asking the root, 10 s", silence_s=0.01)
    screen.show((("before it opens", ""),))
    screen.open()
    shown = wait_for("asking the root, 10 s\nairlock:   asking the root", stream)
    assert shown.startswith("airlock: before it opens\nairlock:   asking the root, 10 s\n")
    screen.show((("a turn", ""),))
    assert "airlock: a turn\n" in stream.getvalue()
    screen.close()
    screen.close()
    at_the_end = stream.getvalue()
    time.sleep(0.1)
    assert stream.getvalue() == at_the_end


def test_a_log_whose_reader_is_gone_ends_no_program(capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    before = set(threading.enumerate())
    screen = PlainScreen(stream, "", lambda: "waiting", silence_s=0.01)
    screen.open()
    stream.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    assert capfd.readouterr().err == ""


def test_tools_are_counted_in_a_log_and_shown_on_a_terminal() -> None:
    log, screen = io.StringIO(), Terminal()
    for stream in (log, screen):
        recorder = Recorder([ProgressPrinter(stream)])
        recorder.emit("run_start", START | {"limits": {}})
        turn = recorder.turn(ModelReply(text="", usage=TokenUsage(input_tokens=1, output_tokens=1)), 1.0)
        cell = recorder.cell_starts(turn, "pass")
        arguments = f'{{"name": "{SECRET}{HOSTILE}"}}'
        recorder.tool_call(ToolCall(tool="lookup", arguments=arguments, argument_bytes=9, called=True, result='"ok"'))
        failed = ToolCall(tool="lookup", arguments="{}", argument_bytes=2)
        failed.failed("ToolArgumentError", "lookup needs name")
        recorder.tool_call(failed)
        recorder.cell_ends(turn, cell, facts())
        recorder.run_ends(StopReason.ANSWERED, Usage(turns=1, tool_calls=1), "x")
    assert "0 characters of output, 2 tool calls (1 ToolArgumentError)\n" in log.getvalue()
    assert "1 turn, 0 sub-calls, 1 tool call," in log.getvalue()
    assert SECRET not in log.getvalue()
    shown = screen.getvalue()
    assert f'lookup {{"name": "{SECRET}' in shown
    assert '"ok"' in shown
    assert "ToolArgumentError: lookup needs name" in shown
    assert HOSTILE not in shown
