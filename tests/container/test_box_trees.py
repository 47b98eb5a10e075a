"""Random recursion trees in real boxes: no limit is passed, every permit is settled, and no box is left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.bench.budget import in_boxes

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Each retry is a warning."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_no_tree_overshoots_or_leaves_a_box(repeats: Callable[[int], int]) -> None:
    *_, total = in_boxes(range(repeats(30)))
    assert total.wrong == []
    assert (total.overshoots, total.unsettled, total.boxes_left) == (0, 0, 0)
    assert total.boxes > total.trees
