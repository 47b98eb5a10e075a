"""The command as a user mistypes it: one clear line, the right exit code, nothing started. No engine is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import (
    UNLIMITED,
    BoxError,
    ConfigError,
    ContextError,
    LimitExceeded,
    Limits,
    ProtocolViolation,
    ProviderError,
    StopReason,
)
from orchestrator.cli.anchor import AnchorFile
from orchestrator.cli.ask import print_answer, question_and_files
from orchestrator.cli.exits import OF_STOP_REASON, ExitCode, exit_code_of_error
from orchestrator.cli.main import main
from orchestrator.cli.messages import UsageError
from orchestrator.cli.options import LIMIT_OPTIONS, ask_parser, limits_from
from tests.conftest import REPOSITORY

SCRIPT = "REPLIES = ['FINAL(never asked)']"
VARIABLES = ("AIRLOCK_MODEL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a document and a script, no key, and no engine to start anything with."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.txt").write_text("a report")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 binary")
    (tmp_path / "model.py").write_text(SCRIPT)
    (tmp_path / "broken.py").write_text("REPLIES = [\n")
    return tmp_path


def run(*arguments: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", *arguments],
        input=stdin,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | variables,
        capture_output=True,
        check=False,
    )


ASK = ("ask", "report.txt", "Who?")
SCRIPTED = ("--model", "scripted:model.py")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("frobnicate",), "'frobnicate' is no command; there are: ask, demo"),
        (("ask",), "there is no document and no question"),
        (("ask", "report.txt"), "there is no question: the last argument, 'report.txt', is a file. Add -q"),
        (("ask", "report.txt", "."), "there is no question: the last argument, '.', is a directory"),
        (("ask", "report.txt", "-"), "there is no question: the last argument, '-', is stdin"),
        (("ask", "Who?"), "'Who?' is no file, and a question needs one"),
        (("ask", "-q", "Who?"), "no document is named. Type: airlock ask FILE... -q"),
        (("ask", "-q", "Who?", *SCRIPTED), "no document is named"),
        (("ask", "empty.txt", "Who?", *SCRIPTED), "empty.txt: the document is empty"),
        ((*ASK, *SCRIPTED, "--max-tokens", "2,00"), "--max-tokens: '2,00' is neither a number nor 'unlimited'"),
        (
            (*ASK, *SCRIPTED, "--allow-model", "openai:a"),
            "--allow-model: the model scripted:model.py is not among them",
        ),
        ((*ASK, *SCRIPTED, "--audit-anchor", "report.txt"), "--audit-anchor: 'report.txt' is one of the documents"),
        ((*ASK, *SCRIPTED, "--audit-anchor", "model.py"), "'model.py' exists and holds no earlier anchor (64 hex dig"),
        ((*ASK, *SCRIPTED, "--audit-anchor", "."), "--audit-anchor: '.' is no regular file"),
        ((*ASK, *SCRIPTED, "--audit-anchor", "no/a"), "--audit-anchor: 'no/a' can't be written: No such file or dir"),
        (("ask", "report.txt", "  "), "the question is empty"),
        (("ask", "report.txt", "-q", ""), "the question is empty"),
        (("ask", "-", "-", "Who?"), "stdin (-) is given twice"),
        (ASK, "no model is named. Give --model openai:NAME"),
        ((*ASK, "--model", "gpt"), "'gpt' names no model: write openai:NAME"),
        ((*ASK, "--model", "acme:gpt"), "the vendor 'acme' is unknown; known are openai, anthropic and scripted"),
        ((*ASK, "--model", "openai:gpt"), "--model openai:gpt: no key. Set the environment variable OPENAI_API_KEY"),
        ((*ASK, "--model", "anthropic:claude"), "--model anthropic:claude: no key. Set the environment variable ANTHR"),
        ((*ASK, *SCRIPTED, "--sub-model", "openai:gpt"), "--sub-model openai:gpt: no key. Set the environment variab"),
        ((*ASK, "--model", "openai:gpt"), "OPENAI_API_KEY (to any text, if the server at --base-url wants none)"),
        ((*ASK, "--model", "openai:gpt", "--base-url", "localhost"), " --base-url: not an address that begins with"),
        ((*ASK, "--model", "openai:m@http://localhost/v1"), "the address of its server is given by --base-url"),
        ((*ASK, *SCRIPTED, "--cache", "report.txt"), "--cache: 'report.txt' can't be used: File exists"),
        ((*ASK, *SCRIPTED, "--sub-model", "openai:g", "--sub-base-url", "x"), " --sub-base-url: not an address that"),
        ((*ASK, "--model", "scripted:missing.py"), "scripted:missing.py: the file can't be executed: No such file or"),
        ((*ASK, "--model", "scripted:broken.py"), "scripted:broken.py: the file can't be executed: SyntaxError"),
        ((*ASK, *SCRIPTED, "--max-calls", "-1"), "--max-calls: -1 is not an integer from 0 to 1,000,000,000"),
        ((*ASK, *SCRIPTED, "--max-calls", "many"), "--max-calls: 'many' is neither a number nor 'unlimited'"),
        ((*ASK, *SCRIPTED, "--max-tokens", "inf"), "--max-tokens: 'inf' is neither a number nor 'unlimited'"),
        ((*ASK, *SCRIPTED, "--max-tokens", "1.5"), "--max-tokens: 1.5 is not an integer from 1"),
        ((*ASK, *SCRIPTED, "--max-cost", "-1"), "--max-cost: -1 is not a number from 0 to 1,000,000, or 'unlimited'"),
        ((*ASK, *SCRIPTED, "--max-cost", "$1"), "--max-cost: '$1' is neither a number nor 'unlimited'"),
        (
            (*ASK, *SCRIPTED, "--max-cost", "0.10"),
            "--max-cost: what scripted:model.py costs is not known. Give its pri",
        ),
        ((*ASK, *SCRIPTED, "--price", "1"), "--price: '1' is no price: write IN/OUT, or IN/CACHED/OUT"),
        (
            (*ASK, *SCRIPTED, "--sub-price", "1/2"),
            "--sub-price: the sub-questions go to scripted:model.py, whose price",
        ),
        (
            (*ASK, *SCRIPTED, "--sub-model", "scripted:model.py", "--price", "1/2", "--sub-price", "2/2"),
            "--sub-price: both models are named scripted:model.py, so they have one price; give --price alone",
        ),
        ((*ASK, "--model", "scripted:missing.py", "--dry-run"), "scripted:missing.py: there is no such file"),
        (("ask", "missing.txt", "Who?", *SCRIPTED, "--dry-run"), "missing.txt: no such file"),
        ((*ASK, *SCRIPTED, "--max-seconds", "0"), "--max-seconds: 0 is not a number from 0.001"),
        ((*ASK, *SCRIPTED, "--max-depth", "unlimited"), "--max-depth: 'unlimited' is not an integer from 0 to 16"),
        ((*ASK, *SCRIPTED, "--max-egress", "much"), "--max-egress: 'much' is not a number above 0"),
        ((*ASK, *SCRIPTED, "--max-egress", "0"), "--max-egress: '0' is not a number above 0"),
        ((*ASK, *SCRIPTED, "--max-egress=-1"), "--max-egress: '-1' is not a number above 0"),
        ((*ASK, *SCRIPTED, "--allow-model", "gpt"), "--allow-model: 'gpt' names no model: write openai:NAME"),
        ((*ASK, *SCRIPTED, "--isolation", "vm"), "--isolation: invalid choice: 'vm'"),
        ((*ASK, *SCRIPTED, "--image", "python:3.13"), "--image: invalid choice: 'python:3.13'"),
        ((*ASK, *SCRIPTED, "--prompt-mode", "loud"), "--prompt-mode: invalid choice: 'loud'"),
        ((*ASK, *SCRIPTED, "--max-call", "3"), "unrecognized arguments: --max-call"),
        (("ask", "missing.txt", "Who?", *SCRIPTED), "missing.txt: no such file"),
        (("ask", ".", "Who?", *SCRIPTED), ".: is a directory; name its files"),
        (("ask", "photo.jpg", "Who?", *SCRIPTED), "photo.jpg: is not UTF-8 text: byte 0xff at offset 0"),
        (("ask", "report.txt", "./report.txt", "Who?", *SCRIPTED), "./report.txt: is given twice"),
        (("demo", "now"), "unrecognized arguments: now"),
    ],
)
def test_what_is_typed_wrong_is_named(
    arguments: tuple[str, ...], said: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("airlock: ")
    assert err.count("\n") == 1
    assert said in err
    assert "Interface" not in err, "the name of a class"
    assert not (desk / "state" / "traces").exists()


def test_the_demo_names_a_model_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL", "gpt")
    assert main(["demo"]) == ExitCode.USAGE
    assert capsys.readouterr().err == "airlock: MODEL: 'gpt' is neither 'smollm2' nor 'script'\n"


def test_no_engine_is_one_line_and_a_code_of_its_own(desk: Path) -> None:
    done = run(*ASK, AIRLOCK_MODEL="scripted:model.py")
    assert done.returncode == ExitCode.SANDBOX
    assert done.stdout == b""
    *_, last = done.stderr.decode().splitlines()
    assert last.startswith("airlock: no container engine answers at DOCKER_HOST=")
    assert "Start Docker" in last
    assert b"Traceback" not in done.stderr
    (trace,) = (desk / "state" / "traces").iterdir()
    assert trace.stat().st_mode & 0o777 == 0o600


def test_stdin_that_is_no_text_is_named() -> None:
    done = run("ask", "-", "Who?", *SCRIPTED, stdin=b"abc\xff")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == b"airlock: stdin: is not UTF-8 text: byte 0xff at offset 3\n"


def test_an_error_that_repeats_hostile_text_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "\x1b]0;title\x07", "Who?", *SCRIPTED]) == ExitCode.USAGE
    assert capsys.readouterr().err == "airlock: \\x1b]0;title\\x07: no such file\n"


def test_a_traceback_is_shown_on_demand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AIRLOCK_DEBUG", "1")
    assert main(["ask", "missing.txt", "Who?", *SCRIPTED]) == ExitCode.USAGE
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("ask", "--help"), ("demo", "--help")])
def test_help_and_version_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    heavy = {"rich", "docker", "openai", "anthropic", "jupyter_client", "asyncio", "orchestrator.rlm", "sandbox"}
    code = (
        "import sys\nfrom orchestrator.cli.main import main\n"
        f"try:\n    code = main({list(arguments)!r})\nexcept SystemExit as end:\n    code = end.code\n"
        f"print(code, sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
    assert "airlock" in done.stdout


def test_without_arguments_the_help_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert "airlock ask FILE..." in capsys.readouterr().out


def test_the_command_leaves_the_signals_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    main(["--version"])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("words", "question", "expected"),
    [
        (["report.txt", "Who?"], None, ("Who?", ["report.txt"])),
        (["a", "b", "Who?"], None, ("Who?", ["a", "b"])),
        (["report.txt"], "Who?", ("Who?", ["report.txt"])),
        (["report.txt", "photo.jpg"], "Who?", ("Who?", ["report.txt", "photo.jpg"])),
        (["-"], "Who?", ("Who?", ["-"])),
        (["report.txt"], "report.txt", ("report.txt", ["report.txt"])),
        (["report.txt", "Why? " * 200], None, ("Why? " * 200, ["report.txt"])),
        (["report.txt", "nul\0byte?"], None, ("nul\0byte?", ["report.txt"])),
    ],
)
def test_the_question_is_told_from_the_documents(
    words: list[str], question: str | None, expected: tuple[str, list[str]]
) -> None:
    assert question_and_files(words, question) == expected


def test_a_last_word_that_is_a_file_is_never_taken_for_the_question(desk: Path) -> None:
    (desk / "Who?").write_text("a file with the name of a question")
    with pytest.raises(UsageError, match="is a file"):
        question_and_files(["report.txt", "Who?"], None)


def test_every_limit_option_sets_its_field() -> None:
    import argparse

    for option, field in LIMIT_OPTIONS.items():
        parsed = ask_parser(argparse.ArgumentParser).parse_args([option, "7"])
        assert getattr(limits_from(parsed), field) == 7
    every = [word for option in LIMIT_OPTIONS if option != "--max-depth" for word in (option, "unlimited")]
    limits = limits_from(ask_parser(argparse.ArgumentParser).parse_args(every))
    fields = set(LIMIT_OPTIONS.values()) - {"max_depth"}
    assert {getattr(limits, field) for field in fields} == {UNLIMITED}
    for number in ("3_000", "3,000", "3000"):
        parsed = ask_parser(argparse.ArgumentParser).parse_args(["--max-seconds", "2.5", "--max-tokens", number])
        assert limits_from(parsed) == Limits(max_wall_s=2.5, max_tokens=3000)


def test_options_stand_anywhere_and_what_follows_two_dashes_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--model", "scripted:model.py", "missing.txt", "--quiet", "Who?"]) == ExitCode.USAGE
    assert capsys.readouterr().err == "airlock: missing.txt: no such file\n"
    assert main(["ask", *SCRIPTED, "--", "-q", "Who?"]) == ExitCode.USAGE
    assert capsys.readouterr().err == "airlock: -q: no such file\n"


@pytest.mark.parametrize(
    "name", ["--sub-model=scripted:letter.txt", "--model", "--audit-anchor=report.txt", "-q", "-qWho?", "--keep"]
)
def test_no_document_can_be_named_like_an_option(desk: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A shell puts the names of strangers' files where `*` stands."""
    (desk / "letter.txt").write_text("import pathlib; pathlib.Path('ran').touch(); REPLIES = ['FINAL(x)']")
    (desk / name).write_text("a document")
    documents = sorted(file.name for file in desk.iterdir())
    assert main(["ask", "--model", "scripted:model.py", "-q", "What?", *documents]) == ExitCode.USAGE
    assert f"{name!r} is an option, and a file here" in capsys.readouterr().err
    assert not (desk / "ran").exists()
    assert (desk / "report.txt").read_text() == "a report"


