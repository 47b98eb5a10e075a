"""The gate: the one way to a model. It alone holds the providers, and gives no call without a permit.

Root turns come in by `Gate.ask_root` and sub-calls of cells by `Gate.handle` (`orchestrator.sub_calls`); both are made
in `orchestrator.calls`. What a cell may ask for at all, and what is left of its budget, is said here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.calls import Calls
from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.memory import RunMemory
from orchestrator.outages import Outages
from orchestrator.policies.chain import PolicyChain
from orchestrator.providers.base import Message, ModelReply, Provider
from orchestrator.providers.prices import Price, price_of
from orchestrator.recorder import Recorder
from orchestrator.reply_cache import TreeCache
from orchestrator.sub_calls import SubCalls
from sandbox.messages import Asked, SubCallFailure


class Gate:
    """Permits, providers, policies and concurrency of one run.

    Args:
        root: The root model.
        sub: The sub-model, or None where the run has no sub-calls.
        limits: The run's limits.
        ledger: The run's account.
        recorder: Is told of every sub-call and refusal.
        sub_llms: Further sub-models, which a cell asks by these names.
        fallback: Who is asked, in this order, where a model is out.
        policies: Asked about every attempt and every reply.
        depth: The root's; its sub-calls are one deeper.
        slots: Calls in flight of the whole recursion tree; by default this run's own.
        outages: What the tree knows of models that are out; likewise.
        prices: The caller's own prices, by the providers' names.
        memory: What the run has been answered before; where it keeps a journal, or runs cells again.
        cache: Replies to sub-calls that were asked before; None asks again.
    """

    def __init__(
        self,
        *,
        root: Provider | None,
        sub: Provider | None,
        limits: Limits,
        ledger: Ledger,
        recorder: Recorder,
        sub_llms: Mapping[str, Provider] | None = None,
        fallback: Sequence[Provider] = (),
        policies: PolicyChain | None = None,
        depth: int = 0,
        slots: asyncio.Semaphore | None = None,
        outages: Outages | None = None,
        prices: Mapping[str, Price] | None = None,
        memory: RunMemory | None = None,
        cache: TreeCache | None = None,
    ) -> None:
        self._root = root
        self._sub = sub
        self._prices = prices
        self.limits = limits
        self.ledger = ledger
        self.recorder = recorder
        self.policies = policies or PolicyChain()
        self.depth = depth
        self.memory = memory
        self.calls = Calls(
            limits=limits,
            ledger=ledger,
            recorder=recorder,
            policies=self.policies,
            slots=slots or asyncio.Semaphore(limits.max_concurrency),
            outages=outages or Outages(),
            fallback=fallback,
            prices=prices,
            memory=memory,
            cache=cache,
        )
        self._sub_llms = dict(sub_llms or {})
        self._sub_calls = SubCalls(self, sub, self._sub_llms)

    @property
    def allows_sub_calls(self) -> bool:
        """Whether a cell's sub-calls can be answered at all."""
        return self._sub is not None and self.depth < self.limits.max_depth

    @property
    def allows_children(self) -> bool:
        """Whether a cell may start a child run: it and a sub-call of its own must fit."""
        return self.allows_sub_calls and self.depth + 1 < self.limits.max_depth

    def refuses_child(self, question: str) -> SubCallFailure | None:
        """Why a child run may not start; None where it may."""
        if not self.allows_children:
            most = self.limits.max_depth
            return SubCallFailure(
                "LimitExceeded", f"max_depth is {most}: no child run starts at depth {self.depth + 1}"
            )
        size = len(question.encode("utf-8", "replace"))
        if size > self.limits.max_prompt_bytes:
            return SubCallFailure(
                "PromptTooLarge", f"{size:,} bytes; at most {self.limits.max_prompt_bytes:,} are allowed"
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
            self.ledger.check(question_bytes + output_tokens, sub_call=True, most_usd=most_usd)
        except LimitExceeded as error:
            return SubCallFailure("LimitExceeded", str(error))
        return None

    def count_refusal(self) -> None:
        """Count something that was refused."""
        self.ledger.refuse()

    def budget(self) -> dict[str, Any]:
        """What is left, for a model's eyes alone. None is unlimited."""
        left = self.ledger.left()
        turns = self.limits.max_turns - len(self.recorder.turns)
        return {
            "sub_calls": left["sub_calls"] if self.allows_sub_calls else 0,
            "tokens": left["tokens"],
            "cost_usd": left["cost_usd"],
            "seconds": left["wall_s"],
            "turns": turns if math.isfinite(turns) else None,
            "depth": self.limits.max_depth - self.depth,
        }

    def cell_budget(self) -> dict[str, Any]:
        """The same as a cell's `budget()` returns it, with the names of the models that it may ask, where there are."""
        named = {"models": list(self._sub_llms)} if self._sub_llms and self.allows_sub_calls else {}
        return self.budget() | named

    def left(self) -> dict[str, Any]:
        """What is left of the budget, for a record."""
        return self.ledger.left()

    @property
    def recorded_summary(self) -> int | None:
        """How many turns the root's next call sums up as it is recorded, 0 where it is no summary; None: it is new."""
        return None if self.memory is None else self.memory.root.sums_up

    async def ask_root(self, messages: list[Message], *, sums_up: int = 0) -> ModelReply:
        """One root turn, retries and fallbacks included.

        Args:
            messages: The conversation. What a policy redacts in it stays redacted: it is changed in place.
            sums_up: How many turns the reply is to sum up; 0: it is no summary.

        Raises:
            LimitExceeded: Tokens or time of the run are over.
            PolicyRefused: A policy refuses the request or the reply.
            ProviderError: No attempt succeeded.
            Diverged: A resumed run does not do what its journal says.
        """
        if self._root is None:
            raise RuntimeError("this gate has no root model")
        calls = self.calls
        call = calls.new(self._root, "root", self.depth, messages)
        memory = self.memory
        if memory is None:
            return calls.received(call, await calls.ask(call))
        if recorded := memory.root.recall(self._root.name, messages):
            return recorded
        try:
            reply = calls.received(call, await calls.ask(call))
        except (LimitExceeded, ProviderError) as error:
            memory.root.failed(error, call.permits, sums_up=sums_up)
            raise
        memory.root.replied(self._root.name, messages, reply, call.permits, sums_up=sums_up)
        return reply

    async def handle(self, asked: Asked) -> str | SubCallFailure:
        """Answer one sub-call of a cell. Raises nothing but cancellation: the cell gets every failure as a value."""
        return await self._sub_calls.handle(asked)
