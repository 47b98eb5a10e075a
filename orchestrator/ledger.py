"""What a run and its whole recursion tree may still spend: reserve before a call, settle after it.

Each run has a `Ledger`; a child run's ledger has the parent's as its own parent. A reservation must fit every ledger
from the run up to the root, and charges them all. All of it runs on one event loop, so a check and its reservation
are one step: no number of concurrent calls can overshoot.

The one thing that can is a provider that bills more than the reservation, which was the most a call could need. What it
bills is charged, and nothing further is reserved in the whole tree: with such a provider no limit can be kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from orchestrator.errors import LimitExceeded
from orchestrator.limits import UNLIMITED, Deadline, Limits, Usage
from orchestrator.permit import Permit
from orchestrator.providers.base import TokenUsage
from orchestrator.providers.prices import Price, dollars

OVERBILLED: Final = "overbilled"
"""Stands in `LimitExceeded.limit` where the run is over because a provider billed more than was reserved."""

_NOTHING: Final = Decimal(0)


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
        self.cache_write_tokens = 0
        self.output_tokens = 0
        self.estimated_tokens = 0
        self.reserved_tokens = 0
        self.spent_usd = _NOTHING
        self.reserved_usd = _NOTHING
        self.unpriced_calls = 0
        self.sent_bytes = 0
        self._overbilled = False

    def _lineage(self) -> Iterator[Ledger]:
        ledger: Ledger | None = self
        while ledger is not None:
            yield ledger
            ledger = ledger._parent

    async def reserve(
        self,
        *,
        tokens: int,
        sub_call: bool,
        until: Deadline | None = None,
        most_usd: Decimal | None = None,
        price: Price | None = None,
    ) -> Permit:
        """Reserve one provider call, here and in every ancestor.

        Waits while the tokens or the money do not fit only because of calls that have not settled yet: what they will
        not use comes back.

        Args:
            tokens: Upper bound of its input and output tokens.
            sub_call: Whether it is a sub-call (counted against ``max_sub_calls``) or a root call.
            until: How long to wait; by default, and at most, until the run's deadline.
            most_usd: Upper bound of its cost; None where the model's price is not known.
            price: What the call is charged by.

        Raises:
            LimitExceeded: It does not fit, or the time is over.
        """
        until = until or self.deadline
        while True:
            self.check(tokens, most_usd=most_usd, sub_call=sub_call)
            held = next(filter(None, (ledger._held(tokens, most_usd) for ledger in self._lineage())), None)
            if held is None:
                break
            if until.expired:
                what = f"{tokens:,} tokens" if held == "max_tokens" else f"{dollars(most_usd or _NOTHING)}"
                raise LimitExceeded(f"calls in flight hold the {what} it may need", limit=held)
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(until.remaining_s, self.deadline.remaining_s)):
                    await self._news.wait()
        for ledger in self._lineage():
            ledger.reserved_tokens += tokens
            ledger.reserved_usd += most_usd or _NOTHING
            below = sub_call or ledger is not self  # to a run above, a child's root is a sub-model
            ledger.sub_calls += below
            ledger.root_calls += not below
        return Permit(self, tokens, most_usd, price)

    def check(self, tokens: int = 0, *, sub_call: bool, most_usd: Decimal | None = _NOTHING) -> None:
        """Whether such a call can be made now or when those in flight have settled; arguments as for `reserve`.

        Raises:
            LimitExceeded: It can't.
        """
        for ledger in self._lineage():
            limits = ledger._limits
            if ledger._overbilled:
                raise LimitExceeded("a provider billed more than was reserved: the run is over", limit=OVERBILLED)
            if ledger.deadline.expired:
                raise LimitExceeded(f"the run's {limits.max_wall_s:,g} s are over", limit="max_wall_s")
            below = sub_call or ledger is not self
            if below and ledger.sub_calls >= limits.max_sub_calls:
                used = f"{ledger.sub_calls:,} of {limits.max_sub_calls:,.0f}"
                raise LimitExceeded(f"{used} sub-calls used", limit="max_sub_calls")
            left = limits.max_tokens - ledger.spent_tokens
            if tokens > left:
                raise LimitExceeded(
                    f"the call may need {tokens:,} tokens (one a byte, and the reply), "
                    f"{max(0, left):,.0f} of {limits.max_tokens:,.0f} are left",
                    limit="max_tokens",
                )
            ledger._check_money(most_usd)

    def _check_money(self, most_usd: Decimal | None) -> None:
        most = self._max_usd
        if most is None:
            return
        if most_usd is None:
            raise LimitExceeded("the run has a limit in money and the model no price", limit="max_cost_usd")
        if most_usd > most - self.spent_usd:
            left = max(_NOTHING, most - self.spent_usd)
            raise LimitExceeded(
                f"the call may cost {dollars(most_usd)} (a token a byte, and the longest reply), "
                f"{dollars(left)} of {dollars(most)} are left",
                limit="max_cost_usd",
            )

    @property
    def _max_usd(self) -> Decimal | None:
        """The run's limit in money; None where it has none."""
        most = self._limits.max_cost_usd
        return None if most == UNLIMITED else Decimal(most)

    def _held(self, tokens: int, most_usd: Decimal | None) -> str | None:
        """The limit that calls in flight leave no room in, or None."""
        if self.spent_tokens + self.reserved_tokens + tokens > self._limits.max_tokens:
            return "max_tokens"
        most = self._max_usd
        if most is not None and self.spent_usd + self.reserved_usd + (most_usd or _NOTHING) > most:
            return "max_cost_usd"
        return None

    @property
    def spent_tokens(self) -> int:
        """Input and output tokens of all settled calls."""
        return self.input_tokens + self.output_tokens

    @property
    def cost_usd(self) -> Decimal | None:
        """What all settled calls cost; None where one was billed to a model without a price."""
        return None if self.unpriced_calls else self.spent_usd

    def charge(self, permit: Permit, usage: TokenUsage, cost_usd: Decimal | None) -> None:
        """Charge what a permit was used for, here and in every ancestor; for `Permit` alone."""
        for ledger in self._lineage():
            ledger.reserved_tokens -= permit.reserved_tokens
            ledger.reserved_usd -= permit.reserved_usd or _NOTHING
            ledger.input_tokens += usage.input_tokens
            ledger.cached_input_tokens += usage.cached_input_tokens
            ledger.cache_write_tokens += usage.cache_write_tokens
            ledger.output_tokens += usage.output_tokens
            ledger.spent_usd += cost_usd or _NOTHING
            ledger.unpriced_calls += cost_usd is None
            if usage.estimated:
                ledger.estimated_tokens += usage.input_tokens + usage.output_tokens
        self._news.set()

    @property
    def overbilled(self) -> bool:
        """Whether a provider billed more than was reserved, anywhere in the tree: the run is to end."""
        return any(ledger._overbilled for ledger in self._lineage())

    def end_for_overbilling(self) -> None:
        """Reserve nothing any more, in the whole tree."""
        for ledger in self._lineage():
            ledger._overbilled = True
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

    @property
    def usd_left(self) -> Decimal | None:
        """US dollars that every ledger up to the root still allows, likewise; None where no limit is in money."""
        left = [
            most - ledger.spent_usd - ledger.reserved_usd
            for ledger in self._lineage()
            if (most := ledger._max_usd) is not None
        ]
        return max(_NOTHING, min(left)) if left else None

    def left(self) -> dict[str, float | None]:
        """What is left of the budget, for a record; None is unlimited."""
        found = {"sub_calls": self.sub_calls_left, "tokens": self.tokens_left, "wall_s": self.deadline.remaining_s}
        rounded = {name: round(amount, 3) if math.isfinite(amount) else None for name, amount in found.items()}
        return rounded | {"cost_usd": None if self.usd_left is None else float(self.usd_left)}

    def usage(self, *, turns: int, wall_s: float) -> Usage:
        """What has been spent so far."""
        return Usage(
            turns=turns,
            root_calls=self.root_calls,
            sub_calls=self.sub_calls,
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens,
            output_tokens=self.output_tokens,
            estimated_tokens=self.estimated_tokens,
            cost_usd=self.cost_usd,
            wall_s=wall_s,
            refusals=self.refusals,
        )
