"""The trace file: one JSON object a line, no text of the document unless it was asked for, for its owner alone."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.rlm import RLM
from orchestrator.trace import FORMAT, TraceEvent, TraceFile, text_digest

SECRET = "the document's own words"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(directory: Path, *events: TraceEvent, keep_text: bool = False) -> Path:
    trace = TraceFile(directory, keep_text=keep_text)
    for event in events:
        trace(event)
    trace.close()
    return trace.path


def test_a_text_is_named_by_its_length_and_digest_alone(tmp_path: Path) -> None:
    path = write(tmp_path, TraceEvent(kind="turn", t_s=1.25, facts={"turn": 1}, texts={"response": SECRET}))
    expected = {
        "previous": "0" * 64,
        "kind": "turn",
        "t_s": 1.25,
        "turn": 1,
        "response_chars": len(SECRET),
    }
    (line,) = lines(path)
    assert len(line.pop("response_digest")) == 64
    assert line == expected
    assert SECRET not in path.read_text()


def test_a_digest_is_told_by_the_key_alone_which_stands_only_beside_the_text(tmp_path: Path) -> None:
    keys = set()
    for keep_text in (False, True):
        trace = TraceFile(tmp_path, keep_text=keep_text)
        trace(TraceEvent(kind="run_start", t_s=0))
        trace(TraceEvent(kind="run_end", t_s=1, texts={"answer": "yes"}))
        trace.close()
        start, end = lines(trace.path)
        assert end["answer_digest"] == text_digest("yes", trace.digest_key)
        assert end["answer_digest"] != hashlib.sha256(b"yes").hexdigest()
        assert start.get("digest_key") == (trace.digest_key if keep_text else None)
        assert (trace.digest_key in trace.path.read_text()) == keep_text
        keys.add(trace.digest_key)
    assert len(keys) == 2


KEY = "AKIA" + "ABCDEFGH" * 2


def test_secrets_are_replaced_in_code_and_kept_text_and_counted(tmp_path: Path) -> None:
    events = (
        TraceEvent(kind="run_start", t_s=0),
        TraceEvent(kind="cell_start", t_s=1, facts={"code": f"key = '{KEY}'"}),
        TraceEvent(kind="cell", t_s=1, texts={"output": f"{KEY} and {KEY}"}),
        TraceEvent(kind="run_end", t_s=2, texts={"answer": KEY}),
    )
    for keep_text, redact, count in ((False, True, 1), (True, True, 4), (False, False, 0), (True, False, 0)):
        trace = TraceFile(tmp_path / f"{keep_text}{redact}", keep_text=keep_text, redact=redact)
        for event in events:
            trace(event)
        trace.close()
        _, start, cell, end = lines(trace.path)
        assert trace.redactions == trace.info().redactions == end["redactions_in_trace"] == count
        assert start["code"] == (f"key = '{'[redacted]' if redact else KEY}'")
        assert (KEY in trace.path.read_text()) == (not redact)
        assert cell["output_digest"] == text_digest(f"{KEY} and {KEY}", trace.digest_key), "of what it was"


def test_with_keep_text_it_stands_beside_them(tmp_path: Path) -> None:
    path = write(tmp_path, TraceEvent(kind="turn", t_s=1, texts={"response": SECRET}), keep_text=True)
    (line,) = lines(path)
    assert line["response"] == SECRET
    assert line["response_chars"] == len(SECRET)


def test_any_text_makes_a_line_of_valid_json(tmp_path: Path) -> None:
    odd = ["\ud800", "a\nb\r\n\u2028\x85\x00", '"}', "\x1b[2J", "\U0001f600", ""]
    path = write(tmp_path, *(TraceEvent(kind="cell", t_s=0, texts={"output": text}) for text in odd), keep_text=True)
    assert [line["output"] for line in map(json.loads, path.read_bytes().split(b"\n")[:-1])] == odd


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = write(tmp_path / "new" / "traces", TraceEvent(kind="run_start", t_s=0))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_first_line_names_the_format(tmp_path: Path) -> None:
    path = write(tmp_path, TraceEvent(kind="run_start", t_s=0), TraceEvent(kind="run_end", t_s=1))
    assert [line.get("format") for line in lines(path)] == [FORMAT, None]


def test_each_line_is_on_disk_before_the_next_thing_happens(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path, keep_text=False)
    trace(TraceEvent(kind="run_start", t_s=0))
    assert len(lines(trace.path)) == 1
    trace.close()


def test_two_runs_of_one_second_have_two_files(tmp_path: Path) -> None:
    assert len({write(tmp_path) for _ in range(20)}) == 20


def test_a_directory_that_can_not_be_written_is_a_config_error_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = ScriptedProvider(["FINAL(x)"])
    with pytest.raises(ConfigError, match=r"the trace .*can't be written"):
        RLM(root, trace_dir=tmp_path / "file" / "traces").query("What?", "context")
    assert root.requests == []
