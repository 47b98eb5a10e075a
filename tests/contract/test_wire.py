"""What exactly is sent, and what becomes of odd answers: the real SDKs over a fake transport."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from orchestrator.errors import ProviderError
from orchestrator.limits import Deadline
from orchestrator.providers.base import Message, ModelRequest, TokenUsage
from orchestrator.retry import with_retries
from tests.contract.vendors import (
    ANTHROPIC,
    KEY,
    OPENAI,
    Interface,
    Vendor,
    chunk,
    message_delta,
    message_start,
    request,
    sse,
    stream_response,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Recorder:
    """Answers every request with the same response and keeps the bodies."""

    def __init__(self, *responses: httpx2.Response) -> None:
        self.responses = list(responses)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[httpx2.Headers] = []

    def __call__(self, sent: httpx2.Request) -> httpx2.Response:
        self.bodies.append(json.loads(sent.content))
        self.headers.append(sent.headers)
        return self.responses.pop(0)


async def failure(llm: Interface, *, max_reply_bytes: int = 100_000) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await llm.complete(request(max_reply_bytes=max_reply_bytes))
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


def conversation() -> ModelRequest:
    messages = (
        Message(role="system", content="You are terse."),
        Message(role="user", content="One?"),
        Message(role="assistant", content=""),
        Message(role="user", content="Two?"),
    )
    return ModelRequest(messages=messages, timeout_s=20, max_reply_bytes=1000)


# --- what is sent ---


async def test_openai_request_body() -> None:
    server = Recorder(stream_response(OPENAI.reply("ok")))
    await OPENAI.over(server, max_tokens=77, temperature=0).complete(conversation())
    assert server.bodies == [
        {
            "model": "some-model",
            "messages": [
                {"role": "system", "content": "You are terse."},
                {"role": "user", "content": "One?"},
                {"role": "assistant", "content": ""},
                {"role": "user", "content": "Two?"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": 77,
            "temperature": 0,
        }
    ]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_anthropic_request_body() -> None:
    server = Recorder(stream_response(ANTHROPIC.reply("ok")))
    await ANTHROPIC.over(server, max_tokens=77, temperature=0).complete(conversation())
    assert server.bodies == [
        {
            "model": "some-model",
            "system": "You are terse.",
            "messages": [
                {"role": "user", "content": "One?"},
                {"role": "assistant", "content": "(empty)"},
                {"role": "user", "content": "Two?"},
            ],
            "stream": True,
            "max_tokens": 77,
        }
    ]


async def test_older_servers_get_max_tokens_from_then_on() -> None:
    refusal = httpx2.Response(400, json={"error": {"message": "Unrecognized argument: max_completion_tokens"}})
    fine = [stream_response(OPENAI.reply("ok")) for _ in range(2)]
    server = Recorder(refusal, *fine)
    llm = OPENAI.over(server, max_tokens=77)
    for _ in range(2):
        assert (await with_retries(lambda: llm.complete(request()), deadline=Deadline(20))).text == "ok"
    fields = [sorted(key for key in body if key.startswith("max_")) for body in server.bodies]
    assert fields == [["max_completion_tokens"], ["max_tokens"], ["max_tokens"]]


async def test_a_server_that_wants_neither_is_asked_twice_only() -> None:
    """One sending for each attempt, since each has its permit."""
    refusal = {"error": {"message": "no max_completion_tokens, no max_tokens"}}
    server = Recorder(*(httpx2.Response(400, json=refusal) for _ in range(2)))
    llm = OPENAI.over(server)
    seen = []
    for sendings in (1, 2):
        error = await failure(llm)
        seen.append((error.status, error.retryable, error.refused))
        assert len(server.bodies) == sendings
    assert seen == [(400, True, True), (400, False, True)]


async def test_calls_at_the_same_time_all_learn_that_a_server_is_older() -> None:
    def serve(asked: httpx2.Request) -> httpx2.Response:
        if b"max_completion_tokens" in asked.content:
            return httpx2.Response(400, json={"error": {"message": "Unrecognized argument: max_completion_tokens"}})
        return stream_response(OPENAI.reply("ok"))

    llm = OPENAI.over(serve)
    calls = (with_retries(lambda: llm.complete(request()), deadline=Deadline(20)) for _ in range(5))
    assert [reply.text for reply in await asyncio.gather(*calls)] == ["ok"] * 5


async def test_the_sdks_own_retries_are_off_also_for_a_callers_client(vendor: Vendor) -> None:
    server = Recorder(httpx2.Response(503, json={"error": {"message": "busy"}}))
    error = await failure(vendor.over(server))
    assert (error.status, error.retryable, error.refused) == (503, True, True)
    assert len(server.bodies) == 1


# --- replies ---


async def test_the_pieces_of_a_reply_are_joined(vendor: Vendor) -> None:
    reply = await vendor.answering(vendor.reply("Grüße, ", "", "wor", "ld 🌍")).complete(request())
    assert reply.text == "Grüße, world 🌍"
    assert reply.usage == TokenUsage(input_tokens=9, output_tokens=4)
    assert reply.finish_reason == "stop"


async def test_the_pieces_are_told_as_they_come_and_before_a_stream_that_breaks(vendor: Vendor) -> None:
    told: list[str] = []
    asked = dataclasses.replace(request(), on_text=told.append)
    await vendor.answering(vendor.reply("one ", "two")).complete(asked)
    assert told == ["one ", "two"]
    told.clear()
    with pytest.raises(ProviderError):
        await vendor.answering(vendor.beginning() + vendor.text_event("half")).complete(asked)
    assert told == ["half"]


async def test_an_empty_reply_is_a_reply(vendor: Vendor) -> None:
    reply = await vendor.answering(vendor.reply()).complete(request())
    assert (reply.text, reply.finish_reason) == ("", "stop")


async def test_a_surrogate_pair_in_two_pieces_is_one_character_and_half_a_pair_is_none(vendor: Vendor) -> None:
    reply = await vendor.answering(vendor.reply("\ud83c", "\udf0d", " \ud83c")).complete(request())
    assert reply.text == "🌍 \ufffd"


OPENAI_FINISH = {
    "stop": "stop",
    "length": "length",
    "content_filter": "refusal",
    "tool_calls": "other",
    "something_new": "other",
}
ANTHROPIC_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "window",
    "refusal": "refusal",
    "tool_use": "other",
    "pause_turn": "other",
    "something_new": "other",
}


@pytest.mark.parametrize(("said", "meant"), OPENAI_FINISH.items())
async def test_openai_finish_reasons(said: str, meant: str) -> None:
    body = sse(chunk({"content": "text"}), chunk({}, finish=said), "[DONE]")
    reply = await OPENAI.answering(body).complete(request())
    assert (reply.text, reply.finish_reason) == ("text", meant)


@pytest.mark.parametrize(("said", "meant"), ANTHROPIC_FINISH.items())
async def test_anthropic_finish_reasons(said: str, meant: str) -> None:
    body = ANTHROPIC.beginning() + ANTHROPIC.text_event("text") + sse(message_delta(said, {"output_tokens": 1}))
    reply = await ANTHROPIC.answering(body).complete(request())
    assert (reply.text, reply.finish_reason) == ("text", meant)


async def test_openai_refusal_text() -> None:
    body = sse(chunk({"refusal": "I can't "}), chunk({"refusal": "do that."}), chunk({}, finish="stop"), "[DONE]")
    reply = await OPENAI.answering(body).complete(request())
    assert (reply.text, reply.finish_reason) == ("I can't do that.", "refusal")


async def test_anthropic_thinking_is_no_text() -> None:
    body = sse(
        message_start({"input_tokens": 5, "output_tokens": 1}),
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hmm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "abc"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "new_kind", "data": "x"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": "Pa"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "ris"}},
        {"type": "event_of_the_future"},
        message_delta("end_turn", {"output_tokens": 12}),
        {"type": "message_stop"},
    )
    reply = await ANTHROPIC.answering(body).complete(request())
    assert reply.text == "Paris"
    assert reply.usage.output_tokens == 12


# --- usage ---


async def test_openai_cached_tokens_are_part_of_the_input() -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 7,
        "total_tokens": 1007,
        "prompt_tokens_details": {"cached_tokens": 900, "cache_write_tokens": 64},
    }
    body = sse(chunk({"content": "hi"}), chunk({}, finish="stop"), {**chunk(None), "usage": usage}, "[DONE]")
    reply = await OPENAI.answering(body).complete(request())
    assert reply.usage == TokenUsage(input_tokens=1000, cached_input_tokens=900, cache_write_tokens=64, output_tokens=7)


async def test_anthropic_cached_tokens_are_added_to_the_input() -> None:
    usage = {
        "input_tokens": 100,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 50,
        "output_tokens": 1,
    }
    body = (
        sse(message_start(usage))
        + ANTHROPIC.text_event("hi")
        + sse(message_delta("end_turn", {"output_tokens": 7, "input_tokens": 0}), {"type": "message_stop"})
    )
    reply = await ANTHROPIC.answering(body).complete(request())
    assert reply.usage == TokenUsage(input_tokens=1050, cached_input_tokens=900, cache_write_tokens=50, output_tokens=7)


def with_usage(vendor: Vendor, sent: object, received: object) -> bytes:
    """A stream with these numbers of tokens, however absurd."""
    if vendor is OPENAI:
        usage = {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": 0}
        return sse(chunk({"content": "x" * 8}), chunk({}, finish="stop"), {**chunk(None), "usage": usage}, "[DONE]")
    start = message_start({"input_tokens": sent, "output_tokens": received})
    return sse(start) + vendor.text_event("x" * 8) + sse(message_delta("end_turn", {"output_tokens": received}))


@pytest.mark.parametrize(("sent", "received"), [(None, None), (-5, 3), (10, -3), (10**15, 3), (0, 0), (10, 2.5)])
async def test_a_count_that_cant_be_is_estimated(vendor: Vendor, sent: object, received: object) -> None:
    reply = await vendor.answering(with_usage(vendor, sent, received)).complete(request("q" * 26))
    # "Be brief." and 26 characters are 35: 9 tokens at 4 characters each.
    assert reply.usage == TokenUsage(input_tokens=9, output_tokens=2, estimated=True)


async def test_missing_usage_is_estimated(vendor: Vendor) -> None:
    body = vendor.beginning() + vendor.text_event("x" * 8) + vendor.end(usage=False)
    if vendor is ANTHROPIC:
        body = body.replace(b'"input_tokens": 9', b'"input_tokens": null')
    reply = await vendor.answering(body).complete(request("q" * 26))
    assert reply.usage.estimated
    assert reply.usage.input_tokens == 9


# --- broken and hostile answers ---


async def test_a_reply_of_exactly_the_limit_passes_and_one_byte_more_does_not(vendor: Vendor) -> None:
    body = vendor.reply("é" * 50)
    reply = await vendor.answering(body).complete(request(max_reply_bytes=100))
    assert len(reply.text.encode()) == 100
    error = await failure(vendor.answering(body), max_reply_bytes=99)
    assert "longer than 99 bytes" in str(error)
    assert not error.retryable


class WatchedStream(httpx2.AsyncByteStream):
    """A body that knows whether it was closed and has more to give than anybody reads."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield self.body

    async def aclose(self) -> None:
        self.closed = True


