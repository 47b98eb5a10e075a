"""The two vendors side by side: how to make an interface, and what their streams look like on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai

from orchestrator.providers.anthropic import AnthropicInterface
from orchestrator.providers.base import Message, ModelRequest
from orchestrator.providers.openai import OpenAIInterface

KEY = "sk-test-0123456789abcdef"
Interface = OpenAIInterface | AnthropicInterface
Make = Callable[..., Interface]
Handler = Callable[[httpx2.Request], httpx2.Response]


def request(prompt: str = "What is it?", *, timeout_s: float = 20, max_reply_bytes: int = 100_000) -> ModelRequest:
    """A request with a system message and one question."""
    messages = (Message(role="system", content="Be brief."), Message(role="user", content=prompt))
    return ModelRequest(messages=messages, timeout_s=timeout_s, max_reply_bytes=max_reply_bytes)


def sse(*events: dict[str, Any] | str) -> bytes:
    """Server-sent events. An Anthropic event names its type in a line of its own."""
    lines = []
    for event in events:
        if isinstance(event, dict) and "type" in event and "choices" not in event:
            lines.append(f"event: {event['type']}\n")
        lines.append(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
    return "".join(lines).encode()


@dataclass(frozen=True)
class Vendor:
    """One vendor's interface and wire format."""

    name: str
    interface: type[OpenAIInterface] | type[AnthropicInterface]
    path: str

    def over(self, handler: Handler, **settings: Any) -> Interface:
        """An interface whose SDK client talks to `handler` instead of a socket; the SDK would retry 5 times."""
        transport = httpx2.MockTransport(handler)
        client: Any
        if self.interface is OpenAIInterface:
            http = openai.DefaultAsyncHttpx2Client(transport=transport)
            client = openai.AsyncOpenAI(api_key=KEY, http_client=http, max_retries=5)
        else:
            http = anthropic.DefaultAsyncHttpxClient(transport=transport)
            client = anthropic.AsyncAnthropic(api_key=KEY, http_client=http, max_retries=5)
        return self.interface("some-model", client=client, **settings)

    def answering(self, body: bytes, **settings: Any) -> Interface:
        """An interface whose server answers every request with this stream."""
        return self.over(lambda _: stream_response(body), **settings)

    def text_event(self, text: str) -> bytes:
        """One piece of reply."""
        if self.name == "openai":
            return sse(chunk({"content": text}))
        return sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})

    def beginning(self) -> bytes:
        """What comes before the first piece."""
        if self.name == "openai":
            return sse(chunk({"role": "assistant", "content": ""}))
        return sse(
            message_start({"input_tokens": 9, "output_tokens": 1}),
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        )

    def end(self, *, usage: bool = True) -> bytes:
        """What comes after the last piece."""
        if self.name == "openai":
            counted = [{**chunk(None), "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}}]
            return sse(chunk({}, finish="stop"), *(counted if usage else []), "[DONE]")
        return sse(
            {"type": "content_block_stop", "index": 0},
            message_delta("end_turn", {"output_tokens": 4} if usage else {}),
            {"type": "message_stop"},
        )

    def reply(self, *pieces: str) -> bytes:
        """A whole stream."""
        return self.beginning() + b"".join(self.text_event(piece) for piece in pieces) + self.end()


def chunk(delta: dict[str, Any] | None, *, finish: str | None = None) -> dict[str, Any]:
    """One chunk of OpenAI's; without a delta it has no choice."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "some-model", "choices": choices}


def message_start(usage: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's first event."""
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "some-model", "content": [], "usage": usage}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}}


def message_delta(stop_reason: str | None, usage: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's last event but one."""
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": None}, "usage": usage}


def stream_response(body: bytes) -> httpx2.Response:
    """A response that holds a stream."""
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)


OPENAI = Vendor("openai", OpenAIInterface, "/v1")
ANTHROPIC = Vendor("anthropic", AnthropicInterface, "/anthropic")
