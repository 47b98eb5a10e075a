"""Traces read back, and written as the method's authors write theirs, so that their visualizer opens them.

What their program reads, field by field: https://github.com/alexzhang13/rlm at commit
72d6940142ddfb84ee6be573dc999a37e633e671, `rlm/core/types.py` (what their logger writes),
`visualizer/src/lib/types.ts` and `visualizer/src/lib/parse-logs.ts` (what is read of it).
"""

from __future__ import annotations

import json
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, Limits, ScriptedProvider
from orchestrator.announce import start_facts
from orchestrator.cli.main import main
from orchestrator.errors import ConfigError
from orchestrator.export import export_lines
from orchestrator.limits import Usage
from orchestrator.providers.base import Message, ModelReply, TokenUsage
from orchestrator.recorder import Recorder
from orchestrator.result import RunResult, StopReason, SubCall
from orchestrator.trace import TraceFile
from orchestrator.traced import read_trace
from tests.events import faults_in

METADATA = {
    "type": str,
    "timestamp": str,
    "root_model": str,
    "max_depth": int,
    "max_iterations": int,
    "backend": str,
    "backend_kwargs": dict,
    "environment_type": str,
    "environment_kwargs": dict,
    "other_backends": list,
}
ITERATION = {
    "type": str,
    "iteration": int,
    "timestamp": str,
    "prompt": list,
    "response": str,
    "code_blocks": list,
    "final_answer": (str, type(None)),
    "iteration_time": float,
}
RESULT = {
    "stdout": str,
    "stderr": str,
    "locals": dict,
    "execution_time": float,
    "rlm_calls": list,
    "final_answer": (str, type(None)),
}
CALL = {
    "root_model": str,
    "prompt": str,
    "response": str,
    "usage_summary": dict,
    "execution_time": float,
    "prompt_tokens": int,
    "completion_tokens": int,
}
OPTIONAL_OF_CALL = {"error": str, "metadata": dict}

USAGE = TokenUsage(input_tokens=100, output_tokens=20)
CELL = {
    "waited_s": 0.0,
    "stdout_chars": 3,
    "stderr_chars": 0,
    "result_chars": 0,
    "clock": None,
    "lost_because": None,
    "late_chars": 0,
    "answered": False,
}
ASKED = [Message(role="system", content="You write code."), Message(role="user", content="What?")]


def start(recorder: Recorder, question: str, depth: int = 2) -> None:
    sub = ScriptedProvider([], name="anthropic:small")
    rlm = RLM(ScriptedProvider([], name="openai:large"), sub, limits=Limits(max_depth=depth))
    facts = start_facts(rlm.settings, context_info="a string", documents=(), policy_summaries=())
    recorder.emit("run_start", facts, question=question)


def reply(text: str) -> ModelReply:
    return ModelReply(text=text, usage=USAGE)


def play(recorder: Recorder, *, last_chance: bool = False, killed: bool = False) -> None:
    """Two turns with a cell each, sub-calls that were answered, failed and refused, and a child run."""
    start(recorder, "What?")
    turn = recorder.turn(reply("First."), 1.5, ASKED)
    cell = recorder.cell_starts(turn, "llm_query('q')")
    recorder.sub_call(SubCall(model="anthropic:small", prompt="q", data="the text", reply="yes", usage=USAGE))
    failed = SubCall(model="anthropic:small", prompt="q", error_kind="ProviderError", error="broke", wall_s=0.5)
    recorder.sub_call(failed)
    recorder.refused(SubCall(model="anthropic:small", prompt="q", error_kind="LimitExceeded", error="no"))
    child = recorder.child(run=1, depth=1)
    start(child, "sub-question")
    child.turn(reply("FINAL(c)"), 0.25, [Message(role="user", content="sub-question")])
    child.run_ends(StopReason.ANSWERED, Usage(input_tokens=7, output_tokens=3), "c", answer_kind="final")
    ended = RunResult(answer="c", stop_reason=StopReason.ANSWERED, usage=Usage(), turns=(), isolation=None, run=1)
    recorder.sub_call(SubCall(model="openai:large", prompt="sub-question", reply="c", child=ended))
    cell.output, cell.wall_s = "yes", 2.0
    recorder.cell_ends(turn, cell, CELL)
    shown = [*ASKED, Message(role="assistant", content="First."), Message(role="user", content="It printed yes.")]
    turn = recorder.turn(reply("Second."), 0.5, shown)
    cell = recorder.cell_starts(turn, "1/0")
    if killed:
        return
    cell.status, cell.error = "error", "ZeroDivisionError: division by zero"
    recorder.cell_ends(turn, cell, CELL | {"answered": not last_chance})
    if last_chance:
        recorder.last_chance(reply("FINAL(best)"), 0.125)
    recorder.run_ends(StopReason.ANSWERED, Usage(), "the answer", answer_kind="final")


