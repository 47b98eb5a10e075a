"""Recorded runs as tests: a journal against a real box with no model, and a model's calls played again."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import RLM, Diverged, ProviderError, RecordingProvider, ReplayProvider, ScriptedProvider
from orchestrator.audit_log import verify_trace
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import main
from orchestrator.comparing import compare
from orchestrator.journal import Journal
from orchestrator.providers.base import ModelRequest
from tests.events import faults_in
from tests.runs import code, run, script

ESCAPE = "\x1b[2J"
MODEL = """
import os, signal
def reply(request):
    if "llm_query" not in request.messages[0].content:
        return "<" + request.messages[-1].content.splitlines()[-1] + ">"
    turn = sum(message.role == "assistant" for message in request.messages)
    if turn == 2 and os.environ.get("DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    return [
        "```repl\\nsaid = llm_query_batched(['a', 'b'], data=[context[:3]] * 2)\\nprint(said)\\n```",
        "```repl\\nprint({'x', 'y', 'z'}, hash('x'))\\n1 / 0\\n```",
        "```repl\\nFINAL(str(said))\\n```",
    ][turn]
"""
ANSWER = "['<a>', '<b>']"


async def test_a_journal_of_a_whole_tree_happens_once_more_without_a_model(tmp_path: Path) -> None:
    root = script(
        code("said = [llm_query('one'), rlm_query('Count', 'abc')]\nprint(said, {'a', 'b'})"),
        code("print(len(context))\nFINAL(llm_query('two'))"),
        code("import os\nos.kill(os.getpid(), 9)"),
        code("FINAL('many')"),
        code("FINAL(str(len(context)))"),
    )
    await run(root, sub=script("1", "2"), max_depth=2, journal_dir=tmp_path / "j", output_schema={"type": "integer"})
    before = (tmp_path / "j" / "journal.jsonl").read_bytes()
    assert faults_in(tmp_path / "j" / "journal.jsonl") == []
    found = await compare(Journal.open(tmp_path / "j", to_compare=True))
    assert (found.differences, found.problem) == ([], None)
    assert (found.cells, found.left_out) == (4, 1)
    assert (tmp_path / "j" / "journal.jsonl").read_bytes() == before


async def test_what_differs_is_found(tmp_path: Path) -> None:
    """What a cell shows; a cell that fails now; and one that asks something else, which ends the replay."""
    root = script(
        code("import time\nprint('now:', time.time_ns())"),
        code("if time.time_ns() > float(context):\n    1 / 0"),
        code("llm_query(str(time.time_ns()))"),
        code("FINAL('x')"),
    )
    soon = str(__import__("time").time_ns() + 3_600 * 10**9)
    await run(root, context=soon, sub=script("reply"), journal_dir=tmp_path / "j")
    journal = Journal.open(tmp_path / "j", to_compare=True)
    found = await compare(journal)
    assert [(one.turn, one.what) for one in found.differences] == [(1, "output"), (3, "status")]
    assert isinstance(found.problem, Diverged)


async def test_after_an_outage_or_a_cancellation_a_run_goes_on(tmp_path: Path) -> None:
    """Its cell had been answered once and was waiting for a second answer when it was cancelled."""
    waiting = asyncio.Event()

    async def hangs(request: ModelRequest) -> str:
        if "second" in request.messages[-1].content:
            waiting.set()
            await asyncio.Event().wait()
        return "one"

    cell = code("said = llm_query('first')\nsaid += llm_query('second')")
    down = ProviderError("down", provider="m", status=401)
    with pytest.raises(ProviderError):
        await run(script(down), sub=ScriptedProvider(hangs), journal_dir=tmp_path / "j")
    root, sub = script(cell), ScriptedProvider(hangs)
    task = asyncio.create_task(RLM(root, sub, journal_dir=tmp_path / "j").aresume())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    root, sub = script(code("FINAL(said)")), script("two")
    result = await RLM(root, sub, journal_dir=tmp_path / "j", trace_dir=tmp_path / "t").aresume()
    assert result.answer == "onetwo"
    assert (len(root.requests), len(sub.requests)) == (1, 1)
    assert result.usage.root_calls == 3, "the one that was refused counts too"
    assert result.usage.sub_calls == 3, "the one that was cut off was sent"
    assert verify_trace(tmp_path / "j" / "journal.jsonl").problem is None
    assert faults_in(tmp_path / "j" / "journal.jsonl") == []
    [trace] = (tmp_path / "t").iterdir()
    assert result.trace is not None
    assert result.trace.path == str(trace), "with a trace beside the journal, the trace"
    assert verify_trace(trace, anchor=result.trace.head).problem is None
    assert faults_in(trace) == []
    kinds = [json.loads(line)["kind"] for line in trace.read_text().splitlines()]
    assert kinds.count("turn") == 2, "it tells of all lives"
    assert "call" not in kinds
    assert "onetwo" not in trace.read_text()


def airlock(*arguments: str | Path, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", *map(str, arguments)],
        env=os.environ | {"AIRLOCK_STATE": str(state)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run is killed, replayed as far as it came, gone on with, asked for again, and replayed as a whole."""
    (tmp_path / "model.py").write_text(MODEL)
    document, journal = tmp_path / "d.txt", tmp_path / "j"
    document.write_text("the document")
    model = f"scripted:{tmp_path / 'model.py'}"
    asked: list[str | Path] = ["ask", document, "-q", "What?", "--model", model, "--journal", journal]
    killed = airlock(*asked, state=tmp_path, DIES="1")
    assert killed.returncode == -9, killed.stderr
    assert not (journal / "context.json").exists(), "its file can be read again"
    early = airlock("replay", journal, state=tmp_path)
    assert (early.returncode, early.stdout) == (ExitCode.ANSWERED, ""), early.stderr
    assert "2 cells ran again, 0 differ" in early.stderr
    late = airlock("resume", journal, "--max-seconds", "no", state=tmp_path)
    assert (late.returncode, late.stdout) == (ExitCode.USAGE, ""), late.stderr
    resumed = airlock("resume", journal, "--max-seconds", "300", state=tmp_path)
    assert (resumed.returncode, resumed.stdout) == (ExitCode.ANSWERED, f"{ANSWER}\n"), resumed.stderr
    assert verify_trace(journal / "journal.jsonl").problem is None
    (tmp_path / "model.py").unlink()
    assert main(["resume", str(journal)]) == ExitCode.ANSWERED
    again = capsys.readouterr()
    assert again.out == f"{ANSWER}\n"
    assert "the run had ended (answered)" in again.err
    assert main(["resume", str(journal), "--json", "--quiet"]) == ExitCode.ANSWERED
    assert json.loads(capsys.readouterr().out)["answer"] == ANSWER
    assert main(["replay", str(journal / "journal.jsonl")]) == ExitCode.ANSWERED
    assert "3 cells ran again, 0 differ" in capsys.readouterr().err
    assert main(["ask", *map(str, asked[1:])]) == ExitCode.USAGE