async def test_a_stream_is_closed_before_its_error_is_raised(vendor: Vendor) -> None:
    stream = WatchedStream(vendor.text_event("and on"))
    response = httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)
    closed_at: list[bool] = []
    try:
        await vendor.over(lambda _: response).complete(request(max_reply_bytes=10))
    except ProviderError:
        closed_at.append(stream.closed)
    assert closed_at == [True]


async def test_bytes_without_text_are_cut_also_for_a_callers_client(vendor: Vendor) -> None:
    stream = WatchedStream(b": " + b"x" * 1_000_000 + b"\n\n")
    response = httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)
    llm = vendor.over(lambda _: response, max_tokens=1)
    with pytest.raises(ProviderError, match="for one reply"):
        await asyncio.wait_for(llm.complete(request(timeout_s=60)), 50)


async def test_a_stream_without_its_end_is_an_error(vendor: Vendor) -> None:
    error = await failure(vendor.answering(vendor.beginning() + vendor.text_event("half an ans")))
    assert (error.retryable, error.refused, error.status) == (True, False, None)
    assert "half an ans" not in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"data: [DONE]\n\n", b"\xff\xfe\x00\n\n", b"data: 7\n\n"])
async def test_an_answer_that_is_no_stream_is_an_error(vendor: Vendor, body: bytes) -> None:
    error = await failure(vendor.answering(body))
    assert error.retryable
    assert not error.refused


