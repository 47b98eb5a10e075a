"""No order of events in no recursion tree spends more than a limit allows, on any account."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest

from tests.bench.budget import without_boxes
from tests.ledger_trees import CONCURRENCY, MAX_DEPTH, OUTCOMES, Tree

pytestmark = pytest.mark.timeout(3600)  # the full counts take minutes


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Each retry is a warning, and there are tens of thousands."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_no_tree_overshoots_and_every_permit_is_settled_once(repeats: Callable[[int], int]) -> None:
    *_, total = without_boxes(range(repeats(10_000)))
    assert total.wrong == []
    assert (total.overshoots, total.unsettled, total.boxes_left) == (0, 0, 0)
    assert set(total.outcomes) == set(OUTCOMES), "each way to fail has happened"
    assert total.most_in_flight == CONCURRENCY
    assert total.deepest == MAX_DEPTH - 1


def test_a_provider_that_bills_more_ends_the_tree_and_leaves_both_numbers(repeats: Callable[[int], int]) -> None:
    ended = 0
    for seed in range(repeats(1000)):
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
