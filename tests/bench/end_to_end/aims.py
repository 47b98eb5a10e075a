"""What is aimed at for whole runs, and why an aim is missed where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Most:
    """What a median shall be at most.

    Attributes:
        most: In the figure's own unit.
        why: What a missed aim is owed to, as profiles said.
    """

    most: float
    why: str = ""


AIMS: Mapping[str, Most] = {
    "over the model's own time, cold start included, %": Most(
        1.0,
        "a cold start is 0.3 to 0.4 s of these 60, and a removal 0.1 to 0.2; a box of a pool starts at once",
    ),
    "over the model's own time, box ready, %": Most(1.0),
    "64 threads of llm_query, over the model's time, ms": Most(50),
    "a ready box with 10 MB, checkout to first result, p50, ms": Most(15),
    "1 GB of ASCII as a str, ms": Most(1000),
    "longest block, a run that prints little, ms": Most(50),
    "longest block, a cell prints 50 MB at once, ms": Most(50),
    "longest block, a cell prints 50 MB in lines, ms": Most(50),
    "longest block, a text of 50 MB is cut, ms": Most(50),
    "airlock --help, ms": Most(200),
    "import orchestrator, ms": Most(150),
}
"""By the names of the figures; what is not here has no aim."""
