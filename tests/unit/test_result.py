"""The result and the trajectory: iterate, index, and turn into JSON and back."""

from __future__ import annotations

import json

import pytest

from orchestrator.limits import Usage
from orchestrator.providers.base import TokenUsage
from orchestrator.result import (
    Cell,
    Document,
    RunResult,
    StopReason,
    SubCall,
    SubReply,
    TraceInfo,
    Trajectory,
    Turn,
)


def trajectory() -> Trajectory:
    asked = SubCall(model="m", prompt="p", data="d", reply="\ud800", usage=TokenUsage(input_tokens=1, output_tokens=2))
    failed = SubCall(model="m", prompt="q", error_kind="LimitExceeded", error="100 of 100 sub-calls used")
    cells = [Cell(code="a", sub_calls=[asked]), Cell(code="b", status="error", error="E: x", sub_calls=[failed])]
    first = Turn(number=1, response="one", cells=cells, values=[("n", 3), ("n", [1, True])])
    turns = (first, Turn(number=2, response="FINAL(\u20ac)"))
    usage = Usage(turns=2, sub_calls=1, input_tokens=1, output_tokens=2)
    result = RunResult(
        answer="\u20ac",
        stop_reason=StopReason.ANSWERED,
        usage=usage,
        turns=turns,
        isolation="container",
        documents=(Document(name="a", kind="text", size_bytes=1, sha256="0" * 64, loaded=True),),
        sub_replies=(SubReply(turn=1, model="m", size_bytes=3, sha256="0" * 64),),
        redactions={"prompts": 2},
        trace=TraceInfo(path="p", head="h", digest_key="k", redactions=1),
    )
    return Trajectory(result)


def test_it_iterates_over_turns() -> None:
    run = trajectory()
    assert [turn.number for turn in run] == [1, 2]
    assert (len(run), run[-1].response) == (2, "FINAL(\u20ac)")
    assert [cell.code for cell in run[0].cells] == ["a", "b"]
    assert [call.prompt for call in run.sub_calls] == ["p", "q"]
    assert (run.stop_reason, run.usage.total_tokens) == ("answered", 3)
    assert repr(run) == "Trajectory(answered, 2 turns, 1 sub-calls)"
    with pytest.raises(IndexError):
        run[2]


@pytest.mark.parametrize("indent", [None, 2])
def test_it_survives_json(indent: int | None) -> None:
    run = trajectory()
    text = run.to_json(indent=indent)
    text.encode()  # lone surrogates are escaped, so it can be written anywhere
    assert json.loads(text) == run.to_dict()
    assert run.to_dict()["documents"][0]["loaded"] is True
    assert run.to_dict()["turns"][0]["values"] == [["n", 3], ["n", [1, True]]]
    assert run.to_dict()["trace"]["redactions"] == 1
    assert type(run.to_dict()["stop_reason"]) is str
    assert json.loads(text)["turns"][0]["cells"][0]["sub_calls"][0]["reply"] == "\ud800"


def test_a_reason_reads_as_its_name() -> None:
    assert f"{StopReason.TIME_LIMIT}" == "time_limit"
    assert StopReason("time_limit") is StopReason.TIME_LIMIT
