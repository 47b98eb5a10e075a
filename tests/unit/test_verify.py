"""The trace as an audit log: every way to change it shows, or `verify_trace` says what it can't tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigError
from orchestrator.trace import TraceEvent, TraceFile, verify_trace


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
