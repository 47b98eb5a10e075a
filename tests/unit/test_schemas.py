"""The shipped schemas say what events and results hold, all of it and nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator import result as results
from orchestrator.cli.main import main
from orchestrator.limits import Usage
from orchestrator.permit import Overbill
from orchestrator.providers.base import Message, ModelReply, TokenUsage
from orchestrator.recorder import Recorder
from orchestrator.result import RunResult, StopReason, SubCall, Trajectory
from orchestrator.schemas import SCHEMA_NAMES, SchemaName, load_schema
from orchestrator.trace import PIECES, TraceEvent, TraceFile
from tests.events import Checked, faults_in, faults_of

SOURCES = Path(results.__file__).parent
REPLY = ModelReply(text="the reply", usage=TokenUsage(input_tokens=3, output_tokens=2))


def kinds(of: str) -> set[str]:
    """Those of events, or those of a journal's notes."""
    schema = load_schema("trace")
    named = {option["$ref"].removeprefix("#/$defs/") for option in schema["oneOf"]}
    return {name for name in named if schema["$defs"][name]["$ref"] == f"#/$defs/{of}"}


def test_every_kind_that_is_emitted_or_noted_is_in_the_schema_and_no_other() -> None:
    code = "\n".join(path.read_text() for path in SOURCES.rglob("*.py"))
    emitted = set(re.findall(r"\.(?:emit|show)\(\s*\"(\w+)\"", code))
    assert kinds("event") == emitted | {"child_start", "child_end"}
    assert kinds("note") == set(re.findall(r"\.note\(\s*\"(\w+)\"", code))
    assert len(load_schema("trace")["oneOf"]) == len(kinds("event") | kinds("note"))
    assert set(PIECES) < kinds("event")


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_a_schema_is_sound_and_says_what_each_field_is(name: SchemaName) -> None:
    schema = load_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    for key, definition in schema["$defs"].items():
        assert definition["description"], key
        for field, said in definition.get("properties", {}).items():
            fixed = field == "kind" or "$ref" in said
            assert fixed or said.get("description"), f"{key}.{field}"


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_the_command_prints_it(name: SchemaName, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out) == load_schema(name)


def play(*listeners: Any) -> None:
    """A run with events of many kinds."""
    recorder = Recorder(listeners)
    turn = recorder.turn(REPLY, 0.5, [Message(role="system", content="s"), Message(role="user", content="u")])
    cell = recorder.cell_starts(turn, "1 + 1")
    call = SubCall(model="m", prompt="p", data="d", reply="yes", usage=REPLY.usage)
    recorder.sub_call_starts(call)
    recorder.sub_call(call, {"sub_calls": 5, "tokens": None, "wall_s": -0.5, "cost_usd": 0.25})
    recorder.refused(SubCall(model="", prompt="p", error_kind="LimitExceeded", error="no"))
    cell.error = "ValueError: no"
    facts = {"waited_s": 0.0, "stdout_chars": 0, "stderr_chars": 0, "result_chars": 1, "late_chars": 0}
    recorder.cell_ends(turn, cell, facts | {"clock": None, "lost_because": None, "answered": False})
    recorder.violation("it sent 'words'")
    recorder.overbilled("m", Overbill(reserved_tokens=1, billed_tokens=2, reserved_usd=None, billed_usd=None))
    recorder.fallback("a", "b", role="root", depth=0, status=503)
    recorder.strategy(1, root="m", prompt_mode="standard", why="3 turns without progress")
    recorder.box_lost(turn, "out of memory")
    recorder.last_chance(None, 0.5, failure="LimitExceeded")
    recorder.last_chance(REPLY, 0.5)
    recorder.invalid_answer(["$.a: missing"], "words")
    child = recorder.child(run=1, depth=1)
    child.emit("setup", {"doing": "something"})
    child.run_ends(StopReason.TURN_LIMIT, Usage(), None)
    recorder.run_ends(StopReason.ANSWERED, Usage(turns=1), "the answer", answer_kind="final")


def test_events_and_lines_with_and_without_text_are_as_the_schema_says(tmp_path: Path) -> None:
    checked = Checked()
    traces = [TraceFile(tmp_path / str(keep), keep_text=keep) for keep in (False, True)]
    play(checked, *traces)
    assert checked.faults == []
    for trace in traces:
        trace.close()
        assert faults_in(trace.path) == []
        written = [json.loads(line)["kind"] for line in trace.path.read_text().splitlines()]
        assert len(written) == 16
        assert "sub_call_start" not in written
        assert "answer" not in written


def test_a_fact_that_the_schema_does_not_know_is_a_fault_and_so_is_one_that_is_missing() -> None:
    event = TraceEvent(kind="box_lost", t_s=1, facts={"turn": 1, "because": "why"}).to_dict()
    assert faults_of(event) == []
    assert faults_of(event | {"more": 1})
    assert faults_of({name: value for name, value in event.items() if name != "because"})
    assert faults_of(event | {"turn": -1})
    assert faults_of({"kind": "nothing", "t_s": 0}) == ["nothing: not in the schema"]


# --- results ---


def test_every_field_of_a_result_is_in_the_schema_and_no_other() -> None:
    defs = load_schema("run")["$defs"]
    known = {name: cls for name, cls in vars(results).items() if dataclasses.is_dataclass(cls)}
    for name, cls in known.items():
        key = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        if key not in defs:
            continue
        fields = {field.name for field in dataclasses.fields(cls) if field.metadata.get("json", True)}
        more = {"total_tokens"} if name == "Usage" else set()
        assert set(defs[key]["properties"]) - more == fields, name
    assert {"RunResult", "Turn", "Cell", "SubCall", "Usage"} <= set(known)


def test_a_result_as_json_is_as_the_schema_says() -> None:
    child = RunResult(answer="a", stop_reason=StopReason.ANSWERED, usage=Usage(), turns=(), isolation=None, run=1)
    cell = results.Cell(code="1", sub_calls=[SubCall(model="m", prompt="p", child=child, usage=REPLY.usage)])
    turn = results.Turn(number=1, response="r", usage=REPLY.usage, cells=[cell], values=[("x", 1)])
    whole = dataclasses.replace(child, turns=(turn,), run=0, redactions={"prompts": 2})
    plain = json.loads(Trajectory(whole).to_json())
    validator = jsonschema.Draft202012Validator(load_schema("run"))
    assert [error.message for error in validator.iter_errors(plain)] == []
    assert not validator.is_valid(plain | {"stop_reason": "because"})
