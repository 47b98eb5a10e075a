"""The command as a user types it, with scripted models and real boxes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.audit_log import verify_trace
from orchestrator.cli.exits import ExitCode
from sandbox.owner import owner_label
from tests.conftest import REPOSITORY
from tests.runs import boxes_left, boxes_of

SECRET = "the word of the document is quartz"
READS = "```repl\nword = context.split()[-1]\nprint(word)\nreply = llm_query('Which word?', data=context)\n```"
TWICE = [READS, f"{SECRET}, says the sub-model", "FINAL_VAR(word)"]


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a document, and a state directory of its own."""
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doc.txt").write_text(SECRET)
    return tmp_path


def command(replies: Sequence[str], *arguments: str) -> list[str]:
    """A command line whose model plays these replies."""
    Path("model.py").write_text(f"REPLIES = {list(replies)!r}")
    return [sys.executable, "-m", "orchestrator.cli.main", *arguments, "--model", "scripted:model.py"]


def ask(
    replies: Sequence[str], *arguments: str, files: Sequence[str] = ("doc.txt",), stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    line = command(replies, "ask", *files, "-q", "Which word?", *arguments)
    done = subprocess.run(line, input=stdin, capture_output=True, check=False)
    print(done.stderr.decode())  # what pytest shows where a test fails
    return done


def only_trace(desk: Path) -> list[dict[str, Any]]:
    """The events of the one run there was."""
    (file,) = (desk / "state" / "traces").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_answer_alone_goes_to_stdout_and_the_run_to_stderr(desk: Path) -> None:
    done = ask(TWICE)
    assert (done.returncode, done.stdout) == (ExitCode.ANSWERED, b"quartz\n")
    *_, summary, head = done.stderr.decode().splitlines()
    trace = next((desk / "state" / "traces").iterdir())
    assert summary.startswith("airlock: answered: 2 turns, 1 sub-call, ")
    assert summary.endswith(str(trace))
    assert head == f"airlock: trace head {verify_trace(trace).head}"
    assert SECRET not in done.stderr.decode()
    assert list((desk / "state" / "store").iterdir()) == []


def test_the_question_may_come_last_between_options() -> None:
    line = command(TWICE, "ask", "doc.txt", "--quiet", "Which word?")
    done = subprocess.run(line, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.ANSWERED, b"quartz\n", b"")


def test_a_trace_holds_no_text_of_the_document(desk: Path) -> None:
    assert ask(TWICE).returncode == ExitCode.ANSWERED
    events = only_trace(desk)
    assert [event["kind"] for event in events if event["kind"] not in ("setup", "box")] == [
        "run_start",
        "turn",
        "cell_start",
        "sub_call",
        "cell",
        "budget",
        "turn",
        "budget",
        "run_end",
    ]
    assert "quartz" not in json.dumps(events)


def test_a_kept_trace_holds_all_text(desk: Path) -> None:
    assert ask(TWICE, "--keep").returncode == ExitCode.ANSWERED
    sub_call = next(event for event in only_trace(desk) if event["kind"] == "sub_call")
    assert (sub_call["data"], sub_call["reply"]) == (SECRET, f"{SECRET}, says the sub-model")


def test_json_says_all_that_the_lines_say(desk: Path) -> None:
    done = ask(TWICE, "--json")
    record = json.loads(done.stdout)
    assert (record["answer"], record["stop_reason"], record["error"]) == ("quartz", "answered", None)
    assert (record["usage"]["turns"], record["usage"]["sub_calls"]) == (2, 1)
    assert record["isolation"] in ("container", "gvisor")
    assert Path(record["trace"]) == next((desk / "state" / "traces").iterdir())


def test_several_documents_are_a_dict_and_stdin_is_one_of_them(desk: Path) -> None:
    (desk / "other.txt").write_text("b")
    cell = "```repl\nFINAL({name: len(text) for name, text in context.items()})\n```"
    done = ask([cell], files=("doc.txt", "-", "other.txt"), stdin=b"piped")
    assert json.loads(done.stdout) == {"doc.txt": len(SECRET), "other.txt": 1, "stdin": 5}


def test_stdin_alone_is_a_str() -> None:
    done = ask(["```repl\nFINAL(context)\n```"], files=("-",), stdin="\ufeffgrün".encode())
    assert done.stdout.decode() == "grün\n"


def test_a_partial_answer_is_printed_at_a_limit() -> None:
    done = ask([f"{READS}\nFINAL(perhaps quartz)"], "--max-iterations", "1", "--max-calls", "0")
    assert (done.returncode, done.stdout) == (ExitCode.LIMIT, b"perhaps quartz\n")
    assert done.stderr.endswith(b"the root used all of its replies (--max-iterations); the answer is partial\n")


def test_the_best_effort_behind_the_last_turn_is_printed_and_named() -> None:
    done = ask(["```repl\nword = 'quartz'\n```", "FINAL_VAR(word)"], "--max-iterations", "1")
    assert (done.returncode, done.stdout) == (ExitCode.LIMIT, b"quartz\n")
    assert done.stderr.endswith(b"(--max-iterations); the answer is what the root said when asked once more\n")


SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


def test_a_schema_makes_the_answer_json_that_fits_it(desk: Path) -> None:
    (desk / "schema.json").write_text(json.dumps(SCHEMA))
    replies = ["```repl\nSUBMIT(words=1)\n```", "```repl\nSUBMIT(word='gr\u00fcn')\n```"]
    done = ask(replies, "--schema", "schema.json")
    assert (done.returncode, done.stdout.decode()) == (ExitCode.ANSWERED, '{"word": "gr\u00fcn"}\n')
    assert b"the answer does not fit the schema: $: required" in done.stderr
    done = ask(replies, "--schema", "schema.json", "--json")
    printed = json.loads(done.stdout)
    assert (printed["value"], printed["valid"], printed["answer_kind"]) == ({"word": "gr\u00fcn"}, True, "final")


def test_what_does_not_fit_the_schema_is_not_printed_as_if_it_did(desk: Path) -> None:
    (desk / "schema.json").write_text(json.dumps(SCHEMA))
    replies = ["```repl\nSUBMIT(words=1)\n```", "FINAL(words)"]
    done = ask(replies, "--schema", "schema.json", "--max-iterations", "1")
    assert (done.returncode, done.stdout) == (ExitCode.LIMIT, b"")
    assert done.stderr.endswith(b"what there is of an answer does not fit the schema; --json shows it\n")
    done = ask(replies, "--schema", "schema.json", "--max-iterations", "1", "--json")
    printed = json.loads(done.stdout)
    assert (printed["answer"], printed["valid"], printed["value"]) == ("words", False, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "'schema.json' can't be read"),
        ("{", "'schema.json' holds no JSON"),
        ("[]", "it must be an object"),
        ('{"type": "strin"}', "--schema schema.json['type']"),
    ],
)
def test_a_schema_that_is_none_is_said_before_anything_is_spent(desk: Path, text: str | None, words: str) -> None:
    if text is not None:
        (desk / "schema.json").write_text(text)
    done = ask(["FINAL(x)"], "--schema", "schema.json")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
    assert words in done.stderr.decode()
    assert not (desk / "state").exists()


