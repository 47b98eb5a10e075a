"""A journal that somebody else made and gave away: what it can and can't make `resume` and `replay` do."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, ConfigError, ContextError, ScriptedProvider
from orchestrator.cli.journaled import begin_journal, options_of
from orchestrator.cli.options import ask_parser
from orchestrator.cli.resume import resume_parser
from orchestrator.comparing import _rlm_of
from orchestrator.journal import Journal
from orchestrator.record_reader import read_record
from orchestrator.seal import is_sealed, seal_of
from orchestrator.trace import TraceEvent
from tests.conftest import REPOSITORY

SETTINGS = RLM(ScriptedProvider([], name="openai:m")).settings


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))


def begin(directory: Path) -> Path:
    Journal.create(directory, question="What?", context="the text", settings=SETTINGS).close()
    return directory


def rewrite(directory: Path, **changed: Any) -> None:
    path = directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def airlock(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_journal_is_its_writers_own_until_a_word_of_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = begin(tmp_path / "j")
    for _ in range(2):
        opened = Journal.open(directory)
        assert opened.own
        opened.close()
    rewrite(directory, question="Which?")
    opened = Journal.open(directory, to_compare=True)
    assert not opened.own
    rewrite(directory, question="What?")
    assert Journal.open(directory, to_compare=True).own
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "another"))
    assert not Journal.open(directory, to_compare=True).own
    (tmp_path / "another" / "seal.key").write_bytes(b"")
    assert seal_of({}) is None
    assert not is_sealed({}, None)


@pytest.mark.parametrize("made", ["another user's", "readable to others", "a link", "a pipe", "too long"])
def test_a_key_that_another_user_may_know_seals_nothing(tmp_path: Path, made: str) -> None:
    key, record = tmp_path / "state" / "seal.key", {"question": "What?"}
    seal = seal_of(record)
    assert is_sealed(record, seal)
    if made == "another user's":
        if os.geteuid() != 0:
            pytest.skip("it takes root to give a file away")
        os.chown(key, 12345, -1)
    elif made == "readable to others":
        key.chmod(0o640)
    elif made == "a link":
        key.symlink_to(key.rename(tmp_path / "key"))
    elif made == "a pipe":
        key.unlink()
        os.mkfifo(key, 0o600)
    else:
        key.write_bytes(key.read_bytes() + b"x")
    assert seal_of(record) is None
    assert not is_sealed(record, seal)


def test_a_sent_journal_runs_no_code_and_names_no_server_for_the_users_keys(tmp_path: Path) -> None:
    directory = begin(tmp_path / "j")
    code = tmp_path / "j" / "evil.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef reply(request): return 'FINAL(x)'\n")
    server = "http://evil.example/v1\x1b[2J"
    rewrite(directory, command={"model": f"scripted:{code}", "base_url": server, "quiet": False})
    refused = airlock("resume", str(directory))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is not as you wrote it on this machine" in refused.stderr
    assert f"model='scripted:{code}', base_url='http://evil.example/v1" in refused.stderr
    assert "\x1b" not in refused.stderr
    assert not (tmp_path / "ran").exists()
    assert "the journal was begun with" in airlock("resume", str(directory), "--trust").stderr
    assert (tmp_path / "ran").exists(), "who trusts it has the models that it names"


def test_the_isolation_of_a_sent_journals_boxes_is_the_readers_to_say(tmp_path: Path) -> None:
    directory = begin(tmp_path / "j")
    rewrite(directory, command={"isolation": "container"})
    journal = Journal.open(directory, to_compare=True)
    assert _rlm_of(journal).settings.spec.isolation == "container"
    assert _rlm_of(journal, "gvisor").settings.spec.isolation == "gvisor"
    for words, isolation in (([], "container"), (["--isolation", "gvisor"], "gvisor")):
        given = resume_parser(argparse.ArgumentParser).parse_args([str(directory), *words])
        assert options_of(journal, given).isolation == isolation


def test_a_sent_journal_gets_no_larger_boxes_than_the_default_ones(tmp_path: Path) -> None:
    directory = begin(tmp_path / "j")
    about = json.loads((directory / "run.json").read_text())
    about["settings"]["limits"]["memory_bytes"] = 1 << 40
    rewrite(directory, settings=about["settings"])
    refused = airlock("replay", str(directory))
    assert (refused.returncode, "--trust" in refused.stderr) == (2, True)


@pytest.mark.parametrize("command", ["resume", "replay"])
@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "context.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_neither_waited_for_nor_read_for_ever(
    command: str, name: str, kind: str, tmp_path: Path
) -> None:
    directory = begin(tmp_path / "j")
    (directory / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(directory / name)
    elif kind == "device":
        (directory / name).symlink_to("/dev/zero")
    else:
        (directory / name).mkdir()
    failed = airlock(command, str(directory), *(["--trust"] if command == "resume" else []))
    assert failed.returncode == 2, failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_document_that_became_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    document = tmp_path / "d.txt"
    document.write_text("one")
    journal = Journal.create(tmp_path / "j", question="q", context="one", settings=SETTINGS, files=[str(document)])
    document.unlink()
    os.mkfifo(document)
    with pytest.raises(ContextError, match="is no regular file"):
        journal.context()
    journal.about["context"] = {"files": [{"path": 7}]}
    with pytest.raises(ConfigError, match="context is wrong"):
        journal.context()
    journal.close()


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "7"])
def test_a_copy_that_is_no_context_is_an_error_of_one_line(text: str, tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "j", question="q", context="c", settings=SETTINGS)
    (tmp_path / "j" / "context.json").write_text(text)
    journal.about["context"] = {"copy_sha256": hashlib.sha256(text.encode()).hexdigest()}
    with pytest.raises(ContextError):
        journal.context()
    journal.close()


NO_TOKENS = {"input_tokens": 0, "output_tokens": 0, "cached_input_tokens": 0, "cache_write_tokens": 0}
SENT = {"permit": 1, "run": 0, "sub_call": True, "tokens": 10, "usd": "0.5", "sent_bytes": 3}


@pytest.mark.parametrize(
    ("sent", "settled"),
    [
        ({"tokens": -1_000_000}, None),
        ({"tokens": 10.5}, None),
        ({"tokens": True}, None),
        ({"usd": "-5"}, None),
        ({"usd": "NaN"}, None),
        ({"usd": "Infinity"}, None),
        ({"usd": "1e999999"}, None),
        ({"sent_bytes": -1}, None),
        ({}, {"usage": NO_TOKENS | {"input_tokens": -9, "estimated": False}, "usd": "0"}),
        ({}, {"usage": NO_TOKENS | {"estimated": False}, "usd": "-9"}),
    ],
)
def test_nobody_is_given_budget_by_a_bill_below_nothing(
    sent: dict[str, Any], settled: dict[str, Any] | None, tmp_path: Path
) -> None:
    journal = Journal.create(tmp_path / "j", question="q", context="c", settings=SETTINGS)
    journal.trace(TraceEvent(kind="run_start", t_s=0.0, facts={"root": "openai:m"}))
    journal.note("permit", **(SENT | sent))
    if settled is not None:
        journal.note("settled", permit=1, **settled)
    journal.close()
    with pytest.raises(ConfigError, match="is not complete"):
        read_record(tmp_path / "j" / "journal.jsonl")


@pytest.mark.parametrize("end", [{}, {"usage": {}}, {"stop_reason": "bliss"}, {"usage": {"cost_usd": "x"}}])
def test_an_end_that_lacks_something_is_an_error_of_one_line(end: dict[str, Any], tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "j", question="q", context="c", settings=SETTINGS)
    facts = {"stop_reason": "answered", "answer_kind": "final", "valid": None, "stop_detail": None}
    journal.trace(TraceEvent(kind="run_start", t_s=0.0, facts={"root": "openai:m"}))
    journal.trace(TraceEvent(kind="run_end", t_s=0.0, facts=facts | end, texts={"answer": "x"}))
    journal.close()
    opened = Journal.open(tmp_path / "j")
    with pytest.raises(ConfigError, match="the run's end is not complete"):
        opened.result()
    opened.close()


def test_no_journal_is_begun_where_another_user_could_change_it(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    (tmp_path / "j").chmod(0o777)
    with pytest.raises(ConfigError, match="another user may change"):
        begin(tmp_path / "j")


def test_a_file_of_that_name_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "journal.jsonl").write_text("a line of another program's")
    with pytest.raises(ConfigError, match="has a journal already"):
        begin(tmp_path / "j")
    assert (tmp_path / "j" / "journal.jsonl").read_text() == "a line of another program's"


def test_options_without_a_text_are_kept_and_a_password_is_not(tmp_path: Path) -> None:
    words = ["--journal", str(tmp_path / "j"), "--redact-prompts", "--canary", "--allow-model", "openai:m"]
    options = ask_parser(argparse.ArgumentParser).parse_args(words)
    begin_journal(options, "q", "c", SETTINGS, []).close()
    assert json.loads((tmp_path / "j" / "run.json").read_text())["command"]["redact_prompts"] is True
    options.fallback = ["openai:m@https://user:secret@host/v1"]
    with pytest.raises(ConfigError, match="--fallback holds a password"):
        begin_journal(options, "q", "c", SETTINGS, [])


def test_refusals_do_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell can be refused ten thousand times."""
    waited: list[int] = []
    monkeypatch.setattr(os, "fdatasync", waited.append)
    journal = Journal.create(tmp_path / "j", question="q", context="c", settings=SETTINGS)
    call = {"run": 0, "turn": 1, "cell": 1, "digest": "d", "occurrence": 0, "usage": None, "model": "m", "child": None}
    journal.note("call", **call, reply=None, failure=["LimitExceeded", "0 of 0 sub-calls used"], permits=[])
    assert waited == []
    journal.note("call", **call, reply="x", failure=None, permits=[])
    journal.note("call", **call, reply=None, failure=["ProviderError", "down"], permits=[1])
    assert len(waited) == 2
    journal.close()
