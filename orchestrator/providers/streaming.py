"""Putting a streamed reply together, within bounds, whoever sends it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from orchestrator.providers.base import FinishReason, ModelReply, ModelRequest, TokenUsage, estimate_usage
from orchestrator.providers.failures import ReplyTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_MOST_TOKENS: Final = 10**9  # of one call; a larger count is not believed


class ReplyBuilder:
    """Collects the pieces of one reply.

    Attributes:
        finish_reason: Set when the vendor said why the reply ended; a stream without it is a broken one.
        refused: The text is the model's refusal, not its answer.
        usage: Set when the vendor gave a count that can be believed.
        counts: The vendor's own counts by its own names, where they come in parts.
    """

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._pieces: list[str] = []
        self._bytes = 0
        self.finish_reason: FinishReason | None = None
        self.refused = False
        self.usage: TokenUsage | None = None
        self.counts: dict[str, int] = {}

    def add(self, piece: object) -> None:
        """Append a piece of text; None and "" are nothing.

        Raises:
            ReplyTooLargeError: The text is longer than the request allows.
            TypeError: The piece is no text.
        """
        if piece is None or piece == "":
            return
        if not isinstance(piece, str):
            raise TypeError(f"a piece of the reply is of type {type(piece).__name__}, not text")
        self._bytes += len(piece.encode("utf-8", "surrogatepass"))
        if self._bytes > self._request.max_reply_bytes:
            raise ReplyTooLargeError(
                f"the reply is longer than {self._request.max_reply_bytes:,} bytes and was cut off"
            )
        self._pieces.append(piece)
        if self._request.on_text is not None:
            self._request.on_text(piece)

    def reply(self) -> ModelReply:
        """The whole reply; to be called once `finish_reason` is set."""
        # JSON escapes may have split a surrogate pair over two pieces; what is still single after joining is no text.
        text = "".join(self._pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        usage = self.usage or estimate_usage(self._request.messages, text)
        finish_reason = "refusal" if self.refused else self.finish_reason
        return ModelReply(text=text, usage=usage, finish_reason=finish_reason or "other")


def believed_usage(
    *, input_tokens: object, cached: object, output_tokens: object, written: object = None
) -> TokenUsage | None:
    """A vendor's own count, or None where it is missing or can't be (negative, absurd, an empty prompt).

    Args:
        input_tokens: All input tokens, cached ones included.
        cached: Those read from the cache; what is no count is taken as 0.
        output_tokens: Output tokens.
        written: Those written to the cache; likewise.
    """
    if not is_count(input_tokens) or not is_count(output_tokens) or input_tokens == 0:
        return None
    read = min(cached if is_count(cached) else 0, input_tokens)
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=read,
        cache_write_tokens=min(written if is_count(written) else 0, input_tokens - read),
    )


def is_count(value: object) -> TypeGuard[int]:
    """Whether a vendor's number of tokens can be believed."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS


def bound_body(response: Any, max_bytes: int) -> None:
    """Make an httpx response (either generation) stop after so many decoded bytes, also when read as a whole.

    The text's own bound doesn't see what carries no text: thinking, comments, a line that never ends, an error page.
    """
    read = response.aiter_bytes

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        seen = 0
        async with aclosing(read(chunk_size)) as chunks:
            async for chunk in chunks:
                seen += len(chunk)
                if seen > max_bytes:
                    raise ReplyTooLargeError(f"the server sent more than {max_bytes:,} bytes for one reply")
                yield chunk

    response.aiter_bytes = aiter_bytes