def traced(directory: Path, *, keep_text: bool = True, **how: bool) -> Path:
    trace = TraceFile(directory, keep_text=keep_text)
    play(Recorder([trace]), **how)
    trace.close()
    assert faults_in(trace.path) == []
    return trace.path


def exported(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(read_trace(path), "rlm")]


def check(record: dict[str, Any], fields: dict[str, Any], optional: dict[str, Any] | None = None) -> None:
    """All fields, no others, each of its type."""
    known = fields | (optional or {})
    assert set(fields) <= set(record) <= set(known)
    assert [name for name, value in record.items() if not isinstance(value, known[name])] == []


def check_iteration(record: dict[str, Any]) -> None:
    check(record, ITERATION)
    assert datetime.fromisoformat(record["timestamp"])
    for message in record["prompt"]:
        check(message, {"role": str, "content": str})
    for block in record["code_blocks"]:
        check(block, {"code": str, "result": dict})
        check(block["result"], RESULT)
        for call in block["result"]["rlm_calls"]:
            check(call, CALL, OPTIONAL_OF_CALL)
            for summary in call["usage_summary"]["model_usage_summaries"].values():
                check(summary, {"total_calls": int, "total_input_tokens": int, "total_output_tokens": int})


def test_the_lines_have_the_fields_that_the_authors_programs_read(tmp_path: Path) -> None:
    metadata, *iterations = exported(traced(tmp_path))
    check(metadata, METADATA)
    assert (metadata["type"], metadata["root_model"], metadata["backend"]) == ("metadata", "large", "openai")
    assert metadata["backend_kwargs"] == {"model_name": "large"}
    assert metadata["other_backends"] == ["anthropic"]
    for iteration in iterations:
        check_iteration(iteration)
    assert [(one["type"], one["iteration"]) for one in iterations] == [("iteration", 1), ("iteration", 2)]


def test_they_say_what_the_run_did(tmp_path: Path) -> None:
    _, first, second = exported(traced(tmp_path))
    assert first["prompt"] == [
        {"role": "system", "content": "You write code."},
        {"role": "user", "content": "What?"},
    ]
    assert second["prompt"] == [
        *first["prompt"],
        {"role": "assistant", "content": "First."},
        {"role": "user", "content": "It printed yes."},
    ]
    assert (first["response"], first["iteration_time"], first["final_answer"]) == ("First.", 3.5, None)
    assert (second["response"], second["final_answer"]) == ("Second.", "the answer")
    (block,) = first["code_blocks"]
    assert block["code"] == "llm_query('q')"
    assert (block["result"]["stdout"], block["result"]["stderr"]) == ("yes", "")
    answered, failed, refused, child = block["result"]["rlm_calls"]
    assert (answered["prompt"], answered["response"]) == ("q\n\nthe text", "yes")
    assert (answered["prompt_tokens"], answered["completion_tokens"]) == (100, 20)
    assert (failed["response"], failed["error"]) == ("", "ProviderError: broke")
    assert refused["error"] == "LimitExceeded: no"
    assert (child["response"], child["prompt_tokens"], child["completion_tokens"]) == ("c", 7, 3)
    check(child["metadata"], {"run_metadata": dict, "iterations": list})
    (below,) = child["metadata"]["iterations"]
    check_iteration(below)
    assert (below["response"], below["final_answer"]) == ("FINAL(c)", "c")
    (block,) = second["code_blocks"]
    assert block["result"]["stderr"] == "ZeroDivisionError: division by zero"
    assert block["result"]["final_answer"] == "the answer"