@pytest.mark.parametrize("content", [["a", "list"], {"a": "dict"}, 17, True])
async def test_a_piece_that_is_no_text_is_an_error(vendor: Vendor, content: Any) -> None:
    body = vendor.beginning() + vendor.text_event(content) + vendor.end()
    error = await failure(vendor.answering(body))
    assert "can't be read" in str(error)


async def test_chunks_of_the_wrong_shape_are_an_error() -> None:
    shapes: list[dict[str, Any]] = [
        {"choices": [None]},
        {"choices": {"a": 1}},
        {"choices": [{}]},
        {"usage": 3, "choices": []},
        {},
    ]
    for odd in shapes:
        error = await failure(OPENAI.answering(sse(odd)))
        assert error.retryable


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [("overloaded_error", 529, True), ("api_error", 500, True), ("invalid_request_error", 400, False)],
)
async def test_an_error_inside_of_a_stream(vendor: Vendor, kind: str, status: int, retryable: bool) -> None:
    error_object = {"type": kind, "message": "sorry\x07"}
    event = {"error": error_object} if vendor is OPENAI else {"type": "error", "error": error_object}
    error = await failure(vendor.answering(vendor.beginning() + sse(event)))
    assert (error.status, error.retryable, error.refused) == (status, retryable, False)
    assert "sorry\\x07" in str(error)