def test_a_document_that_is_named_like_an_option_can_be_asked_about(desk: Path) -> None:
    (desk / "--keep").write_text("a document")
    for words in (["./--keep"], ["--", "--keep"]):
        done = run("ask", "--model", "scripted:model.py", "-q", "What?", *words)
        assert done.returncode == ExitCode.SANDBOX, done.stderr  # no engine


def test_every_stop_reason_and_error_has_its_code() -> None:
    assert set(OF_STOP_REASON) == {reason.value for reason in StopReason}
    errors = {
        ConfigError("x"): ExitCode.USAGE,
        ContextError("x"): ExitCode.USAGE,
        LimitExceeded("x", limit="max_tokens"): ExitCode.LIMIT,
        BoxError("x"): ExitCode.SANDBOX,
        ProtocolViolation("x"): ExitCode.SANDBOX,
        ProviderError("x", provider="p"): ExitCode.PROVIDER,
        RuntimeError("x"): ExitCode.INTERNAL,
    }
    assert {type(error): exit_code_of_error(error) for error in errors} == {type(e): c for e, c in errors.items()}


def test_every_document_and_what_is_no_anchor_keeps_its_bytes(desk: Path) -> None:
    (desk / "link").symlink_to("report.txt")
    os.link(desk / "report.txt", desk / "hard")
    (desk / "notes").write_text("a" * 65)
    (desk / "digest").write_text("a" * 64)
    before = {file.name: file.read_bytes() for file in desk.iterdir() if file.is_file()}
    for name in ("report.txt", "./report.txt", "link", "hard", "notes", "model.py"):
        assert main([*ASK, *SCRIPTED, "--audit-anchor", name]) == ExitCode.USAGE
    assert main(["ask", "digest", "Who?", *SCRIPTED, "--audit-anchor", "digest"]) == ExitCode.USAGE
    assert {file.name: file.read_bytes() for file in desk.iterdir() if file.is_file()} == before


