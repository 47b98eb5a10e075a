"""The figures of whole runs as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from tests.bench.end_to_end.aims import AIMS
from tests.bench.findings import Verdict, missed

Parts = Mapping[str, Mapping[str, Sequence[float]]]


def verdicts(parts: Parts) -> Iterator[Verdict]:
    """What came of each aim whose figure there is."""
    for name, values in _each(parts):
        if aim := AIMS.get(name):
            figure = statistics.median(values)
            met = figure <= aim.most
            result = f"{figure:,.3g}: {'met' if met else missed(figure / aim.most)}"
            yield Verdict(what=name, most=f"{aim.most:,g}", result=result, met=met, why=aim.why)


def figures_table(parts: Parts) -> list[str]:
    """A line for each figure: its median and the most."""
    lines = ["| | median | most |", "|---|---|---|"]
    return lines + [
        f"| {name} | {shown(statistics.median(values))} | {shown(max(values))} |" for name, values in _each(parts)
    ]


def shown(value: float) -> str:
    """Three digits that count, and no power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _each(parts: Parts) -> Iterator[tuple[str, Sequence[float]]]:
    for figures in parts.values():
        yield from figures.items()
