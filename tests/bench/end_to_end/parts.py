"""The parts, by their names; each is measured in a process of its own."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from tests.bench.end_to_end.alone import blocks, overhead, threads
from tests.bench.end_to_end.many import many
from tests.bench.end_to_end.starts import starts
from tests.bench.end_to_end.waiting import checkout, large

PARTS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "overhead": overhead,
    "threads": threads,
    "many": many,
    "checkout": checkout,
    "large": large,
    "blocks": blocks,
    "starts": starts,
}


def measure(work: dict[str, Any]) -> dict[str, float]:
    """Work: ``part``, and what that part reads."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["AIRLOCK_STATE"] = state
        figures: dict[str, float] = asyncio.run(PARTS[work["part"]](work))
    return figures
