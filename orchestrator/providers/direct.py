"""Blocking use of a provider: what stands behind `llm.query(prompt)` of the models of this package."""

from __future__ import annotations

from typing import Final

from orchestrator.limits import MIB, Deadline
from orchestrator.providers.base import Message, ModelReply, ModelRequest, Provider
from orchestrator.retry import with_retries
from orchestrator.sync import run_sync

QUERY_TIMEOUT_S: Final = 600.0
"""Seconds a direct `query` may take, retries included. A run of `RLM` has its own deadline."""

QUERY_MAX_REPLY_BYTES: Final = 4 * MIB


def ask(provider: Provider, prompt: str, system_prompt: str | None) -> str:
    """Ask one question and wait for the answer, with retries, outside of any run and its limits.

    Raises:
        ProviderError: No attempt succeeded.
    """
    system = (Message(role="system", content=system_prompt),) if system_prompt else ()
    return run_sync(_ask(provider, (*system, Message(role="user", content=prompt)))).text


async def _ask(provider: Provider, messages: tuple[Message, ...]) -> ModelReply:
    deadline = Deadline(QUERY_TIMEOUT_S)

    async def attempt() -> ModelReply:
        return await provider.complete(
            ModelRequest(messages=messages, timeout_s=deadline.remaining_s, max_reply_bytes=QUERY_MAX_REPLY_BYTES)
        )

    return await with_retries(attempt, deadline=deadline)