def test_differences_are_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = script(code(f"import time\nprint('{ESCAPE}same', time.time_ns())"), code("FINAL('x')"))
    asyncio.run(run(root, journal_dir=tmp_path / "j"))
    assert main(["replay", str(tmp_path / "j")]) == ExitCode.INTERNAL
    out = capsys.readouterr().out
    assert ESCAPE not in out
    assert "turn 1, cell 1: the output differs\n  recorded from character " in out
    assert r"\x1b[2Jsame" in out


def test_a_password_in_an_option_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "d.txt"
    document.write_text("text")
    url = "http://user:secret@127.0.0.1:1/v1"
    asked = ["ask", str(document), "-q", "What?", "--model", "openai:m", "--base-url", url]
    assert main([*asked, "--journal", str(tmp_path / "j")]) == ExitCode.USAGE
    assert "--base-url" in capsys.readouterr().err
    assert not (tmp_path / "j").exists()


async def test_a_recorded_run_is_a_test_that_needs_no_model(tmp_path: Path) -> None:
    replies = [code("said = llm_query('What?', data=context[:5])\nprint(said)"), code("FINAL(said)")]
    root = RecordingProvider(script(*replies), tmp_path / "root.jsonl")
    sub = RecordingProvider(ScriptedProvider(["the reply"]), tmp_path / "sub.jsonl")
    recorded = await RLM(root, sub).arun("What is it?", "some text")
    root_again, sub_again = ReplayProvider(tmp_path / "root.jsonl"), ReplayProvider(tmp_path / "sub.jsonl")
    played = await RLM(root_again, sub_again).arun("What is it?", "some text")
    assert played.answer == recorded.answer == "the reply"
    assert (root_again.left, sub_again.left) == (0, 0)