def test_a_run_without_progress_ends_as_one() -> None:
    done = ask(["Hm.", "Well.", "So."], "--json")
    assert done.returncode == ExitCode.LIMIT
    assert json.loads(done.stdout)["stop_reason"] == "no_progress"
    assert b"the last: neither code nor an answer; there is no answer" in done.stderr


def test_a_token_limit_too_small_for_any_call_ends_the_run() -> None:
    done = ask(["FINAL(x)"], "--max-tokens", "100", "--json")
    record = json.loads(done.stdout)
    assert (done.returncode, record["answer"]) == (ExitCode.LIMIT, None)
    assert re.fullmatch(r"the call may need [\d,]+ tokens .*, 100 of 100 are left", record["stop_detail"])
    said = f"the token limit does not allow the next call (--max-tokens): {record['stop_detail']}"
    assert record["error"] == said
    assert done.stderr.decode().endswith(f"airlock: {said}; there is no answer\n")


def test_the_anchor_is_the_head_and_an_earlier_one_is_overwritten(desk: Path) -> None:
    (desk / "anchor").write_text("0" * 64 + "\n")
    assert ask(TWICE, "--audit-anchor", "anchor").returncode == ExitCode.ANSWERED
    trace = next((desk / "state" / "traces").iterdir())
    assert (desk / "anchor").read_text() == f"{verify_trace(trace).head}\n"