def test_an_anchor_is_written_at_the_end_and_only_over_an_earlier_one(desk: Path) -> None:
    file, head = desk / "anchor", "0123456789abcdef" * 4
    anchor = AnchorFile(str(file), ["report.txt"])
    assert not file.exists(), "nothing is left of a run that never starts"
    anchor.write(head)
    assert file.read_text() == head + "\n"
    file.write_text("f" * 64)
    anchor = AnchorFile(str(file), [])
    assert file.read_text() == "f" * 64
    anchor.write(head)
    assert file.read_text() == head + "\n"
    file.write_text("somebody's text")
    with pytest.raises(UsageError, match="holds no earlier anchor"):
        anchor.write(head)
    assert file.read_text() == "somebody's text"


def test_a_run_that_never_starts_leaves_no_anchor(desk: Path) -> None:
    assert main(["ask", "missing.txt", "Who?", *SCRIPTED, "--audit-anchor", "anchor"]) == ExitCode.USAGE
    assert not (desk / "anchor").exists()


def test_a_state_directory_that_can_not_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRLOCK_STATE", "/proc/x")
    assert main([*ASK, *SCRIPTED]) == ExitCode.USAGE
    assert capsys.readouterr().err.startswith("airlock: AIRLOCK_STATE: the trace '/proc/x/traces/")


def test_ctrl_c_while_imports_run_is_one_line(tmp_path: Path) -> None:
    """An import that takes long stands for all: the signal comes while it runs."""
    slow = tmp_path / "slow" / "orchestrator"
    slow.mkdir(parents=True)
    (slow / "__init__.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    start = REPOSITORY / "orchestrator" / "cli" / "start.py"
    process = subprocess.Popen(
        [sys.executable, str(start), "--version"],
        env=os.environ | {"PYTHONPATH": str(slow.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (ExitCode.INTERRUPTED, b"airlock: interrupted\n")


HOSTILE = "\x1b]0;title\x07\x1b[2J\u202eanswer\nsecond line"


def test_an_answer_on_a_terminal_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        print_answer(HOSTILE)
        shown = os.read(ours, 4096).decode()
        monkeypatch.undo()
    os.close(ours)
    assert shown == "\\x1b]0;title\\x07\\x1b[2J\\u202eanswer\r\nsecond line\r\n"


def test_an_answer_in_a_pipe_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w", encoding="latin-1") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        print_answer(HOSTILE)
        monkeypatch.undo()
    assert os.read(ours, 4096) == HOSTILE.encode() + b"\n"
    os.close(ours)
