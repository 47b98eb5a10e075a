"""The gate: the one way to a model. It alone holds the providers, and gives no call without a permit.

What a cell asks for arrives here as a prompt and its data, nothing else: which run it belongs to, how deep it is and
what is left of its budget the host knows by itself. A refusal goes back into the cell as a typed exception, so that
the model can finish with what it has.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.ledger import Ledger, Permit
from orchestrator.limits import Deadline, Limits
from orchestrator.prompts import SUB_SYSTEM_PROMPT, sub_message
from orchestrator.providers.base import Message, ModelReply, ModelRequest, Provider
from orchestrator.recorder import Recorder
from orchestrator.result import SubCall
from orchestrator.retry import with_retries
from sandbox.protocol import SubCallFailure

MESSAGE_OVERHEAD_TOKENS = 16
"""Added to a message's UTF-8 bytes for what a chat template puts around it."""


@dataclass(frozen=True, slots=True)
class _Refusal(Exception):  # noqa: N818 - a value on its way into the cell
    kind: str
    message: str


class Gate:
    """Permits, providers and concurrency of one run.

    Args:
        root: The root model.
        sub: The sub-model, or None where the run has no sub-calls.
        limits: The run's limits.
        ledger: The run's account.
        recorder: Is told of every sub-call and refusal.
    """

    def __init__(
        self, *, root: Provider | None, sub: Provider | None, limits: Limits, ledger: Ledger, recorder: Recorder
    ) -> None:
        self._root = root
        self._sub = sub
        self._limits = limits
        self._ledger = ledger
        self._recorder = recorder
        self._slots = asyncio.Semaphore(limits.max_concurrency)

    @property
    def allows_sub_calls(self) -> bool:
        """Whether a cell's sub-calls can be answered at all."""
        return self._sub is not None and self._limits.max_depth >= 1

    async def ask_root(self, messages: Sequence[Message]) -> ModelReply:
        """One root turn, retries included.

        Raises:
            LimitExceeded: Tokens or time of the run are over.
            ProviderError: No attempt succeeded.
        """
        if self._root is None:
            raise RuntimeError("this gate has no root model")
        return await self._ask(self._root, tuple(messages), sub_call=False)

    async def handle(self, prompt: str, data: str | None) -> str | SubCallFailure:
        """Answer one sub-call of a cell. Raises nothing but cancellation: the cell gets every failure as a value."""
        started = time.monotonic()
        call = SubCall(model=self._sub.name if self._sub else "", prompt=prompt, data=data)
        try:
            reply = await self._answer(prompt, data)
        except _Refusal as refusal:
            self._ledger.refuse()
            call.failed(refusal.kind, refusal.message)
        except ProviderError as error:
            call.failed("ProviderError", str(error))
        else:
            call.answered(reply)
        call.wall_s = time.monotonic() - started
        self._recorder.sub_call(call)
        return SubCallFailure(call.error_kind, call.error or "") if call.error_kind else call.reply or ""

    async def _answer(self, prompt: str, data: str | None) -> ModelReply:
        if self._sub is None or not self.allows_sub_calls:
            raise _Refusal("LimitExceeded", "this run has no sub-calls")
        size = len(prompt.encode("utf-8", "replace")) + len((data or "").encode("utf-8", "replace"))
        if size > self._limits.max_prompt_bytes:
            raise _Refusal("PromptTooLarge", f"{size:,} bytes; at most {self._limits.max_prompt_bytes:,} are allowed")
        messages = (
            Message(role="system", content=SUB_SYSTEM_PROMPT),
            Message(role="user", content=sub_message(prompt, data, nonce=secrets.token_hex(8))),
        )
        try:
            return await self._ask(self._sub, messages, sub_call=True)
        except LimitExceeded as error:
            raise _Refusal("LimitExceeded", str(error)) from None

    async def _ask(self, provider: Provider, messages: tuple[Message, ...], *, sub_call: bool) -> ModelReply:
        """Retries sit above the permit: each attempt has its own."""
        deadline = Deadline(min(self._limits.max_call_s, self._ledger.deadline.remaining_s))
        return await with_retries(lambda: self._attempt(provider, messages, deadline, sub_call), deadline=deadline)

    async def _attempt(
        self, provider: Provider, messages: tuple[Message, ...], deadline: Deadline, sub_call: bool
    ) -> ModelReply:
        async with self._slots:
            tokens = upper_bound_tokens(messages) + provider.max_output_tokens
            permit = await self._ledger.reserve(tokens=tokens, sub_call=sub_call)
            request = ModelRequest(
                messages=messages, timeout_s=deadline.remaining_s, max_reply_bytes=self._limits.max_reply_bytes
            )
            return await _complete(provider, request, permit)


async def _complete(provider: Provider, request: ModelRequest, permit: Permit) -> ModelReply:
    """The only place that calls a provider. The permit is settled on every way out, cancellation included."""
    try:
        reply = await provider.complete(request)
        permit.settle(reply.usage)
    except ProviderError as error:
        if error.refused:
            permit.settle_refused()
        raise
    finally:
        if not permit.settled:
            permit.settle_unknown()
    if len(reply.text.encode("utf-8", "replace")) > request.max_reply_bytes:
        raise ProviderError(
            f"{provider.name}: a reply of more than {request.max_reply_bytes:,} bytes", provider=provider.name
        )
    return reply


def upper_bound_tokens(messages: Sequence[Message]) -> int:
    """No tokenizer of today makes more than one token of a UTF-8 byte."""
    return sum(len(m.content.encode("utf-8", "replace")) + MESSAGE_OVERHEAD_TOKENS for m in messages)