def test_the_reply_behind_the_last_turn_is_one_more_and_has_the_answer(tmp_path: Path) -> None:
    _, _, second, third = exported(traced(tmp_path, last_chance=True))
    assert second["final_answer"] is None
    check_iteration(third)
    assert (third["response"], third["code_blocks"], third["final_answer"]) == ("FINAL(best)", [], "the answer")
    assert third["prompt"][-1] == {"role": "assistant", "content": "Second."}


def test_a_run_that_was_killed_is_exported_as_far_as_it_came(tmp_path: Path) -> None:
    path = traced(tmp_path, killed=True)
    whole = exported(path)
    with path.open("a") as file:
        file.write('{"previous": "00", "kind": "ce')
    assert exported(path) == whole
    assert whole[-1]["final_answer"] is None
    assert whole[-1]["code_blocks"][0]["result"]["stdout"] == ""


def test_a_conversation_that_was_shortened_is_exported_as_it_was_sent(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path, keep_text=True)
    recorder = Recorder([trace])
    start(recorder, "What?")
    recorder.turn(reply("one"), 0.1, ASKED)
    longer = [*ASKED, Message(role="assistant", content="one"), Message(role="user", content="go on")]
    recorder.turn(reply("two"), 0.1, longer)
    shorter = [ASKED[0], Message(role="user", content="What? So far: one, two."), *longer[3:]]
    recorder.turn(reply("three"), 0.1, shorter)
    trace.close()
    assert faults_in(trace.path) == []
    assert [message["content"] for message in exported(trace.path)[-1]["prompt"]] == [
        "You write code.",
        "What? So far: one, two.",
        "go on",
    ]


def test_a_sessions_questions_follow_each_other(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path, keep_text=True)
    for ask in (1, 2):
        recorder = Recorder([trace], ask=ask)
        start(recorder, f"question {ask}")
        recorder.turn(reply(f"FINAL({ask})"), 0.1, ASKED)
        recorder.run_ends(StopReason.ANSWERED, Usage(), str(ask), answer_kind="final")
    trace.close()
    _, *iterations = exported(trace.path)
    assert [(one["iteration"], one["final_answer"]) for one in iterations] == [(1, "1"), (2, "2")]


# --- the command ---


def test_the_command_writes_to_stdout_or_to_a_new_file_for_its_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = traced(tmp_path), tmp_path / "out.jsonl"
    assert main(["export", str(path), "--format", "rlm"]) == 0
    printed = capsys.readouterr().out
    assert main(["export", str(path), "-o", str(out)]) == 0
    assert out.read_text() == printed
    assert printed.isascii()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert main(["export", str(path), "-o", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_trace_without_text_says_how_to_keep_it_and_is_json_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = traced(tmp_path, keep_text=False)
    out = tmp_path / "out.jsonl"
    assert main(["export", str(path), "-o", str(out)]) == 2
    assert "airlock ask --keep" in capsys.readouterr().err
    assert not out.exists()
    assert main(["export", str(path), "--format", "json"]) == 0
    first, child = json.loads(capsys.readouterr().out)["runs"]
    assert [len(turn["cells"]) for turn in first["turns"]] == [1, 1]
    assert child["end"]["stop_reason"] == "answered"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no line of it begins a run"),
        ("not json\n", "line 1 is no event"),
        ("[" * 100_000 + "\n", "line 1 is no event"),
        ('{"kind": "run_start"}\n{"kind": "turn", "kept": "x", "turn": 1}\n', "line 2 is no event"),
        ('{"kind": 5}\n', "line 1 is no event"),
    ],
)
def test_what_is_no_trace_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_trace(path)


def test_a_file_that_is_not_there_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "none.jsonl")]) == 2
    assert "can't be read: No such file" in capsys.readouterr().err
