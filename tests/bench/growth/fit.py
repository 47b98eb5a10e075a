"""How fast a figure grows: the exponent of a power law through what it costs more than the smallest size does."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

TOLERANCE = 0.25
"""Above 1: noise of few points. A square has 2."""
NOTICED = 0.1
"""Growth below a tenth of the fixed cost drowns in noise."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What came of one figure.

    Attributes:
        exponent: 1 is linear, 2 a square; None where it hardly grows or there are too few points to tell.
        told: In words.
        worse: Whether it is worse than linear.
    """

    exponent: float | None
    told: str
    worse: bool


def growth_of(figures: Mapping[int, float]) -> Growth:
    """How a figure grows with the size.

    What every size costs (a box's start) would hide the growth of small sizes, so the smallest size's is taken off.
    Of the rest the larger half counts, since that is where a square shows.

    Args:
        figures: By size.
    """
    sizes = sorted(figures)
    least, fixed = sizes[0], figures[sizes[0]]
    grown = [(size - least, figures[size] - fixed) for size in sizes[1:]]
    noticed = [(more, cost) for more, cost in grown if cost > NOTICED * abs(fixed)]
    if not noticed:
        return Growth(None, "hardly grows", worse=False)
    if len(noticed) < 2:
        return Growth(None, f"{noticed[0][1] / (abs(fixed) or 1):.1f}x the smallest at the largest alone", worse=False)
    counted = noticed[-max(2, math.ceil(len(noticed) / 2)) :]
    xs, ys = [math.log(more) for more, _ in counted], [math.log(cost) for _, cost in counted]
    exponent = statistics.linear_regression(xs, ys).slope
    if exponent > 1 + TOLERANCE:
        return Growth(exponent, f"WORSE THAN LINEAR, size^{exponent:.2f}", worse=True)
    return Growth(exponent, f"size^{exponent:.2f}", worse=False)
