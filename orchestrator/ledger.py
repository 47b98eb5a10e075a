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
from typing import TYPE_CHECKING, Final

from orchestrator.errors import LimitExceeded
from orchestrator.limits import UNLIMITED, Deadline, Limits, Usage
from orchestrator.permit import Permit
from orchestrator.providers.base import TokenUsage
from orchestrator.providers.prices import Price, dollars

if TYPE_CHECKING:
    from orchestrator.recorded import Charge

OVERBILLED: Final = "overbilled"
"""Stands in `LimitExceeded.limit` where the run is over because a provider billed more than was reserved."""

_NOTHING: Final = Decimal(0)


class Ledger:
    """The account of one run.

    Args:
        limits: What this run may spend, its children included.
        parent: The ledger of the run that started this one, or of the session it belongs to, which pays for it too.
        below: Whether this run is a level below its parent, to which its root is a sub-model then; a session's runs
            are not.
        spent_s: Seconds that earlier lives of a run that is resumed have taken.
    """

    def __init__(
        self, limits: Limits, parent: Ledger | None = None, *, below: bool = True, spent_s: float = 0.0
    ) -> None:
        self._limits = limits
        self._parent = parent
        self._depth: int = parent._depth + below if parent else 0
        self._news: asyncio.Event = parent._news if parent else asyncio.Event()
        inherited_s = parent.deadline.remaining_s if parent else limits.max_wall_s - spent_s
        self.deadline: Deadline = Deadline(min(limits.max_wall_s, inherited_s))
        self.root_calls = 0
        self.sub_calls = 0
        self.tool_calls = 0
        self.refusals = 0
        self.input_tokens = 0
        self.cached_input_tokens = 0
        self.cache_write_tokens = 0
        self.output_tokens = 0
        self.estimated_tokens = 0
        self.reserved_tokens = 0
        self.spent_usd = self.reserved_usd = self.foreseen_usd = _NOTHING
        self.unpriced_calls = 0
        self.cache_hits = 0
        self.sent_bytes = 0
        self.foreseen_calls = self.foreseen_tokens = self.foreseen_bytes = 0
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
            below = sub_call or ledger._depth < self._depth  # to a run above, a child's root is a sub-model
            ledger.sub_calls += below
            ledger.root_calls += not below
        return Permit(self, tokens, most_usd, price)

    def check(self, tokens: int = 0, *, sub_call: bool, most_usd: Decimal | None = _NOTHING) -> None:
        """Whether such a call can be made now or when those in flight have settled; arguments as for `reserve`.

        Raises:
            LimitExceeded: It can't.
        """
        self.check_going()
        for ledger in self._lineage():
            limits = ledger._limits
            below = sub_call or ledger._depth < self._depth
            calls = ledger.sub_calls + ledger.foreseen_calls
            if below and calls >= limits.max_sub_calls:
                used = f"{calls:,} of {limits.max_sub_calls:,.0f}"
                raise LimitExceeded(f"{used} sub-calls used", limit="max_sub_calls")
            left = limits.max_tokens - ledger.spent_tokens - ledger.foreseen_tokens
            if tokens > left:
                raise LimitExceeded(
                    f"the call may need {tokens:,} tokens (one a byte, and the reply), "
                    f"{max(0, left):,.0f} of {limits.max_tokens:,.0f} are left",
                    limit="max_tokens",
                )
            ledger._check_money(most_usd)

    def check_going(self) -> None:
        """Whether anything can still be had, if it costs nothing.

        Raises:
            LimitExceeded: The time is over, or a provider has billed more than was reserved.
        """
        for ledger in self._lineage():
            if ledger._overbilled:
                raise LimitExceeded("a provider billed more than was reserved: the run is over", limit=OVERBILLED)
            if ledger.deadline.expired:
                raise LimitExceeded(f"the run's {ledger._limits.max_wall_s:,g} s are over", limit="max_wall_s")

    def hit(self) -> None:
        """Count a sub-call that was answered from the cache: it costs nothing, and is none of ``max_sub_calls``."""
        for ledger in self._lineage():
            ledger.cache_hits += 1

    def _check_money(self, most_usd: Decimal | None) -> None:
        most = self._max_usd
        if most is None:
            return
        if most_usd is None:
            raise LimitExceeded("the run has a limit in money and the model no price", limit="max_cost_usd")
        spent = self.spent_usd + self.foreseen_usd
        if most_usd > most - spent:
            left = max(_NOTHING, most - spent)
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
        if self.spent_tokens + self.foreseen_tokens + self.reserved_tokens + tokens > self._limits.max_tokens:
            return "max_tokens"
        most = self._max_usd
        spent = self.spent_usd + self.foreseen_usd
        if most is not None and spent + self.reserved_usd + (most_usd or _NOTHING) > most:
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
            ledger._spend(usage, cost_usd)
        self._news.set()

    def foresee(self, charge: Charge) -> None:
        """Hold back what an earlier life of this run, which is resumed, has spent: new calls get none of it."""
        self._add_foreseen(charge, 1)

    def _add_foreseen(self, charge: Charge, sign: int) -> None:
        self.foreseen_calls += sign * (charge.sub_call or charge.run != 0)
        self.foreseen_tokens += sign * (charge.usage.input_tokens + charge.usage.output_tokens)
        self.foreseen_usd += sign * (charge.usd or _NOTHING)
        self.foreseen_bytes += sign * charge.sent_bytes

    def charge_recorded(self, charge: Charge, *, sub_call: bool) -> None:
        """Charge a call of an earlier life again, here and in every ancestor. The first of them foresaw it.

        Args:
            charge: What it cost.
            sub_call: Whether it was a sub-call of this run or below it, or its root's.
        """
        *_, first = self._lineage()
        first._add_foreseen(charge, -1)
        for ledger in self._lineage():
            below = sub_call or ledger._depth < self._depth
            ledger.sub_calls += below
            ledger.root_calls += not below
            ledger.sent_bytes += charge.sent_bytes
            ledger._spend(charge.usage, charge.usd)

    def _spend(self, usage: TokenUsage, cost_usd: Decimal | None) -> None:
        self.input_tokens += usage.input_tokens
        self.cached_input_tokens += usage.cached_input_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        self.output_tokens += usage.output_tokens
        self.spent_usd += cost_usd or _NOTHING
        self.unpriced_calls += cost_usd is None
        if usage.estimated:
            self.estimated_tokens += usage.input_tokens + usage.output_tokens

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
        """What the whole tree has sent to providers, in earlier lives too; the first ancestor's count holds it."""
        *_, first = self._lineage()
        return first.sent_bytes + first.foreseen_bytes

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

    def check_tool_call(self) -> None:
        """Whether a tool may be called; raises `LimitExceeded` where it may not."""
        for ledger in self._lineage():
            most = ledger._limits.max_tool_calls
            if ledger.deadline.expired:
                raise LimitExceeded(f"the run's {ledger._limits.max_wall_s:,g} s are over", limit="max_wall_s")
            if ledger.tool_calls >= most:
                used = f"{ledger.tool_calls:,} of {most:,.0f}"
                raise LimitExceeded(f"{used} tool calls used", limit="max_tool_calls")

    def add_tool_call(self) -> None:
        """Count a call of a tool, here and in every ancestor."""
        for ledger in self._lineage():
            ledger.tool_calls += 1

    @property
    def tool_calls_left(self) -> float:
        """Calls of tools that every ledger up to the root still allows."""
        return min(ledger._limits.max_tool_calls - ledger.tool_calls for ledger in self._lineage())

    def refuse(self) -> None:
        """Count a sub-call or tool call that was refused."""
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
            cache_hits=self.cache_hits,
            estimated_tokens=self.estimated_tokens,
            cost_usd=self.cost_usd,
            wall_s=wall_s,
            tool_calls=self.tool_calls,
            refusals=self.refusals,
        )
