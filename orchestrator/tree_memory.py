"""What the runs of one recursion tree share of a journal: whose calls are still to be charged, and what differs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from orchestrator.errors import Diverged
from orchestrator.recorded import CellCall, Record
from orchestrator.result import Divergence
from sandbox.messages import SubCallFailure

if TYPE_CHECKING:
    from orchestrator.journal import Journal
    from orchestrator.ledger import Ledger
    from orchestrator.permit import Permit

MAX_DIVERGENCES: Final = 1000
"""That one run pays for, where it was allowed to."""


class TreeMemory:
    """What all runs of one recursion tree share of it.

    Args:
        journal: Where it is kept; None where nothing is.
        ledger: The first run's account.
        runs_cells_again: Whether cells may run once more in this life, in a fresh box.

    Attributes:
        diverged: What ends the tree, where something does.
        divergences: What was paid for though it is not recorded.
    """

    def __init__(self, journal: Journal | None, ledger: Ledger, *, runs_cells_again: bool = False) -> None:
        self.journal = journal
        self.runs_cells_again = runs_cells_again
        self.diverged: Diverged | None = None
        self.divergences: list[Divergence] = []
        self._ledger = ledger
        charges = journal.record.charges if journal else {}
        self._open_charges = dict(charges)
        self._permits = itertools.count(max(charges, default=0) + 1)
        self._lost_charged = False
        for charge in charges.values():
            ledger.foresee(charge)

    @property
    def asks_nobody(self) -> bool:
        """Whether whatever is not recorded fails."""
        return self.journal is not None and self.journal.asks_nobody

    def sends(self, run: int, permit: Permit, *, sub_call: bool, sent_bytes: int) -> int:
        """A run sends an attempt, and what it may cost is on disk before it is. Returns its number."""
        number = next(self._permits)
        if self.journal is not None:
            usd = None if permit.reserved_usd is None else str(permit.reserved_usd)
            facts = {"sub_call": sub_call, "tokens": permit.reserved_tokens, "usd": usd, "sent_bytes": sent_bytes}
            self.journal.note("permit", permit=number, run=run, **facts)
        return number

    def settled(self, number: int, permit: Permit) -> None:
        """What an attempt cost is known."""
        if self.journal is not None and permit.charged is not None:
            usage, usd = permit.charged
            money = None if usd is None else str(usd)
            self.journal.note("settled", permit=number, usage=dataclasses.asdict(usage), usd=money)

    def raise_diverged(self) -> None:
        """End the run where it, or another of its tree, does not do what is recorded.

        Raises:
            Diverged: It does not.
        """
        if self.diverged is not None:
            raise self.diverged

    def charge(self, permit: int, ledger: Ledger, *, sub_call: bool) -> None:
        """Charge what a recorded attempt cost, once."""
        if charge := self._open_charges.pop(permit, None):
            ledger.charge_recorded(charge, sub_call=sub_call)

    def charge_tree(self, run: int, ledger: Ledger) -> None:
        """Charge all that a child run and those below it cost to the run that started it."""
        if self.journal is not None:
            below = self.journal.record.below(run)
            for permit in [number for number, charge in self._open_charges.items() if charge.run in below]:
                self.charge(permit, ledger, sub_call=True)

    def charge_lost(self) -> None:
        """Charge the attempts that brought no reply which is recorded. They were sent and are paid for, but belong to
        no call; so the first run pays for them, as soon as something new is asked.
        """
        if self._lost_charged or self.journal is None:
            return
        self._lost_charged = True
        record = self.journal.record
        ended = set().union(*(record.below(child) for child in _ended_children(record)))
        awaited = set(_awaited(record))
        for permit, charge in list(self._open_charges.items()):
            if permit not in awaited and charge.run not in ended:
                self.charge(permit, self._ledger, sub_call=charge.sub_call or charge.run != 0)

    def charge_rest(self) -> None:
        """The tree ends: charge all that was not, so that its usage is that of all lives."""
        for permit, charge in list(self._open_charges.items()):
            self.charge(permit, self._ledger, sub_call=charge.sub_call or charge.run != 0)

    def differs(self, found: Divergence, *, recorded: str | None, asked: str | None) -> None:
        """A run does what is not recorded: that ends the tree, or is told where it may."""
        journal = self.journal
        if journal is None or not journal.allow_divergence or len(self.divergences) >= MAX_DIVERGENCES:
            self.diverged = self.diverged or Diverged(found.what, recorded=recorded, asked=asked)
            return
        self.divergences.append(found)
        facts = {"run": found.run, "turn": found.turn, "cell": found.cell, "what": found.what}
        journal.note("divergence", **facts, recorded=recorded, asked=asked)
        self.charge_lost()


def _ended_children(record: Record) -> Iterator[int]:
    for run in record.runs.values():
        for cell in run.cells.values():
            for call in cell.calls.values():
                if call.child is not None and call.outcome is not None:
                    yield call.child


def _awaited(record: Record) -> Iterator[int]:
    """Permits of all calls whose replies a run may still be given."""
    for run in record.runs.values():
        for root in run.roots:
            yield from root.permits
        for cell in run.cells.values():
            for call in cell.calls.values():
                if not is_cancelled(call):
                    yield from call.permits


def is_cancelled(call: CellCall) -> bool:
    """Whether nobody waited for the answer: the run ended, or the cell's time was over."""
    return isinstance(call.outcome, SubCallFailure) and call.outcome.kind == "Cancelled"
