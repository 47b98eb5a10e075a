"""No order of events in no recursion tree spends more than a limit allows, on any account."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.ledger_trees import CONCURRENCY, OUTCOMES, Tree

pytestmark = pytest.mark.timeout(3600)  # the full counts take minutes


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Each retry is a warning, and there are tens of thousands."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_no_tree_overshoots_and_every_permit_is_settled_once(repeats: Callable[[int], int]) -> None:
    outcomes: Counter[str] = Counter()
    most_in_flight = depths = 0
    for seed in range(repeats(4000)):
        tally = asyncio.run(Tree(seed).run())
        assert tally.overshoots == [], seed
        assert tally.unsettled == 0, seed
        assert not tally.left_reserved, seed
        assert tally.overbilled == [], seed
        first = tally.ledgers[0]
        assert first.sub_calls + first.root_calls == len(tally.permits), seed
        outcomes += tally.outcomes
        most_in_flight = max(most_in_flight, tally.most_in_flight)
        depths = max(depths, max(len(list(ledger._lineage())) for ledger in tally.ledgers))
    assert set(outcomes) == set(OUTCOMES), "each way to fail has happened"
    assert most_in_flight == CONCURRENCY
    assert depths == 5


def test_a_provider_that_bills_more_ends_the_tree_and_leaves_both_numbers(repeats: Callable[[int], int]) -> None:
    ended = 0
    for seed in range(repeats(2000)):
        tally = asyncio.run(Tree(seed, overbills=True).run())
        assert tally.unsettled == 0, seed
        assert not tally.left_reserved, seed
        assert tally.reserved_after_overbilling == 0, seed
        assert len(tally.overbilled) == sum(permit.overbill is not None for permit in tally.permits), seed
        excess = sum(told["billed_tokens"] - told["reserved_tokens"] for told in tally.overbilled)
        first = tally.ledgers[0]
        assert first.spent_tokens <= first.limits.max_tokens + excess, seed
        assert not tally.overshoots or tally.overbilled, seed
        ended += first.overbilled
    assert ended
