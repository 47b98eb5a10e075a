"""The scripted model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.errors import ConfigError, ProviderError
from orchestrator.providers.base import LLMInterface, Message, ModelReply, ModelRequest, Provider, TokenUsage
from orchestrator.providers.scripted import ScriptedProvider, load_scripted

if TYPE_CHECKING:
    from pathlib import Path


def request(prompt: str = "question", *, timeout_s: float = 20, max_reply_bytes: int = 1000) -> ModelRequest:
    return ModelRequest(
        messages=(Message(role="user", content=prompt),), timeout_s=timeout_s, max_reply_bytes=max_reply_bytes
    )


async def test_a_list_is_played_in_order_and_then_over() -> None:
    counted = ModelReply(text="two", usage=TokenUsage(input_tokens=3, output_tokens=4), finish_reason="length")
    llm = ScriptedProvider(["one two three", counted], name="scripted:test")
    assert isinstance(llm, Provider)
    assert isinstance(llm, LLMInterface)
    first = await llm.complete(request("12345678"))
    assert first == ModelReply(
        text="one two three", usage=TokenUsage(input_tokens=2, output_tokens=4, estimated=True), finish_reason="stop"
    )
    assert await llm.complete(request()) is counted
    with pytest.raises(
        ProviderError, match="scripted:test: the script is over: all of its 2 replies are used"
    ) as caught:
        await llm.complete(request())
    assert not caught.value.retryable
    assert [r.messages[0].content for r in llm.requests] == ["12345678", "question", "question"]


async def test_a_function_blocking_or_async_plays_the_model() -> None:
    def blocking(asked: ModelRequest) -> str:
        return asked.messages[-1].content.upper()

    async def awaited(asked: ModelRequest) -> str:
        await asyncio.sleep(0)
        return asked.messages[-1].content.upper()

    for function in (blocking, awaited):
        assert (await ScriptedProvider(function).complete(request("loud"))).text == "LOUD"


async def test_failures_can_be_scripted() -> None:
    error = ProviderError("x: busy", provider="x", status=503, retryable=True)
    llm = ScriptedProvider([error, ValueError("oops"), "fine"])
    with pytest.raises(ProviderError) as caught:
        await llm.complete(request())
    assert caught.value is error
    with pytest.raises(ProviderError, match="the script failed: ValueError: oops"):
        await llm.complete(request())
    assert (await llm.complete(request())).text == "fine"


def test_query_retries_like_a_real_model() -> None:
    llm = ScriptedProvider([ProviderError("x: lost", provider="x", retryable=True), "fine"])
    assert llm.query("hello", "system") == "fine"
    assert [message.role for message in llm.requests[1].messages] == ["system", "user"]


async def test_bounds_are_kept() -> None:
    with pytest.raises(ProviderError, match="longer than 3 bytes"):
        await ScriptedProvider(["éé"]).complete(request(max_reply_bytes=3))
    with pytest.raises(ProviderError, match=r"no reply within 0\.1 s"):
        await ScriptedProvider(["late"], latency_s=60).complete(request(timeout_s=0.1))


async def test_a_reply_of_the_wrong_type_is_named() -> None:
    wrong: Any = lambda _: 42  # noqa: E731
    with pytest.raises(ProviderError, match="the script's reply is of type int"):
        await ScriptedProvider(wrong).complete(request())


@pytest.mark.parametrize(
    ("replies", "text"),
    [(["a", 3], r"replies\[1\]: of type int"), ("text", "a str is neither"), (None, "a NoneType is neither")],
)
def test_what_is_no_script_is_refused(replies: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ScriptedProvider(replies)


def test_latency_is_checked() -> None:
    with pytest.raises(ConfigError, match="latency_s: -1"):
        ScriptedProvider([], latency_s=-1)


async def test_a_file_with_a_function(tmp_path: Path) -> None:
    script = tmp_path / "model.py"
    script.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\nclass State:\n    calls: int = 0\n"
        "state = State()\n"
        "def reply(request):\n    state.calls += 1\n    return f'{state.calls}: {request.messages[-1].content}'\n"
    )
    llm = load_scripted(script)
    assert llm.name == f"scripted:{script}", "two files in different folders are two models"
    assert [(await llm.complete(request(text))).text for text in "ab"] == ["1: a", "2: b"]


async def test_a_file_with_a_list(tmp_path: Path) -> None:
    script = tmp_path / "model.py"
    script.write_text("REPLIES = ['first']")
    assert (await load_scripted(script).complete(request())).text == "first"


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("1 +", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "neither reply"),
        ("reply = 'text'", "neither reply"),
    ],
)
def test_a_file_that_is_no_script_is_refused(tmp_path: Path, program: str, text: str) -> None:
    script = tmp_path / "model.py"
    script.write_text(program)
    with pytest.raises(ConfigError, match=text):
        load_scripted(script)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py: the file can't be executed: No such file or directory$"):
        load_scripted(tmp_path / "nowhere.py")
