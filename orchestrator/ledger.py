"""What a run and its whole recursion tree may still spend: reserve before a call, settle after it.

Each run has a `Ledger`; a child run's ledger has the parent's as its own parent. A reservation must fit every ledger
from the run up to the root, and charges them all. All of it runs on one event loop, so a check and its reservation
are one step: no number of concurrent calls can overshoot.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator

from orchestrator.errors import LimitExceeded
from orchestrator.limits import Deadline, Limits, Usage
from orchestrator.providers.base import TokenUsage


class Ledger:
    """The account of one run.

    Args:
        limits: What this run may spend, its children included.
        parent: The ledger of the run that started this one, which pays for it too.
    """

    def __init__(self, limits: Limits, parent: Ledger | None = None) -> None:
        self._limits = limits
        self._parent = parent
        self._news: asyncio.Event = parent._news if parent else asyncio.Event()
        inherited_s = parent.deadline.remaining_s if parent else limits.max_wall_s
        self.deadline: Deadline = Deadline(min(limits.max_wall_s, inherited_s))
        self.root_calls = 0
        self.sub_calls = 0
        self.refusals = 0
        self.input_tokens = 0
        self.cached_input_tokens = 0
        self.output_tokens = 0
        self.estimated_tokens = 0
        self.reserved_tokens = 0
        self.sent_bytes = 0

    def _lineage(self) -> Iterator[Ledger]:
        ledger: Ledger | None = self
        while ledger is not None:
            yield ledger
            ledger = ledger._parent

    async def reserve(self, *, tokens: int, sub_call: bool, until: Deadline | None = None) -> Permit:
        """Reserve one provider call, here and in every ancestor.

        Waits while the tokens do not fit only because of calls that have not settled yet: what they will not use
        comes back.

        Args:
            tokens: Upper bound of its input and output tokens.
            sub_call: Whether it is a sub-call (counted against ``max_sub_calls``) or a root call.
            until: How long to wait; by default, and at most, until the run's deadline.

        Raises:
            LimitExceeded: It does not fit, or the time is over.
        """
        until = until or self.deadline
        while True:
            self._check(tokens, sub_call)
            if all(ledger._fits(tokens) for ledger in self._lineage()):
                break
            if until.expired:
                raise LimitExceeded(f"calls in flight hold the {tokens:,} tokens it may need", limit="max_tokens")
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(until.remaining_s, self.deadline.remaining_s)):
                    await self._news.wait()
        for ledger in self._lineage():
            ledger.reserved_tokens += tokens
            ledger.sub_calls += sub_call
            ledger.root_calls += not sub_call
        return Permit(self, tokens)

    def _check(self, tokens: int, sub_call: bool) -> None:
        for ledger in self._lineage():
            limits = ledger._limits
            if ledger.deadline.expired:
                raise LimitExceeded(f"the run's {limits.max_wall_s:,g} s are over", limit="max_wall_s")
            if sub_call and ledger.sub_calls >= limits.max_sub_calls:
                used = f"{ledger.sub_calls:,} of {limits.max_sub_calls:,.0f}"
                raise LimitExceeded(f"{used} sub-calls used", limit="max_sub_calls")
            left = limits.max_tokens - ledger.spent_tokens
            if tokens > left:
                raise LimitExceeded(
                    f"the call may need {tokens:,} tokens (one a byte, and the reply), "
                    f"{max(0, left):,.0f} of {limits.max_tokens:,.0f} are left",
                    limit="max_tokens",
                )

    def _fits(self, tokens: int) -> bool:
        return self.spent_tokens + self.reserved_tokens + tokens <= self._limits.max_tokens

    @property
    def spent_tokens(self) -> int:
        """Input and output tokens of all settled calls."""
        return self.input_tokens + self.output_tokens

    def _charge(self, reserved: int, usage: TokenUsage) -> None:
        for ledger in self._lineage():
            ledger.reserved_tokens -= reserved
            ledger.input_tokens += usage.input_tokens
            ledger.cached_input_tokens += usage.cached_input_tokens
            ledger.output_tokens += usage.output_tokens
            if usage.estimated:
                ledger.estimated_tokens += usage.input_tokens + usage.output_tokens
        self._news.set()

    @property
    def tree_sent_bytes(self) -> int:
        """What the whole recursion tree has sent to providers: the first ancestor's count holds all of it."""
        *_, first = self._lineage()
        return first.sent_bytes

    @contextlib.contextmanager
    def sends(self, size_bytes: int) -> Iterator[None]:
        """Count a request's text as sent, here and in every ancestor; taken back where the body raises."""
        self._add_sent(size_bytes)
        try:
            yield
        except BaseException:
            self._add_sent(-size_bytes)
            raise

    def _add_sent(self, size_bytes: int) -> None:
        for ledger in self._lineage():
            ledger.sent_bytes += size_bytes

    def refuse(self) -> None:
        """Count a sub-call that was refused."""
        for ledger in self._lineage():
            ledger.refusals += 1

    @property
    def sub_calls_left(self) -> float:
        """Sub-calls that every ledger up to the root still allows."""
        return min(ledger._limits.max_sub_calls - ledger.sub_calls for ledger in self._lineage())

    @property
    def tokens_left(self) -> float:
        """Tokens that every ledger up to the root still allows, reservations taken off; never below 0."""
        return max(
            0.0,
            min(ledger._limits.max_tokens - ledger.spent_tokens - ledger.reserved_tokens for ledger in self._lineage()),
        )

    def left(self) -> dict[str, float | None]:
        """What is left of the budget, for a record; None is unlimited."""
        found = {"sub_calls": self.sub_calls_left, "tokens": self.tokens_left, "wall_s": self.deadline.remaining_s}
        return {name: round(amount, 3) if math.isfinite(amount) else None for name, amount in found.items()}

    def usage(self, *, turns: int, wall_s: float) -> Usage:
        """What has been spent so far."""
        return Usage(
            turns=turns,
            root_calls=self.root_calls,
            sub_calls=self.sub_calls,
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            output_tokens=self.output_tokens,
            estimated_tokens=self.estimated_tokens,
            wall_s=wall_s,
            refusals=self.refusals,
        )


class Permit:
    """The right to one provider call. Settled exactly once, whatever happens; the call itself is never given back."""

    def __init__(self, ledger: Ledger, reserved_tokens: int) -> None:
        self._ledger = ledger
        self._reserved_tokens = reserved_tokens
        self.settled = False

    def settle(self, usage: TokenUsage) -> None:
        """Charge what the provider counted, also where that is more than was reserved."""
        self._settle(
            TokenUsage(
                input_tokens=max(0, usage.input_tokens),
                cached_input_tokens=max(0, min(usage.cached_input_tokens, usage.input_tokens)),
                output_tokens=max(0, usage.output_tokens),
                estimated=usage.estimated,
            )
        )

    def settle_refused(self) -> None:
        """The server answered with an error status, or was never reached: no tokens were billed."""
        self._settle(TokenUsage(input_tokens=0, output_tokens=0))

    def settle_unknown(self) -> None:
        """The call broke off and nobody knows what was billed: the reservation is charged."""
        self._settle(TokenUsage(input_tokens=self._reserved_tokens, output_tokens=0, estimated=True))

    def _settle(self, usage: TokenUsage) -> None:
        if self.settled:
            raise RuntimeError("a permit is settled once")
        self.settled = True
        self._ledger._charge(self._reserved_tokens, usage)
