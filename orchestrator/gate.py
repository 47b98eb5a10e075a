"""The gate: the one way to a model. It alone holds the providers, and gives no call without a permit.

Policies (`orchestrator.policies`) are asked here about each attempt before its permit is reserved, and about each reply
before anybody gets it.

What a cell asks for arrives here as a prompt and its data, nothing else: which run it belongs to, how deep it is and
what is left of its budget the host knows by itself. A refusal goes back into the cell as a typed exception, so that
the model can finish with what it has.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.errors import LimitExceeded, PolicyRefused, ProviderError
from orchestrator.ledger import Ledger
from orchestrator.limits import Deadline, Limits
from orchestrator.permit import Permit
from orchestrator.policies.base import Role
from orchestrator.policies.chain import PolicyChain
from orchestrator.prompts import SUB_SYSTEM_PROMPT, sub_message
from orchestrator.providers.base import Message, ModelReply, ModelRequest, Provider, TokenUsage
from orchestrator.providers.prices import Price, price_of
from orchestrator.recorder import Recorder
from orchestrator.result import SubCall
from orchestrator.retry import with_retries
from sandbox.messages import SubCallFailure

MESSAGE_OVERHEAD_TOKENS: Final = 16
"""Added to a message's UTF-8 bytes for what a chat template puts around it."""

OVERTIME_S: Final = 1.0
"""A provider keeps its time-out itself and knows best what to say of it; one that does not is cut so much later."""


