"""A permit for one provider call: what was reserved for it, and how it is settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from orchestrator.providers.base import Message, TokenUsage

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.providers.prices import Price

MESSAGE_OVERHEAD_TOKENS: Final = 16
"""Added to a message's UTF-8 bytes for what a chat template puts around it."""

_NOTHING: Final = Decimal(0)


def upper_bound_tokens(messages: Sequence[Message]) -> int:
    """No tokenizer of today makes more than one token of a UTF-8 byte."""
    return sum(message.size_bytes + MESSAGE_OVERHEAD_TOKENS for message in messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overbill:
    """A call that was billed above its reservation. Money is None where the model has no price."""

    reserved_tokens: int
    billed_tokens: int
    reserved_usd: Decimal | None
    billed_usd: Decimal | None


class Permit:
    """The right to one provider call. Settled exactly once, whatever happens; the call itself is never given back.

    Attributes:
        overbill: What was billed above the reservation, where it was.
        charged: What it was settled with, in tokens and money.
    """

    def __init__(self, ledger: Ledger, reserved_tokens: int, reserved_usd: Decimal | None, price: Price | None) -> None:
        self._ledger = ledger
        self._price = price
        self.reserved_tokens = reserved_tokens
        self.reserved_usd = reserved_usd
        self.settled = False
        self.overbill: Overbill | None = None
        self.charged: tuple[TokenUsage, Decimal | None] | None = None

    def settle(self, usage: TokenUsage) -> None:
        """Charge what the provider counted, also where that is more than was reserved: then the run ends."""
        total = max(0, usage.input_tokens)
        cached = max(0, min(usage.cached_input_tokens, total))
        counted = TokenUsage(
            input_tokens=total,
            cached_input_tokens=cached,
            cache_write_tokens=max(0, min(usage.cache_write_tokens, total - cached)),
            output_tokens=max(0, usage.output_tokens),
            estimated=usage.estimated,
        )
        cost_usd = self._price.cost_usd(counted) if self._price else None
        self._settle(counted, cost_usd)
        self._compare(counted.input_tokens + counted.output_tokens, cost_usd)

    def _compare(self, billed_tokens: int, billed_usd: Decimal | None) -> None:
        """Money counts where a limit is in money: a reply that is too long may still be one of few tokens in all."""
        limited = self._ledger.usd_left is not None
        dearer = limited and (billed_usd or _NOTHING) > (self.reserved_usd or _NOTHING)
        if billed_tokens > self.reserved_tokens or dearer:
            self.overbill = Overbill(
                reserved_tokens=self.reserved_tokens,
                billed_tokens=billed_tokens,
                reserved_usd=self.reserved_usd,
                billed_usd=billed_usd,
            )
            self._ledger.end_for_overbilling()

    def settle_refused(self) -> None:
        """The server answered with an error status, or was never reached: no tokens were billed."""
        self._settle(TokenUsage(input_tokens=0, output_tokens=0), _NOTHING)

    def settle_unknown(self) -> None:
        """The call broke off and nobody knows what was billed: the reservation is charged."""
        self._settle(TokenUsage(input_tokens=self.reserved_tokens, output_tokens=0, estimated=True), self.reserved_usd)

    def _settle(self, usage: TokenUsage, cost_usd: Decimal | None) -> None:
        if self.settled:
            raise RuntimeError("a permit is settled once")
        self.settled = True
        self.charged = (usage, cost_usd)
        self._ledger.charge(self, usage, cost_usd)
