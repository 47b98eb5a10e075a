"""A request that is more than the model can read at once, as servers say it, and what a run makes of it."""

from __future__ import annotations

import httpx2
import pytest

from orchestrator.errors import ProviderError
from orchestrator.providers.base import Message, ModelRequest
from tests.contract.vendors import ANTHROPIC, OPENAI, Make, Vendor, request

REFUSALS = [
    (OPENAI, 400, {"code": "context_length_exceeded", "message": "Your input is over the limit."}),
    (OPENAI, 400, {"message": "This model's maximum context length is 8192 tokens, you asked for 9000."}),
    (OPENAI, 400, {"type": "exceed_context_size_error", "message": "the request exceeds the available context size"}),
    (OPENAI, 413, {"message": "Input is too long for the model."}),
    (
        ANTHROPIC,
        400,
        {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"},
    ),
    (ANTHROPIC, 400, {"type": "invalid_request_error", "message": "input length and max_tokens exceed context window"}),
]
OTHERS = [
    (OPENAI, 400, {"message": "Unsupported value: 'temperature'."}),
    (OPENAI, 429, {"message": "Rate limit: too many tokens in this minute."}),
    (OPENAI, 500, {"message": "context window"}),
    (ANTHROPIC, 413, {"type": "request_too_large", "message": "The request is larger than 32 MB."}),
    (ANTHROPIC, 401, {"type": "authentication_error", "message": "invalid key"}),
]


async def refused(vendor: Vendor, status: int, error: dict[str, str]) -> ProviderError:
    answer = httpx2.Response(status, json={"type": "error", "error": error})
    with pytest.raises(ProviderError) as caught:
        await vendor.over(lambda _: answer).complete(request())
    return caught.value


@pytest.mark.parametrize(("vendor", "status", "error"), REFUSALS)
async def test_a_refusal_for_length_is_known(vendor: Vendor, status: int, error: dict[str, str]) -> None:
    caught = await refused(vendor, status, error)
    assert (caught.too_long, caught.retryable, caught.refused) == (True, False, True)


@pytest.mark.parametrize(("vendor", "status", "error"), OTHERS)
async def test_a_refusal_for_something_else_is_not_taken_for_one(
    vendor: Vendor, status: int, error: dict[str, str]
) -> None:
    assert not (await refused(vendor, status, error)).too_long


async def test_a_real_server_that_can_not_hold_it_is_understood(make: Make) -> None:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="one two three " * 20_000))
    with pytest.raises(ProviderError) as caught:
        await make().complete(ModelRequest(messages=messages, timeout_s=60, max_reply_bytes=10_000))
    assert caught.value.too_long, str(caught.value)