class _Refusal(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class _Call:
    """One call of a model, what policies left of its messages, and whether an attempt at it was made."""

    provider: Provider
    role: Role
    depth: int
    messages: list[Message]
    sent: bool = False


class Gate:
    """Permits, providers, policies and concurrency of one run.

    Args:
        root: The root model.
        sub: The sub-model, or None where the run has no sub-calls.
        limits: The run's limits.
        ledger: The run's account.
        recorder: Is told of every sub-call and refusal.
        policies: Asked about every attempt and every reply.
        depth: The root's; its sub-calls are one deeper.
        slots: Calls in flight of the whole recursion tree; by default this run's own.
        prices: The caller's own prices, by the providers' names.
    """

    def __init__(
        self,
        *,
        root: Provider | None,
        sub: Provider | None,
        limits: Limits,
        ledger: Ledger,
        recorder: Recorder,
        policies: PolicyChain | None = None,
        depth: int = 0,
        slots: asyncio.Semaphore | None = None,
        prices: Mapping[str, Price] | None = None,
    ) -> None:
        self._root = root
        self._sub = sub
        self._limits = limits
        self._ledger = ledger
        self._recorder = recorder
        self._policies = policies or PolicyChain()
        self._depth = depth
        self._prices = prices
        self._slots = slots or asyncio.Semaphore(limits.max_concurrency)

    @property
    def allows_sub_calls(self) -> bool:
        """Whether a cell's sub-calls can be answered at all."""
        return self._sub is not None and self._depth < self._limits.max_depth

    @property
    def allows_children(self) -> bool:
        """Whether a cell may start a child run: it and a sub-call of its own must fit."""
        return self.allows_sub_calls and self._depth + 1 < self._limits.max_depth

    def refuses_child(self, question: str) -> SubCallFailure | None:
        """Why a child run may not start; None where it may."""
        if not self.allows_children:
            most = self._limits.max_depth
            return SubCallFailure(
                "LimitExceeded", f"max_depth is {most}: no child run starts at depth {self._depth + 1}"
            )
        size = len(question.encode("utf-8", "replace"))
        if size > self._limits.max_prompt_bytes:
            return SubCallFailure(
                "PromptTooLarge", f"{size:,} bytes; at most {self._limits.max_prompt_bytes:,} are allowed"
            )
        return self._refuses_first_call(size)

    def _refuses_first_call(self, question_bytes: int) -> SubCallFailure | None:
        """A child whose root could not be asked even once gets no box: starting it would cost the cell nothing."""
        root = self._root
        if root is None:
            return SubCallFailure("LimitExceeded", "this run has no root model")
        output_tokens = max(0, root.max_output_tokens)
        price = price_of(root.name, self._prices)
        most_usd = price.most_usd(input_tokens=question_bytes, output_tokens=output_tokens) if price else None
        try:
            self._ledger.check(question_bytes + output_tokens, sub_call=True, most_usd=most_usd)
        except LimitExceeded as error:
            return SubCallFailure("LimitExceeded", str(error))
        return None

    def count_refusal(self) -> None:
        """Count something that was refused."""
        self._ledger.refuse()

    def budget(self) -> dict[str, Any]:
        """What is left, as a cell's `budget()` returns it: for the model's eyes alone. None is unlimited."""
        left = self._ledger.left()
        turns = self._limits.max_turns - len(self._recorder.turns)
        return {
            "sub_calls": left["sub_calls"] if self.allows_sub_calls else 0,
            "tokens": left["tokens"],
            "cost_usd": left["cost_usd"],
            "seconds": left["wall_s"],
            "turns": turns if math.isfinite(turns) else None,
            "depth": self._limits.max_depth - self._depth,
        }

    def left(self) -> dict[str, Any]:
        """What is left of the budget, for a record."""
        return self._ledger.left()

    async def ask_root(self, messages: list[Message]) -> ModelReply:
        """One root turn, retries included.

        Args:
            messages: The conversation. What a policy redacts in it stays redacted: it is changed in place.

        Raises:
            LimitExceeded: Tokens or time of the run are over.
            PolicyRefused: A policy refuses the request or the reply.
            ProviderError: No attempt succeeded.
        """
        if self._root is None:
            raise RuntimeError("this gate has no root model")
        call = _Call(self._root, "root", self._depth, messages)
        return self._received(call, await self._ask(call))

    async def handle(self, prompt: str, data: str | None) -> str | SubCallFailure:
        """Answer one sub-call of a cell. Raises nothing but cancellation: the cell gets every failure as a value."""
        started = time.monotonic()
        call = SubCall(model=self._sub.name if self._sub else "", prompt=prompt, data=data, depth=self._depth + 1)
        record, asked = self._recorder.sub_call, None
        try:
            asked = self._sub_call(prompt, data)
            reply = await self._ask(asked)
            call.usage = reply.usage
            reply = self._received(asked, reply)
            call.answered(reply)
            return reply.text
        except (_Refusal, LimitExceeded, PolicyRefused) as refusal:
            self._ledger.refuse()
            if asked is None or not asked.sent:
                record = self._recorder.refused
            return _failed(call, refusal.kind if isinstance(refusal, _Refusal) else type(refusal).__name__, refusal)
        except ProviderError as error:
            call.failed("ProviderError", str(error))
            return SubCallFailure("ProviderError", _for_the_cell(error))
        except asyncio.CancelledError:
            call.failed("Cancelled", "the run did not wait for its answer")
            if asked is None or not asked.sent:
                call.shorten()
            raise
        finally:
            call.wall_s = time.monotonic() - started
            record(call, self._ledger.left())

    def _sub_call(self, prompt: str, data: str | None) -> _Call:
        if self._sub is None or not self.allows_sub_calls:
            raise _Refusal("LimitExceeded", "this run has no sub-calls")
        size = len(prompt.encode("utf-8", "replace")) + len((data or "").encode("utf-8", "replace"))
        if size > self._limits.max_prompt_bytes:
            raise _Refusal("PromptTooLarge", f"{size:,} bytes; at most {self._limits.max_prompt_bytes:,} are allowed")
        messages = [
            Message(role="system", content=SUB_SYSTEM_PROMPT + self._policies.system_note),
            Message(role="user", content=sub_message(prompt, data, nonce=secrets.token_hex(8))),
        ]
        return _Call(self._sub, "sub", self._depth + 1, messages)

    async def _ask(self, call: _Call) -> ModelReply:
        """Retries sit above the permit: each attempt has its own. The call's time begins when its turn comes, and it
        keeps its place until it is over, so that a server that asks for a pause gets one.
        """
        async with self._slots:
            deadline = Deadline(min(self._limits.max_call_s, self._ledger.deadline.remaining_s))
            return await with_retries(lambda: self._attempt(call, deadline), deadline=deadline)

    async def _attempt(self, call: _Call, deadline: Deadline) -> ModelReply:
        """Policies come before the permit: what they refuse costs nothing. They may take long, so they are not asked
        where no call is left. What is sent is counted in the same step, so that calls at the same time can't all be
        told that there is room.
        """
        self._ledger.check(sub_call=call.role == "sub")
        call.messages[:] = self._policies.request(
            call.messages,
            role=call.role,
            depth=call.depth,
            model=call.provider.name,
            sent_bytes=self._ledger.tree_sent_bytes,
        )
        messages = tuple(call.messages)
        with self._ledger.sends(sum(message.size_bytes for message in messages)):
            permit = await self._reserve(call, messages, deadline)
        call.sent = True
        request = ModelRequest(
            messages=messages, timeout_s=deadline.remaining_s, max_reply_bytes=self._limits.max_reply_bytes
        )
        try:
            return await _complete(call.provider, request, permit)
        finally:
            if permit.overbill is not None:
                self._recorder.overbilled(call.provider.name, permit.overbill)

    async def _reserve(self, call: _Call, messages: Sequence[Message], deadline: Deadline) -> Permit:
        input_tokens, output_tokens = upper_bound_tokens(messages), max(0, call.provider.max_output_tokens)
        price = price_of(call.provider.name, self._prices)
        return await self._ledger.reserve(
            tokens=input_tokens + output_tokens,
            most_usd=price.most_usd(input_tokens=input_tokens, output_tokens=output_tokens) if price else None,
            price=price,
            sub_call=call.role == "sub",
            until=deadline,
        )

    def _received(self, call: _Call, reply: ModelReply) -> ModelReply:
        """A reply as the policies leave it; it has been paid for."""
        text = self._policies.reply(reply.text, role=call.role, depth=call.depth, model=call.provider.name)
        return dataclasses.replace(reply, text=text)


def _failed(call: SubCall, kind: str, refusal: Exception) -> SubCallFailure:
    call.failed(kind, str(refusal))
    return SubCallFailure(kind, str(refusal))


async def _complete(provider: Provider, request: ModelRequest, permit: Permit) -> ModelReply:
    """The permit is settled on every way out, cancellation included."""
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
        raise ProviderError(
            f"{provider.name}: a reply of more than {request.max_reply_bytes:,} bytes", provider=provider.name
        )
    return reply


async def _call(provider: Provider, request: ModelRequest) -> ModelReply:
    """The only place that calls a provider. Whatever its author made of the contract, it ends in time, with a reply
    or with a `ProviderError`.
    """
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
    return reply


def _is_sound(reply: object) -> bool:
    match reply:
        case ModelReply(
            text=str(),
            usage=TokenUsage(
                input_tokens=int(), output_tokens=int(), cached_input_tokens=int(), cache_write_tokens=int()
            ),
        ):
            return True
    return False


def _for_the_cell(error: ProviderError) -> str:
    """What the box may know of a failure: a provider's words can hold addresses and paths of the host."""
    return "the sub-model gave no answer" + (f" (HTTP status {error.status})" if error.status else "")


def upper_bound_tokens(messages: Sequence[Message]) -> int:
    """No tokenizer of today makes more than one token of a UTF-8 byte."""
    return sum(message.size_bytes + MESSAGE_OVERHEAD_TOKENS for message in messages)
