"""A model's calls, written to a file and played from it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from orchestrator import ConfigError, ProviderError, RecordingProvider, ReplayProvider, ScriptedProvider
from orchestrator.prompts import sub_message
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage

HEADER = json.dumps({"format": "airlock-calls/1", "model": "m", "max_output_tokens": 1, "parameters": {}}) + "\n"
USAGE = TokenUsage(input_tokens=7, output_tokens=3, cached_input_tokens=2)


def request(*texts: str) -> ModelRequest:
    roles = ("system", "user", "assistant", "user")
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]
    return ModelRequest(messages=messages, timeout_s=5, max_reply_bytes=1000)


async def test_what_was_recorded_is_played_again(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    model = ScriptedProvider([ModelReply(text="one", usage=USAGE, finish_reason="length"), "two"], name="openai:m")
    recording = RecordingProvider(model, path)
    asked = [request("be brief", "first"), request("be brief", "second")]
    said = [await recording.complete(one) for one in asked]
    replay = ReplayProvider(path)
    assert (replay.name, replay.max_output_tokens, replay.left) == ("openai:m", model.max_output_tokens, 2)
    assert [await replay.complete(one) for one in reversed(asked)] == said[::-1]
    assert replay.left == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_equal_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    recording = RecordingProvider(ScriptedProvider(["a", "b"]), tmp_path / "calls")
    for _ in range(2):
        await recording.complete(request("roll", "a die"))
    replay = ReplayProvider(tmp_path / "calls")
    assert [(await replay.complete(request("roll", "a die"))).text for _ in range(2)] == ["a", "b"]
    with pytest.raises(ProviderError, match="all recorded calls are used up"):
        await replay.complete(request("roll", "a die"))


async def test_ids_of_frames_and_what_is_left_make_no_difference(tmp_path: Path) -> None:
    def asked(nonce: str, left: str) -> ModelRequest:
        return request("system", f"{sub_message('What?', 'text', nonce=nonce)}\nLeft: 3 replies, {left} s.")

    recording = RecordingProvider(ScriptedProvider(["yes"]), tmp_path / "calls")
    await recording.complete(asked("0123456789abcdef", "899"))
    replay = ReplayProvider(tmp_path / "calls")
    assert (await replay.complete(asked("fedcba9876543210", "12"))).text == "yes"


async def test_a_call_that_is_not_recorded_names_the_first_message_that_differs(tmp_path: Path) -> None:
    recording = RecordingProvider(ScriptedProvider(["x", "y"]), tmp_path / "calls")
    await recording.complete(request("system", "something else"))
    await recording.complete(request("system", "the number is 41, and so on"))
    replay = ReplayProvider(tmp_path / "calls")
    with pytest.raises(ProviderError) as raised:
        await replay.complete(request("system", "the number is 42, \x1b[2J"))
    said = str(raised.value)
    assert "message 2 (user; user in the nearest one) differs from character 15 on" in said
    assert "'1, and so on' was recorded" in said
    assert r"'2, \x1b[2J' was sent" in said
    assert replay.left == 2
    with pytest.raises(ProviderError, match="it has 3 messages, the nearest one 2"):
        await replay.complete(request("system", "something else", "said"))


async def test_failures_are_recorded_too(tmp_path: Path) -> None:
    failure = ProviderError("busy", provider="m", status=529, retryable=True, retry_after_s=0.0, refused=True)
    recording = RecordingProvider(ScriptedProvider([failure]), tmp_path / "calls")
    with pytest.raises(ProviderError):
        await recording.complete(request("a"))
    with pytest.raises(ProviderError, match="busy") as raised:
        await ReplayProvider(tmp_path / "calls").complete(request("a"))
    again = raised.value
    assert (again.status, again.retryable, again.retry_after_s, again.refused) == (529, True, 0.0, True)


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        RecordingProvider(ScriptedProvider([]), tmp_path / "calls")
    assert (tmp_path / "calls").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", "line 1 is no recorded call"),
        ('{"format": "airlock-calls/0"}\n', "the format is 'airlock-calls/0'"),
        (
            json.dumps({"format": "airlock-calls/1", "model": "m", "max_output_tokens": 1, "parameters": {}})
            + "\n{}\n",
            "line 2",
        ),
    ],
)
def test_what_is_no_record_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "calls").write_text(text)
    with pytest.raises(ConfigError, match=said):
        ReplayProvider(tmp_path / "calls")
