"""Which traces are old, and that nothing else is ever removed."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import pytest

from orchestrator.cli.clean import _traces
from orchestrator.cli.options import keep_days_from
from orchestrator.errors import ConfigError
from orchestrator.kept import kept_traces, remove_old_traces
from orchestrator.trace import TraceFile

NAMES = ("20260101T000000Z-01234567.jsonl", "20260102T000000Z-01234567.jsonl")


def aged(path: Path, days: float) -> Path:
    path.write_text("{}\n")
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then), follow_symlinks=False)
    return path


def test_traces_older_than_the_limit_go(tmp_path: Path) -> None:
    old, young = aged(tmp_path / NAMES[0], 31), aged(tmp_path / NAMES[1], 29)
    remove_old_traces(tmp_path, 0)
    assert old.exists()
    remove_old_traces(tmp_path, 30)
    assert not old.exists()
    assert young.exists()


def test_a_trace_as_it_is_written_is_one_of_them(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path / "traces", keep_text=False)
    trace.close()
    assert [kept.path for kept in kept_traces(tmp_path / "traces")] == [trace.path]
    assert trace.path.stat().st_mode & 0o777 == 0o600
    assert trace.path.parent.stat().st_mode & 0o777 == 0o700


def test_the_trace_of_a_run_that_lasts_is_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path))
    trace = TraceFile(tmp_path / "traces", keep_text=False)
    (found,) = _traces(live_too=False)
    assert (found.remove, found.why) == (None, "its run still lasts")
    assert _traces(live_too=True)[0].remove is not None
    trace.close()
    assert _traces(live_too=False)[0].remove is not None


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    directory = tmp_path / "traces"
    directory.mkdir()
    users = aged(tmp_path / NAMES[0], 1000)
    (directory / NAMES[0]).symlink_to(users)
    (directory / NAMES[1]).mkdir()
    aged(directory / "notes.jsonl", 1000)
    aged(directory / f"{NAMES[0]}.bak", 1000)
    before = sorted(directory.iterdir())
    remove_old_traces(directory, 1)
    assert sorted(directory.iterdir()) == before
    assert users.exists()
    (tmp_path / "link").symlink_to(tmp_path)
    remove_old_traces(tmp_path / "link", 1)
    assert users.exists(), "the directory itself was a link"
    remove_old_traces(tmp_path / "missing", 1)


def days(option: str | None) -> int:
    return keep_days_from(argparse.Namespace(keep_days=option))


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRLOCK_KEEP_DAYS", raising=False)
    assert days(None) == 30
    monkeypatch.setenv("AIRLOCK_KEEP_DAYS", "7")
    assert (days(None), days("0"), days("365")) == (7, 0, 365)


@pytest.mark.parametrize("wrong", ["", "-1", "1.5", "never", "36501", "٣", "9" * 5000, " 1"])
def test_what_is_no_number_of_days_is_named(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--keep-days: "):
        days(wrong)
    monkeypatch.setenv("AIRLOCK_KEEP_DAYS", wrong or "x")
    with pytest.raises(ConfigError, match="AIRLOCK_KEEP_DAYS: "):
        days(None)
