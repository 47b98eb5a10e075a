"""An account that looks at itself and all its ancestors in each step, and what came of a recursion tree of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.permit import Permit
from orchestrator.providers.base import TokenUsage
from orchestrator.trace import TraceEvent


@dataclass
class Tally:
    """What came of a tree.

    Attributes:
        boxes_left: Boxes, and turns of boxes, that were not given back.
    """

    overshoots: list[str] = field(default_factory=list)
    settlings: Counter[int] = field(default_factory=Counter)
    permits: list[Permit] = field(default_factory=list)
    ledgers: list[Watched] = field(default_factory=list)
    events: list[TraceEvent] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    reserved_after_overbilling: int = 0
    most_in_flight: int = 0
    boxes: int = 0
    boxes_left: int = 0

    @property
    def overbilled(self) -> list[dict[str, Any]]:
        """What was recorded of calls billed above their reservation."""
        return [event.facts for event in self.events if event.kind == "overbilled"]

    @property
    def unsettled(self) -> int:
        """Permits that were not settled exactly once."""
        return sum(self.settlings[id(permit)] != 1 or not permit.settled for permit in self.permits)

    @property
    def deepest(self) -> int:
        """Depth of the deepest run."""
        return max((len(list(ledger._lineage())) for ledger in self.ledgers), default=0) - 1

    @property
    def uncounted(self) -> int:
        """Permits that the first run's account has not counted."""
        first = self.ledgers[0]
        return len(self.permits) - first.sub_calls - first.root_calls

    @property
    def left_reserved(self) -> bool:
        """Whether anything is reserved at the end."""
        return any(ledger.reserved_tokens or ledger.reserved_usd for ledger in self.ledgers)


class Watched(Ledger):
    """Looks at itself and all its ancestors in each step."""

    def __init__(self, limits: Limits, parent: Watched | None, tally: Tally, **more: Any) -> None:
        super().__init__(limits, parent, **more)
        self.limits = limits
        self.tally = tally
        tally.ledgers.append(self)

    async def reserve(self, **asked: Any) -> Permit:
        permit = await super().reserve(**asked)
        self.tally.permits.append(permit)
        self.tally.reserved_after_overbilling += self.overbilled
        self._look()
        return permit

    def charge(self, permit: Permit, usage: TokenUsage, cost_usd: Decimal | None) -> None:
        self.tally.settlings[id(permit)] += 1
        super().charge(permit, usage, cost_usd)
        self._look()

    def _look(self) -> None:
        for ledger in self._lineage():
            limits = ledger._limits
            held = {
                "max_sub_calls": ledger.sub_calls,
                "max_tokens": ledger.spent_tokens + ledger.reserved_tokens,
                "max_cost_usd": ledger.spent_usd + ledger.reserved_usd,
            }
            self.tally.overshoots += [
                f"{name}: {amount} of {getattr(limits, name)}"
                for name, amount in held.items()
                if amount > getattr(limits, name)
            ]