def test_a_run_says_what_it_cost() -> None:
    done = ask(TWICE, "--json", "--price", "10/50", "--max-cost", "5")
    cost_usd = Decimal(str(json.loads(done.stdout)["usage"]["cost_usd"]))
    assert 0 < cost_usd < Decimal("0.1")
    assert f" of them estimated), about ${cost_usd:.4f}, ".encode() in done.stderr
    unpriced = ask(TWICE, "--json")
    assert json.loads(unpriced.stdout)["usage"]["cost_usd"] is None
    assert b", cost not known, " in unpriced.stderr


def test_a_limit_in_money_too_small_for_any_call_ends_the_run() -> None:
    done = ask(["FINAL(x)"], "--price", "10/50", "--max-cost", "0.01")
    assert (done.returncode, done.stdout) == (ExitCode.LIMIT, b"")
    assert b"the limit in money does not allow the next call (--max-cost)" in done.stderr
    assert b"there is no answer" in done.stderr


def test_a_cell_ends_with_the_run() -> None:
    done = ask(["```repl\nimport time\ntime.sleep(60)\n```"], "--max-seconds", "3")
    assert done.returncode == ExitCode.LIMIT
    assert b"the time is over (--max-seconds)" in done.stderr


def test_a_failing_provider_has_its_own_code() -> None:
    done = ask([READS], "--json", "--max-calls", "0")
    record = json.loads(done.stdout)
    assert (done.returncode, record["stop_reason"]) == (ExitCode.PROVIDER, "provider_error")
    assert record["error"] == "scripted:model.py: the script is over: all of its 1 replies are used"
    assert f"airlock: {record['error']}\n".encode() in done.stderr


def test_without_sub_calls_the_box_has_no_function_for_them() -> None:
    cell = "```repl\nFINAL('llm_query' in globals())\n```"
    for option in (("--prompt-mode", "no_subcalls"), ("--max-depth", "0")):
        assert ask([cell], *option).stdout == b"False\n"


def test_a_sub_model_of_its_own_answers_the_sub_questions(desk: Path) -> None:
    (desk / "sub.py").write_text("def reply(request):\n    return 'the sub-model'")
    done = ask(["```repl\nFINAL(llm_query('who?'))\n```"], "--sub-model", "scripted:sub.py")
    assert done.stdout == b"the sub-model\n"


def test_models_by_name_stand_ins_and_replies_that_are_kept(desk: Path) -> None:
    Path("fast.py").write_text("def reply(request):\n    raise RuntimeError('out')")
    Path("spare.py").write_text("REPLIES = ['the stand-in']")
    cell = "```repl\nFINAL(llm_query('who?', model='fast'))\n```"
    options = ("--sub-models", "fast=scripted:fast.py", "--fallback", "scripted:spare.py", "--cache", "kept")
    done = ask([cell], *options)
    assert (done.returncode, done.stdout) == (ExitCode.ANSWERED, b"the stand-in\n")
    assert b"scripted:fast.py is out: scripted:spare.py is asked instead" in done.stderr
    Path("spare.py").write_text("REPLIES = []")
    again = ask([cell], *options)
    assert again.stdout == b"the stand-in\n", "from the cache, under the name of whoever gave it"
    assert desk.joinpath("kept").stat().st_mode & 0o777 == 0o700


HOSTILE_ANSWER = "\x1b]0;title\x07\x1b[2Jgo\u202eod"
SAYS_IT = [f"```repl\nanswer = {HOSTILE_ANSWER!r}\nprint(answer)\nraise ValueError(answer)\n```", "FINAL_VAR(answer)"]


