"""Anthropic's messages."""

from __future__ import annotations

import functools
import logging
from typing import Any, ClassVar, Final

from orchestrator.providers.base import DEFAULT_MAX_OUTPUT_TOKENS, FinishReason, Message, ModelRequest
from orchestrator.providers.sampling import checked_sampling
from orchestrator.providers.sdk import SDKInterface
from orchestrator.providers.streaming import ReplyBuilder, believed_usage, is_count

_log = logging.getLogger(__name__)

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "window",
    "refusal": "refusal",
}
_EMPTY: Final = "(empty)"  # the API refuses a message without text; an empty reply is part of a history all the same


class AnthropicInterface(SDKInterface):
    """A model behind Anthropic's messages.

    The SDK is loaded at the first call. Each call is one attempt, streamed; the SDK's own retries are off. Only
    text is kept: thinking and other blocks are skipped. A root's conversation is cached at the server: its system
    prompt and, turn by turn, all of it so far.

    Args:
        model: Name of the model, as the server knows it.
        api_key: Key; else the environment variable ANTHROPIC_API_KEY. Not needed for a server on this machine.
        base_url: Address of a compatible server, without ``/v1``; else ANTHROPIC_BASE_URL; else Anthropic's own.
            A server on this machine is reached without a proxy.
        client: An async client of the Anthropic SDK to use instead, for example ``AsyncAnthropicBedrock(...)``.
            Use it from one event loop only; closing it stays with the caller.
        max_tokens: Most output tokens of one reply, thinking included, 1 to 10,000,000.
        temperature: The API takes none: it is dropped, and a warning is logged once.

    Raises:
        ConfigError: A setting is wrong or the key is missing; the text names the variable.
    """

    vendor: ClassVar[str] = "anthropic"
    api: ClassVar[str] = "Anthropic"
    key_variable: ClassVar[str] = "ANTHROPIC_API_KEY"
    base_url_variable: ClassVar[str] = "ANTHROPIC_BASE_URL"

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        client: Any = None,
        max_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS,
        temperature: float | None = None,
    ) -> None:
        super().__init__(model, api_key=api_key, base_url=base_url, client=client, max_tokens=max_tokens)
        if checked_sampling(self, {"temperature": temperature}):
            _warn_of_temperature()

    def _load_sdk(self) -> Any:
        import anthropic

        return anthropic

    def _new_client(self, *, local: bool, bound: Any) -> Any:
        http = self._sdk.DefaultAsyncHttpxClient(
            event_hooks={"response": [bound]}, trust_env=not local, follow_redirects=False
        )
        return self._sdk.AsyncAnthropic(api_key=self._api_key, base_url=self._base_url, max_retries=0, http_client=http)

    async def _open(self, client: Any, request: ModelRequest, timing: Any) -> Any:
        system: Any = "\n\n".join(message.content for message in request.messages if message.role == "system")
        messages = [_as_param(message) for message in request.messages if message.role != "system"]
        if request.conversation:
            system = [_cached(system)] if system else ""
            messages[-1:] = [last | {"content": [_cached(last["content"])]} for last in messages[-1:]]
        return await client.messages.create(
            model=self._model,
            max_tokens=self._max_tokens,
            messages=messages,
            stream=True,
            timeout=timing,
            **({"system": system} if system else {}),
        )

    def _take(self, event: Any, builder: ReplyBuilder) -> None:
        if event.type == "message_start":
            _count(event.message.usage, builder)
        elif event.type == "content_block_start" and event.content_block.type == "text":
            builder.add(event.content_block.text)
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            builder.add(event.delta.text)
        elif event.type == "message_delta":
            _count(event.usage, builder)
            if event.delta.stop_reason is not None:
                builder.finish_reason = _FINISH.get(event.delta.stop_reason, "other")


def _cached(text: str) -> dict[str, Any]:
    """A block that the server is to cache with all that stands before it: for five minutes, renewed by each reading.
    The next turn's request finds it, as it looks some twenty blocks back. What is too short is not cached, for nothing.
    """
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


def _as_param(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content if message.content.strip() else _EMPTY}


def _count(usage: Any, builder: ReplyBuilder) -> None:
    """Keep the highest of each count: they only grow while a reply is streamed. Cached input is counted apart here."""
    for field in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"):
        count = getattr(usage, field, None)
        if is_count(count):
            builder.counts[field] = max(count, builder.counts.get(field, 0))
    cached = builder.counts.get("cache_read_input_tokens", 0)
    written = builder.counts.get("cache_creation_input_tokens", 0)
    builder.usage = believed_usage(
        input_tokens=builder.counts.get("input_tokens", 0) + cached + written,
        cached=cached,
        written=written,
        output_tokens=builder.counts.get("output_tokens"),
    )


@functools.cache
def _warn_of_temperature() -> None:
    """Say it once a process."""
    _log.warning("Anthropic's API takes no temperature; it is dropped")