async def test_a_long_and_dirty_error_text_is_bounded_escaped_and_without_the_key(vendor: Vendor) -> None:
    text = f"\x1b]0;owned\x07 {KEY} \u202eevil " + "long " * 1000
    server = Recorder(httpx2.Response(400, json={"error": {"message": text}}))
    error = await failure(vendor.over(server))
    assert KEY not in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 400


@pytest.mark.parametrize("page", ["<html><h1>Bad gateway</h1></html>", "", '"text"', "[1]", '{"error": 5}'])
async def test_an_error_page_that_is_no_json(vendor: Vendor, page: str) -> None:
    error = await failure(vendor.over(Recorder(httpx2.Response(502, text=page))))
    assert (error.status, error.retryable, error.refused) == (502, True, True)


async def test_out_of_credit_is_not_retried() -> None:
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    error = await failure(OPENAI.over(Recorder(httpx2.Response(429, json=body))))
    assert (error.status, error.retryable) == (429, False)


@pytest.mark.parametrize(
    ("status", "wish", "retryable"), [(503, "false", False), (400, "true", True), (500, "x", True)]
)
async def test_the_servers_own_word_on_retries_counts(vendor: Vendor, status: int, wish: str, retryable: bool) -> None:
    server = Recorder(httpx2.Response(status, headers={"x-should-retry": wish}, json={}))
    assert (await failure(vendor.over(server))).retryable is retryable


async def test_a_transport_that_fails_in_any_way_is_a_provider_error(vendor: Vendor) -> None:
    def fail(sent: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError(f"broken while sending {sent.headers['authorization']}")

    error = await failure(vendor.over(fail))
    assert error.retryable
    assert KEY not in str(error)


async def test_calls_run_side_by_side(vendor: Vendor) -> None:
    llm = vendor.over(lambda sent: stream_response(vendor.reply(json.loads(sent.content)["messages"][-1]["content"])))
    replies = await asyncio.gather(*(llm.complete(request(f"question {i}")) for i in range(32)))
    assert [reply.text for reply in replies] == [f"question {i}" for i in range(32)]
