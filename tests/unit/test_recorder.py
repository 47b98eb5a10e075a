"""What a run remembers: sub-calls belong to their cell, events carry no text among their facts."""

from __future__ import annotations

import dataclasses
import hashlib

from orchestrator.limits import Usage
from orchestrator.providers.base import ModelReply, TokenUsage
from orchestrator.recorder import MAX_REFUSALS_KEPT, Recorder
from orchestrator.result import MAX_SHORT_PROMPT_CHARS, PolicyDecision, StopReason, SubCall, SubReply
from orchestrator.trace import TraceEvent

REPLY = ModelReply(text="the reply", usage=TokenUsage(input_tokens=3, output_tokens=2))


def call(prompt: str) -> SubCall:
    return SubCall(model="m", prompt=prompt, reply="yes", usage=REPLY.usage)


def test_sub_calls_belong_to_the_cell_that_runs_or_ran_last() -> None:
    recorder = Recorder()
    recorder.sub_call(call("before any cell"))
    turn = recorder.turn(REPLY, 0.5)
    first = recorder.cell_starts(turn, "a = 1")
    recorder.sub_call(call("one"))
    recorder.cell_ends(turn, first, {})
    recorder.sub_call(call("late"))
    second = recorder.cell_starts(turn, "b = 2")
    recorder.sub_call(call("two"))
    assert [asked.prompt for asked in first.sub_calls] == ["one", "late"]
    assert [asked.prompt for asked in second.sub_calls] == ["two"]
    assert [asked.prompt for asked in turn.sub_calls] == ["one", "late", "two"]
    assert [asked.prompt for asked in recorder.outside_calls] == ["before any cell"]


def test_listeners_hear_everything_in_order_and_nothing_after_the_end() -> None:
    heard: list[TraceEvent] = []
    recorder = Recorder([heard.append])
    recorder.emit("run_start", {"root": "m"}, question="What?")
    turn = recorder.turn(REPLY, 0.5)
    cell = recorder.cell_starts(turn, "1 + 1")
    recorder.sub_call(call("one"))
    cell.output, cell.error = "the output", "ValueError: the error"
    recorder.cell_ends(turn, cell, {"stdout_chars": 10})
    recorder.box_lost(turn, "out of memory")
    recorder.run_ends(StopReason.ANSWERED, Usage(turns=1), "the answer")
    recorder.emit("setup", {"doing": "a thread that is late"})
    assert [event.kind for event in heard] == [
        "run_start",
        "turn",
        "cell_start",
        "sub_call",
        "cell",
        "box_lost",
        "answer",
        "run_end",
    ]
    texts = {name: text for event in heard for name, text in event.texts.items()}
    assert texts == {
        "question": "What?",
        "response": "the reply",
        "prompt": "one",
        "reply": "yes",
        "output": "the output",
        "error": "ValueError: the error",
        "answer": "the answer",
    }
    facts = [str(event.facts) for event in heard]
    assert not any(text in fact for text in texts.values() if text not in ("one", "yes") for fact in facts)
    assert [event.t_s for event in heard] == sorted(event.t_s for event in heard)


def test_a_refusal_is_a_record_of_its_own_with_sizes() -> None:
    heard: list[TraceEvent] = []
    recorder = Recorder([heard.append])
    left = {"sub_calls": 0, "tokens": 5.0, "wall_s": None}
    recorder.refused(
        SubCall(model="m", prompt="p" * 500, data="d" * 70, error_kind="LimitExceeded", error="no", depth=2), left
    )
    (event,) = heard
    assert event.kind == "refusal"
    assert event.facts | {"wall_s": 0} == {
        "turn": 0,
        "call": None,
        "child_run": None,
        "model": "m",
        "name": None,
        "cell": 0,
        "cached": False,
        "depth": 2,
        "error_kind": "LimitExceeded",
        "usage": None,
        "wall_s": 0,
        "asked_chars": 570,
        "left": left,
    }
    assert set(event.texts) == {"prompt", "error"}


def test_decisions_and_violations_are_records_and_are_counted_at_the_end() -> None:
    heard: list[TraceEvent] = []
    recorder = Recorder([heard.append])
    decision = PolicyDecision(
        policy="P", hook="on_reply", action="redact", count=3, reason="r", role="sub", depth=1, model="m"
    )
    recorder.policy(decision)
    recorder.policy(dataclasses.replace(decision, hook="on_answer", count=2))
    recorder.violation("message type " + ascii("it's a \"x") + " on iopub")
    recorder.run_ends(StopReason.PROTOCOL_VIOLATION, Usage(), None, failure="ProtocolViolation")
    first, _, violation, end = heard
    assert (first.kind, first.facts["policy"], first.facts["count"]) == ("policy", "P", 3)
    assert (violation.kind, violation.facts) == (
        "violation",
        {"turn": 0, "kind_of_violation": "message type (10 characters) on iopub"},
    )
    assert violation.texts == {"what": "message type " + ascii("it's a \"x") + " on iopub"}
    assert end.facts["redactions"] == {"replies": 3, "answer": 2}
    assert (end.facts["policy_decisions"], end.facts["failure"]) == (2, "ProtocolViolation")


def test_a_reply_that_reached_a_cell_is_listed_by_size_and_digest() -> None:
    recorder = Recorder()
    recorder.sub_call(SubCall(model="m", prompt="p", reply="\ud800\u20ac"))
    recorder.sub_call(SubCall(model="m", prompt="p", error_kind="ProviderError", error="broke"))
    digest = hashlib.sha256(b"\xed\xa0\x80\xe2\x82\xac").hexdigest()
    assert recorder.sub_replies == [SubReply(turn=0, model="m", size_bytes=6, sha256=digest)]


def test_a_missing_text_is_no_text() -> None:
    heard: list[TraceEvent] = []
    recorder = Recorder([heard.append])
    recorder.sub_call(SubCall(model="m", prompt="p", error_kind="ProviderError", error="broke"))
    assert heard[0].texts == {"prompt": "p", "error": "broke"}
    assert heard[0].facts["usage"] is None


def test_a_cell_that_asks_without_end_fills_no_memory() -> None:
    heard: list[TraceEvent] = []
    recorder = Recorder([heard.append])
    for _ in range(MAX_REFUSALS_KEPT + 50):
        recorder.refused(SubCall(model="m", prompt="p" * 1000, data="d" * 1000, error_kind="LimitExceeded", error="no"))
    assert len(recorder.outside_calls) == len(heard) == MAX_REFUSALS_KEPT
    assert {len(refused.prompt) for refused in recorder.outside_calls} == {MAX_SHORT_PROMPT_CHARS}
    assert {refused.data for refused in recorder.outside_calls} == {None}
