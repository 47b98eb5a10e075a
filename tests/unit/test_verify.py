"""The trace as an audit log: every way to change it shows, or `verify_trace` says what it can't tell."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.audit_log import verify_trace
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import main
from orchestrator.errors import ConfigError
from orchestrator.trace import FORMAT, NO_LINE, TraceEvent, TraceFile
from orchestrator.traced import read_trace


def write(directory: Path, turns: int = 3) -> TraceFile:
    trace = TraceFile(directory, keep_text=False)
    trace(TraceEvent(kind="run_start", t_s=0.0))
    for number in range(turns):
        trace(TraceEvent(kind="turn", t_s=float(number), facts={"turn": number}, texts={"response": "text"}))
    trace(TraceEvent(kind="run_end", t_s=9.0, facts={"stop_reason": "answered"}))
    trace.close()
    return trace


def test_a_whole_trace_is_sound(tmp_path: Path) -> None:
    trace = write(tmp_path)
    for anchor in (None, trace.head, trace.head.upper() + "\n"):
        verdict = verify_trace(trace.path, anchor=anchor)
        assert (verdict.problem, verdict.lines, verdict.head, verdict.ended) == (None, 5, trace.head, True)


def test_the_command_takes_the_directory_of_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write(tmp_path / "traces")
    trace.path.rename(tmp_path / "journal.jsonl")
    assert main(("verify", str(tmp_path))) == ExitCode.ANSWERED
    assert capsys.readouterr().out == f"{trace.head}\n"


def altered(trace: TraceFile, lines: list[bytes]) -> str | None:
    trace.path.write_bytes(b"".join(lines))
    return verify_trace(trace.path, anchor=trace.head).problem


@pytest.mark.parametrize("number", range(5))
def test_an_edit_a_removal_and_an_insertion_show(tmp_path: Path, number: int) -> None:
    trace = write(tmp_path)
    lines = trace.path.read_bytes().splitlines(keepends=True)
    edited = [*lines[:number], lines[number].replace(b"kind", b"Kind"), *lines[number + 1 :]]
    assert altered(trace, edited) is not None
    assert altered(trace, lines[:number] + lines[number + 1 :]) is not None
    assert altered(trace, [*lines[: number + 1], lines[number], *lines[number + 1 :]]) is not None


@given(order=st.permutations(range(5)))
def test_any_other_order_shows(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    trace = write(tmp_path_factory.mktemp("trace"))
    lines = trace.path.read_bytes().splitlines(keepends=True)
    problem = altered(trace, [lines[number] for number in order])
    assert (problem is None) == (order == list(range(5)))


@given(cut=st.integers(min_value=0))
def test_a_cut_at_the_end_shows_against_the_anchor(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    trace = write(tmp_path_factory.mktemp("trace"))
    whole = trace.path.read_bytes()
    assert altered(trace, [whole[: cut % len(whole)]]) is not None


RUN_START: dict[str, Any] = {"kind": "run_start", "t_s": 0.0, "format": FORMAT}

ATTACKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "an added line": lambda lines: [*lines, next_line(lines[-1], {"kind": "turn", "t_s": 10.0})],
    "a second run's trace": lambda lines: lines + lines,
    "a second run, chained to the first": lambda lines: [*lines, next_line(lines[-1], RUN_START)],
    "a blank line at the end": lambda lines: [*lines, b"\n"],
    "a blank line between": lambda lines: [*lines[:2], b"\n", *lines[2:]],
    "line ends of Windows": lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    "one line end of Windows, the last": lambda lines: [*lines[:-1], lines[-1].replace(b"\n", b"\r\n")],
    "a key twice, in the last line": lambda lines: [*lines[:-1], lines[-1].replace(b"{", b'{"t_s": 1.0, ', 1)],
    "a space more, in the last line": lambda lines: [*lines[:-1], lines[-1].replace(b": ", b":  ", 1)],
    "another way to write a letter": lambda lines: [*lines[:-1], lines[-1].replace(b"answered", b"\\u0061nswered")],
    "no line end at the end": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "a byte order mark": lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]],
    "a NUL byte at the end": lambda lines: [*lines, b"\0"],
    "a start that is none": lambda lines: rewritten(lines, 0, {"kind": "turn", "t_s": 0.0}),
    "an event without a name": lambda lines: rewritten(lines, 2, {"t_s": 0.0}),
    "a depth without end": lambda lines: [*lines, b"[" * 100_000 + b"\n"],
    "a number without end": lambda lines: [*lines, b"9" * 100_000 + b"\n"],
}
"""Each shows without an anchor too: a run writes each line in one way, and nothing behind its end."""


def next_line(line: bytes, record: dict[str, Any]) -> bytes:
    """A line that follows another, made by somebody who knows how."""
    previous = hashlib.sha256(line[:-1]).hexdigest()
    return json.dumps({"previous": previous} | record).encode() + b"\n"


def rewritten(lines: list[bytes], number: int, record: dict[str, Any]) -> list[bytes]:
    """The file with one line replaced and all later digests made anew."""
    records = [json.loads(line) for line in lines]
    made = {"previous": NO_LINE} | (record if number == 0 else records[0])
    done = [json.dumps(made).encode() + b"\n"]
    for index in range(1, len(records)):
        done.append(next_line(done[-1], record if index == number else records[index] | {"previous": None}))
    for index in range(1, len(done)):  # `previous` was put back by the records' own
        fields = json.loads(done[index])
        fields["previous"] = hashlib.sha256(done[index - 1][:-1]).hexdigest()
        done[index] = json.dumps(fields).encode() + b"\n"
    return done


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_no_run_writes_shows_without_an_anchor(tmp_path: Path, attack: str) -> None:
    trace = write(tmp_path)
    lines = ATTACKS[attack](trace.path.read_bytes().splitlines(keepends=True))
    assert altered(trace, lines) is not None
    assert verify_trace(trace.path).problem is not None


def test_a_file_written_anew_shows_against_the_anchor_only(tmp_path: Path) -> None:
    trace = write(tmp_path)
    lines = trace.path.read_bytes().splitlines(keepends=True)
    anew = rewritten(lines, 2, {"kind": "turn", "t_s": 1.0, "turn": 7})
    assert altered(trace, anew) is not None
    assert verify_trace(trace.path).problem is None


def test_a_line_that_no_run_writes_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = write(tmp_path)
    monkeypatch.setattr("orchestrator.audit_log.MAX_LINE_BYTES", 1000)
    with trace.path.open("ab") as file:
        file.write(b"x" * 100_000)
    verdict = verify_trace(trace.path)
    assert verdict.lines == 6
    assert verdict.problem is not None


@pytest.fixture
def few_values(monkeypatch: pytest.MonkeyPatch) -> int:
    """So many are too many for a line: less than in truth, and shorter."""
    for module in ("audit_log", "traced"):
        monkeypatch.setattr(f"orchestrator.{module}.MAX_LINE_VALUES", 20_000)
    return 20_000


@pytest.mark.parametrize("piece", ["[],", "{},", '"",', "1,"])
def test_a_line_of_values_without_end_is_not_made_into_objects(tmp_path: Path, piece: str, few_values: int) -> None:
    """Some bytes of it would be hundreds of the reader's memory."""
    values = piece * (few_values + 1)
    path = tmp_path / "file"
    path.write_text(f'{{"previous": "{NO_LINE}", "kind": "run_start", "format": "{FORMAT}", "x": [{values}1]}}\n')
    tracemalloc.start()
    try:
        assert verify_trace(path).problem == "line 1 is cut, or not as a run writes it"
        with pytest.raises(ConfigError, match="is no event of a trace"):
            read_trace(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_a_text_full_of_brackets_is_a_text(tmp_path: Path, few_values: int) -> None:
    text = "[],{}," * few_values
    trace = TraceFile(tmp_path, keep_text=True, redact=False)
    trace(TraceEvent(kind="run_start", t_s=0.0, texts={"question": text}))
    trace.close()
    assert verify_trace(trace.path).problem is None
    assert next(iter(read_trace(trace.path).runs.values())).start["question"] == text


def test_without_an_anchor_a_cut_run_is_not_ended_and_another_file_is_not_told(tmp_path: Path) -> None:
    trace, other = write(tmp_path), write(tmp_path, turns=1)
    lines = trace.path.read_bytes().splitlines(keepends=True)
    trace.path.write_bytes(b"".join(lines[:-1]))
    verdict = verify_trace(trace.path)
    assert (verdict.problem, verdict.ended) == (None, False)
    assert verify_trace(other.path).problem is None
    assert verify_trace(other.path, anchor=trace.head).problem is not None


def test_what_is_no_trace_is_said_to_be_none(tmp_path: Path) -> None:
    for content in (b"", b"\n", b"{}\n", b"[" * 100_000, b'{"previous": "' + b"0" * 64 + b'"}\n', b"\xff\n"):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert verify_trace(path).problem is not None
    with pytest.raises(ConfigError, match="no-such"):
        verify_trace(tmp_path / "no-such")


# --- sessions ---


def write_session(directory: Path, asks: list[int]) -> TraceFile:
    trace = TraceFile(directory, keep_text=False)
    for ask in asks:
        trace(TraceEvent(kind="run_start", t_s=0.0, facts={"ask": ask}))
        trace(TraceEvent(kind="run_end", t_s=1.0, facts={"ask": ask}))
    trace.close()
    return trace


def test_the_questions_of_a_session_follow_each_other_in_one_trace(tmp_path: Path) -> None:
    trace = write_session(tmp_path, [1, 2, 3])
    verdict = verify_trace(trace.path, anchor=trace.head)
    assert (verdict.problem, verdict.lines, verdict.ended) == (None, 6, True)


@pytest.mark.parametrize(
    "facts", [{}, {"ask": 1}, {"ask": 0}, {"ask": True}, {"ask": "2"}, {"ask": None}, {"ask": [2]}]
)
def test_nothing_else_stands_behind_a_runs_end(tmp_path: Path, facts: dict[str, Any]) -> None:
    trace = TraceFile(tmp_path, keep_text=False)
    for kind, said in (("run_start", {"ask": 1}), ("run_end", {"ask": 1}), ("run_start", facts)):
        trace(TraceEvent(kind=kind, t_s=0.0, facts=said))
    trace.close()
    assert verify_trace(trace.path).problem == "line 3 stands behind the run's end"


def test_a_question_that_did_not_end_is_followed_by_no_other(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path, keep_text=False)
    for ask in (1, 2):
        trace(TraceEvent(kind="run_start", t_s=0.0, facts={"ask": ask}))
    trace.close()
    assert verify_trace(trace.path).problem == "line 2 is another run's start"
