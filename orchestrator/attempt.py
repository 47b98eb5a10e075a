"""One attempt at a model with the permit for it: the only place of a run that calls a provider."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Final, get_args

from orchestrator.errors import ProviderError
from orchestrator.permit import Permit
from orchestrator.providers.base import FinishReason, ModelReply, ModelRequest, Provider, TokenUsage

_FINISH_REASONS: Final = get_args(FinishReason)
_MOST_TOKENS: Final = 2**53  # what every reader of JSON takes; an integer of 5,000 digits can't even be written
OVERTIME_S: Final = 1.0
"""A provider keeps its time-out itself and knows best what to say of it; one that does not is cut so much later."""


async def attempt(provider: Provider, request: ModelRequest, permit: Permit) -> ModelReply:
    """Make one attempt. The permit is settled on every way out, cancellation included.

    Raises:
        ProviderError: Whatever its author made of the contract, that is all it can raise, and it ends in time.
    """
    try:
        reply = await _call(provider, request)
        permit.settle(reply.usage)
    except ProviderError as error:
        if error.refused:
            permit.settle_refused()
        raise
    finally:
        if not permit.settled:
            permit.settle_unknown()
    if len(reply.text.encode("utf-8", "replace")) > request.max_reply_bytes:
        text = f"{provider.name}: a reply of more than {request.max_reply_bytes:,} bytes"
        raise ProviderError(text, provider=provider.name, outage=False)
    return reply


async def _call(provider: Provider, request: ModelRequest) -> ModelReply:
    try:
        async with asyncio.timeout(request.timeout_s + OVERTIME_S) as limit:
            reply = await provider.complete(request)
    except ProviderError:
        raise
    except Exception as error:
        what = "no reply in time" if limit.expired() else f"complete() raised {type(error).__name__}"
        raise ProviderError(f"{provider.name}: {what}", provider=provider.name) from error
    if not _is_sound(reply):
        raise ProviderError(f"{provider.name}: complete() returned no ModelReply", provider=provider.name)
    if reply.finish_reason not in _FINISH_REASONS:  # a server's own word, which may be any text: traces have it
        return dataclasses.replace(reply, finish_reason="other")
    return reply


def _is_sound(reply: object) -> bool:
    match reply:
        case ModelReply(
            text=str(),
            usage=TokenUsage(
                input_tokens=int() as read,
                output_tokens=int() as written,
                cached_input_tokens=int() as cached,
                cache_write_tokens=int() as kept,
                estimated=bool(),
            ),
        ):
            return max(map(abs, (read, written, cached, kept))) <= _MOST_TOKENS
    return False
