"""Calls of models: policies before and behind, retries, others that step in, and for each attempt a permit of its own.

Policies (`orchestrator.policies`) are asked here about each attempt before its permit is reserved, and about each reply
before anybody gets it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from orchestrator.attempt import attempt
from orchestrator.call import Call
from orchestrator.errors import ProviderError
from orchestrator.ledger import Ledger
from orchestrator.limits import Deadline, Limits
from orchestrator.live import LiveText
from orchestrator.memory import RunMemory
from orchestrator.outages import Outages
from orchestrator.permit import Permit, upper_bound_tokens
from orchestrator.policies.base import Role
from orchestrator.policies.chain import PolicyChain
from orchestrator.providers.base import Message, ModelReply, ModelRequest, Provider, TokenUsage
from orchestrator.providers.prices import Price, price_of
from orchestrator.recorder import Recorder
from orchestrator.reply_cache import TreeCache, key_of
from orchestrator.retry import with_retries

_log = logging.getLogger(__name__)


class Calls:
    """Makes the calls of one run; for its `Gate`, whose arguments say what each is."""

    def __init__(
        self,
        *,
        limits: Limits,
        ledger: Ledger,
        recorder: Recorder,
        policies: PolicyChain,
        slots: asyncio.Semaphore,
        outages: Outages,
        fallback: Sequence[Provider],
        prices: Mapping[str, Price] | None,
        memory: RunMemory | None,
        cache: TreeCache | None,
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._recorder = recorder
        self._policies = policies
        self._slots = slots
        self._outages = outages
        self._fallback = tuple(fallback)
        self._prices = prices
        self._memory = memory
        self._cache = cache

    def new(self, model: Provider, role: Role, depth: int, messages: list[Message], *, nonce: str = "") -> Call:
        """A call that `ask` makes."""
        others = tuple(other for other in self._fallback if other is not model)
        return Call((model, *others), role, depth, messages, nonce, model)

    async def ask(self, call: Call) -> ModelReply:
        """Make a call: retries, then the fallbacks, each attempt with a permit of its own.

        A call's time begins when its turn comes, and it keeps its place until it is over, so that a server that asks
        for a pause gets one. Each fallback has the time of a call again, within the run's.

        Raises:
            LimitExceeded, PolicyRefused, ProviderError: As `Gate.ask_root`. Policies have not seen the reply yet.
        """
        async with self._slots:
            models = self._outages.up(call.models)
            for model, other in zip(models, (*models[1:], None), strict=True):
                call.model = model
                try:
                    reply = await self._ask(call)
                except ProviderError as error:
                    if not error.outage:
                        raise
                    self._outages.failed(model)
                    if other is None or self._ledger.deadline.expired:
                        raise
                    self._falls_back(call, other, error)
                else:
                    if not call.cached:
                        self._outages.answered(model)
                    return reply
        raise AssertionError("a call has a model")

    async def _ask(self, call: Call) -> ModelReply:
        deadline = Deadline(min(self._limits.max_call_s, self._ledger.deadline.remaining_s))
        return await with_retries(lambda: self._attempt(call, deadline), deadline=deadline)

    def _falls_back(self, call: Call, other: Provider, error: ProviderError) -> None:
        status = "no answer" if error.status is None else f"status {error.status}"
        _log.info("%s is out (%s); %s is asked instead", call.model.name, status, other.name)
        self._recorder.fallback(call.model.name, other.name, role=call.role, depth=call.depth, status=error.status)

    async def _attempt(self, call: Call, deadline: Deadline) -> ModelReply:
        """Policies come before the permit: what they refuse costs nothing. They may take long, so they are not asked
        where no call is left. What is sent is counted in the same step, so that calls at the same time can't all be
        told that there is room. A reply that is in the cache costs nothing, so it needs no room and no permit.
        """
        cache = self._cache_for(call)
        self._ledger.check_going() if cache else self._ledger.check(sub_call=call.role == "sub")
        call.messages[:] = self._policies.request(
            call.messages,
            role=call.role,
            depth=call.depth,
            model=call.model.name,
            sent_bytes=self._ledger.tree_sent_bytes,
        )
        messages = tuple(call.messages)
        key = key_of(call.model, messages, call.nonce) if cache else b""
        if cache and (text := cache.find(key, messages)) is not None:
            call.cached = True
            self._ledger.hit()
            return ModelReply(text=text, usage=TokenUsage(input_tokens=0, output_tokens=0))
        with self._ledger.sends(sum(message.size_bytes for message in messages)):
            permit = await self._reserve(call, messages, deadline)
        reply = await self._send(call, messages, deadline, permit)
        if cache:
            cache.keep(key, reply)
        return reply

    def _cache_for(self, call: Call) -> TreeCache | None:
        return self._cache if self._cache and call.role == "sub" and self._cache.open else None

    async def _send(self, call: Call, messages: tuple[Message, ...], deadline: Deadline, permit: Permit) -> ModelReply:
        self._outages.asks(call.model)
        try:
            live = self._begins(call)
            number = self._sends(call, messages, permit)
        except BaseException:  # a journal on a full disk, Ctrl-C in a listener
            permit.settle_refused()
            raise
        request = ModelRequest(
            messages=messages,
            timeout_s=deadline.remaining_s,
            max_reply_bytes=self._limits.max_reply_bytes,
            conversation=call.role == "root",
            on_text=partial(live.add, "reply") if live is not None else None,
        )
        try:
            return await attempt(call.model, request, permit)
        finally:
            if live is not None:
                live.close()
            if self._memory is not None:
                self._memory.settled(number, permit)
            if permit.overbill is not None:
                self._recorder.overbilled(call.model.name, permit.overbill)

    def _sends(self, call: Call, messages: Sequence[Message], permit: Permit) -> int:
        """Let the run's memory know of an attempt; returns its number there."""
        if self._memory is None:
            return 0
        sent_bytes = sum(message.size_bytes for message in messages)
        number = self._memory.sends(permit, sub_call=call.role == "sub", sent_bytes=sent_bytes)
        call.permits.append(number)
        return number

    def _begins(self, call: Call) -> LiveText | None:
        """An attempt is made. Watchers see a root's reply as it comes, unless a policy is to see it first."""
        if not call.sent:
            call.sent = True
            call.begins()
        if call.role == "sub" or self._policies.reads_replies:
            return None
        return self._recorder.reply_begins()

    async def _reserve(self, call: Call, messages: Sequence[Message], deadline: Deadline) -> Permit:
        input_tokens, output_tokens = upper_bound_tokens(messages), max(0, call.model.max_output_tokens)
        price = price_of(call.model.name, self._prices)
        return await self._ledger.reserve(
            tokens=input_tokens + output_tokens,
            most_usd=price.most_usd(input_tokens=input_tokens, output_tokens=output_tokens) if price else None,
            price=price,
            sub_call=call.role == "sub",
            until=deadline,
        )

    def received(self, call: Call, reply: ModelReply) -> ModelReply:
        """A reply as the policies leave it; it has been paid for.

        Raises:
            PolicyRefused: Nothing is left.
        """
        text = self._policies.reply(reply.text, role=call.role, depth=call.depth, model=call.model.name)
        return dataclasses.replace(reply, text=text)
