"""Traces that a stranger wrote, to be exported: small files that must not become large, and ones that lack fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import main
from orchestrator.errors import ConfigError
from orchestrator.export import EXPORT_FORMATS, ExportFormat, export_lines
from orchestrator.traced import read_trace

START = {
    "t_s": 0.0,
    "question": "What?",
    "started_at": "2026-01-01T00:00:00+00:00",
    "root": "openai:m",
    "sub": None,
    "isolation": "container",
    "limits": {"max_turns": 3, "max_depth": 1},
}
Line = dict[str, Any]


def start(run: int = 0) -> Line:
    return START | {"kind": "child_start" if run else "run_start", "run": run}


def turn(run: int = 0) -> Line:
    return {"kind": "turn", "t_s": 0.0, "run": run, "kept": 10**9, "response": "reply", "wall_s": 0.0}


def cell(run: int = 0) -> Line:
    return {"kind": "cell_start", "t_s": 0.0, "run": run, "code": "1"}


def call(run: int, child: Any) -> Line:
    said = {"usage": None, "model": "m", "wall_s": 0.0, "error_kind": None}
    return {"kind": "sub_call", "t_s": 0.0, "run": run, "child_run": child} | said


def written(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def exported(path: Path, form: ExportFormat) -> int:
    return sum(len(line) for line in export_lines(read_trace(path), form))


@pytest.mark.parametrize("form", EXPORT_FORMATS)
def test_a_child_that_names_itself_or_is_named_twice_is_exported_once(tmp_path: Path, form: ExportFormat) -> None:
    in_itself = [start(), turn(), cell(), call(0, 1), start(1), turn(1), cell(1), call(1, 1)]
    assert exported(written(tmp_path / "loop.jsonl", in_itself), form) < 10_000
    doubling = [start(), turn(), cell(), call(0, 1)]
    for run in range(1, 30):
        doubling += [start(run), turn(run), cell(run), call(run, run + 1), call(run, run + 1)]
    assert exported(written(tmp_path / "bomb.jsonl", doubling), form) < 100_000


def test_children_as_deep_as_no_run_has_them_are_said(tmp_path: Path) -> None:
    chain = [start(), turn(), cell(), call(0, 1)]
    for run in range(1, 2_000):
        chain += [start(run), turn(run), cell(run), call(run, run + 1)]
    with pytest.raises(ConfigError, match="is not as ours are"):
        exported(written(tmp_path / "chain.jsonl", chain), "rlm")


def test_prompts_that_grow_with_every_turn_end(tmp_path: Path) -> None:
    path = written(tmp_path / "turns.jsonl", [start(), *[turn()] * 8_000])
    with pytest.raises(ConfigError, match="the prompts of all turns together are too long"):
        read_trace(path)


def test_the_whole_trace_is_about_as_long_as_its_file(tmp_path: Path) -> None:
    sent = {"sent_0_user": "x" * 100_000, "sent_0_user_digest": "0"}
    path = written(tmp_path / "t.jsonl", [start(), turn() | sent, *[turn()] * 100])
    assert exported(path, "json") < 3 * path.stat().st_size


DEEP: Any = json.loads("[" * 700 + "]" * 700)


@pytest.mark.parametrize(
    "lines",
    [
        [start(), {"kind": "turn", "kept": 0}],
        [start() | {"limits": 3}, turn()],
        [start() | {"started_at": "never"}, turn()],
        [start(), turn() | {"t_s": 1e300}],
        [start(), turn() | {"wall_s": "long"}, cell()],
        [start(), turn(), cell(), call(0, [1])],
        [start(), turn(), cell(), {"kind": "cell", "t_s": 0}],
    ],
)
def test_a_trace_without_what_ours_have_is_said_in_a_line_and_leaves_no_file(
    tmp_path: Path, lines: list[Line], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = written(tmp_path / "t.jsonl", lines), tmp_path / "out.jsonl"
    assert main(["export", str(path), "-o", str(out)]) == 2
    assert "is not as ours are" in capsys.readouterr().err
    assert not out.exists()


def test_deep_values_are_said_or_written(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", [start(), turn() | {"wall_s": DEEP}, cell() | {"code": DEEP}])
    for form in EXPORT_FORMATS:
        with pytest.raises(ConfigError, match="is not as ours are"):
            exported(path, form)