def test_a_hostile_answer_in_a_pipe_is_exact_and_stderr_is_clean() -> None:
    done = ask(SAYS_IT)
    assert done.stdout == f"{HOSTILE_ANSWER}\n".encode()
    assert b"\x1b" not in done.stderr


def test_a_terminal_sees_no_byte_that_it_would_obey() -> None:
    ours, theirs = os.openpty()
    line = command(SAYS_IT, "ask", "doc.txt", "-q", "Which word?")
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert process.wait() == ExitCode.ANSWERED
    assert b"\\x1b]0;title\\x07\\x1b[2Jgo\\u202eod\r\n" in shown
    assert b"\x1b]" not in shown
    assert b"\x1b[2J" not in shown
    assert b"\x07" not in shown
    assert "\u202e".encode() not in shown
    assert b"turn 1/30" in shown  # the live line


def test_an_answer_nobody_reads_ends_quietly() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    line = command(["```repl\nFINAL('x' * 1_000_000)\n```"], "ask", "doc.txt", "-q", "Which word?", "--quiet")
    done = subprocess.run(line, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (ExitCode.READER_GONE, b"")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, ExitCode.INTERRUPTED, "Ctrl-C"), (signal.SIGTERM, ExitCode.TERMINATED, "SIGTERM")],
)
def test_a_signal_in_the_middle_of_a_cell_removes_the_box(
    number: signal.Signals, code: ExitCode, said: str, desk: Path
) -> None:
    line = command(["```repl\nimport time\ntime.sleep(600)\n```"], "ask", "doc.txt", "-q", "Which word?")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    owner = owner_label(process.pid)
    _wait_for_the_cell(desk)
    assert len(boxes_of(owner)) == 1
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, b"")
    assert err.decode().endswith(f"airlock: stopped by {said}\n")
    assert b"airlock: cancelled: 1 turn" in err
    assert boxes_left(owner) == []
    assert list((desk / "state" / "store").iterdir()) == []
    assert only_trace(desk)[-1]["stop_reason"] == "cancelled"


@pytest.mark.parametrize(
    ("fate", "code"),
    [("raise OSError", ExitCode.PROVIDER), ("os.kill(os.getpid(), signal.SIGINT)", ExitCode.INTERRUPTED)],
)
def test_a_run_with_a_journal_that_was_broken_off_says_how_to_go_on(fate: str, code: ExitCode, desk: Path) -> None:
    line = command([], "ask", "doc.txt", "-q", "Which word?", "--journal", "run 1")
    (desk / "model.py").write_text(f"import os, signal\ndef reply(request):\n    {fate}\n    return 'Well.'\n")
    done = subprocess.run(line, capture_output=True, check=False)
    assert done.returncode == code
    assert b"\nairlock: to go on from here: airlock resume 'run 1'\n" in done.stderr


def test_a_second_ctrl_c_ends_a_run_whose_model_blocks(desk: Path) -> None:
    line = command([], "ask", "doc.txt", "-q", "Which word?")
    (desk / "model.py").write_text(
        "import pathlib, time\ndef reply(request):\n    pathlib.Path('asked').touch()\n    time.sleep(600)\n"
    )
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    owner = owner_label(process.pid)
    for _ in range(600):
        if (desk / "asked").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    said = b""
    while b"stopping; press Ctrl-C again to stop at once\n" not in said:
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    (trace,) = (desk / "state" / "traces").iterdir()
    assert process.returncode == ExitCode.INTERRUPTED
    assert f"airlock: cancelled: 0 turns, 0 sub-calls, 0 tokens so far; trace {trace}\n" in rest.decode()
    assert rest.endswith(b"airlock: stopped by Ctrl-C\n")
    assert boxes_left(owner) == []


def _wait_for_the_cell(desk: Path) -> None:
    """The trace is on disk before the next thing happens."""
    for _ in range(600):
        if any('"cell_start"' in file.read_text() for file in (desk / "state").glob("traces/*")):
            return
        time.sleep(0.05)
    pytest.fail("the cell never started")
