"""The seam to a language model: what a provider is asked, what it answers, and the base class users extend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "window", "refusal", "other"]
"""``length``: the reply was cut at its own limit; ``window``: at what the model can hold at once."""

DEFAULT_MAX_OUTPUT_TOKENS: Final = 16_384
"""Output tokens asked for where the caller says nothing: room for a reasoning model's hidden tokens and a cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of the content."""
        return len(self.content.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model.

    Attributes:
        messages: System message first where there is one, then user and assistant in turn.
        timeout_s: Seconds the whole call may take, streaming included; the provider raises when they are over.
        max_reply_bytes: UTF-8 bytes of reply text after which the provider stops reading and raises.
        on_text: Where somebody watches: to be called, on the event loop, with the reply's text as it comes, piece by
            piece. A provider that has the text at its end alone need not call it.
        conversation: Later requests will begin with the same messages, so a provider's cache is worth writing.
    """

    messages: tuple[Message, ...]
    timeout_s: float
    max_reply_bytes: int
    on_text: Callable[[str], None] | None = field(default=None, compare=False, repr=False)
    conversation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens of one call.

    Attributes:
        input_tokens: All input tokens, cached ones included (whatever the vendor's own convention).
        cached_input_tokens: Those of them read from the provider's cache.
        cache_write_tokens: Those of them written to it.
        output_tokens: Output tokens, hidden reasoning included.
        estimated: The provider gave no count; these are 4 characters a token.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    estimated: bool = False

    def as_dict(self) -> dict[str, int]:
        """By the names of the fields. `dataclasses.asdict` copies deeply, which each call would pay for."""
        return {name: getattr(self, name) for name in self.__slots__}


def estimate_usage(messages: Iterable[Message], reply_text: str) -> TokenUsage:
    """Estimate the tokens of a call whose provider gave no count: 4 characters a token, rounded up."""
    prompt_chars = sum(len(message.content) for message in messages)
    return TokenUsage(input_tokens=-(-prompt_chars // 4), output_tokens=-(-len(reply_text) // 4), estimated=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What a model answered. `finish_reason` is "length" or "window" where the text was cut."""

    text: str
    usage: TokenUsage
    finish_reason: FinishReason = "stop"


@runtime_checkable
class Provider(Protocol):
    """What the gate calls. One call is one attempt: a provider never retries, the gate does."""

    @property
    def name(self) -> str:
        """Vendor and model, for example ``openai:gpt-5.4-mini``; stands in traces and errors."""

    @property
    def max_output_tokens(self) -> int:
        """Upper bound of output tokens of one call; the gate reserves it."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt.

        Raises:
            ProviderError: Whatever went wrong, with `retryable` and `retry_after_s` set. Never a vendor's own
                exception. An empty reply is a reply.
        """


class LLMInterface(ABC):
    """Base of every model a user passes as ``root_llm`` or ``sub_llm``.

    A subclass with these two methods is enough: `query` is then run in a thread and its usage estimated (and
    marked so). A class that also is a `Provider` is awaited instead.
    """

    @abstractmethod
    def query(self, prompt: str, system_prompt: str | None = None) -> str:
        """Answer one prompt. Blocks. Raise any exception for a failure; it is reported, not retried."""

    @abstractmethod
    def get_model_info(self) -> dict[str, Any]:
        """Facts about the model: at least ``{"provider": str, "model": str}``. Holds no key."""
