"""Whether anything grows faster than what a run is given.

    python -m tests.bench.growth [--full] [--series context turns] [--out DIR]

Each size of each series is measured in a process of its own, a few times, and the least figure counts. Prints a table
with the exponent of each growth, writes it with a plot, and ends with 1 where anything is worse than linear.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.engine import Engine
from sandbox.image import ensure_image
from tests.bench.findings import default_folder, write
from tests.bench.growth.fit import growth_of
from tests.bench.machine import engine_needed, machine, machine_lines, versions
from tests.bench.own_process import Failed, interruptible, measure_apart, say

M = 1_000_000
QUICK = {
    "context": (M, 4 * M, 16 * M, 64 * M),
    "lazy_context": (4 * M, 16 * M, 64 * M, 256 * M),
    "turns": (1, 5, 10, 20, 40),
    "sub_calls": (10, 100, 500, 2000, 5000),
    "boxes": (1, 2, 4, 8),
}
FULL = {
    "context": (M, 4 * M, 16 * M, 64 * M, 250 * M, 1000 * M),
    "lazy_context": (4 * M, 16 * M, 64 * M, 250 * M, 1000 * M),
    "turns": (1, 3, 10, 30, 50, 100),
    "sub_calls": (10, 100, 1000, 10_000, 30_000, 100_000),
    "boxes": (1, 2, 4, 8, 16, 32, 64),
}
UNITS = {"context": "bytes", "lazy_context": "bytes", "turns": "turns", "sub_calls": "sub-calls", "boxes": "boxes"}
FIGURES = {
    "seconds": "time",
    "host_bytes": "memory of the host process, more than before",
    "box_bytes": "PSS of the boxes",
}


def measured(sizes: Mapping[str, Sequence[int]], repeats: int) -> dict[str, dict[str, dict[int, float]]]:
    """By series, figure and size. Sizes are interleaved over the repeats."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for series in sizes:
        for repeat in range(repeats):
            for size in sizes[series]:
                say(f"{series}: {size:,} ({repeat + 1} of {repeats})")
                try:
                    figures = measure_apart(
                        "tests.bench.growth.point", {"series": series, "size": size}, timeout_s=3600
                    )
                except Failed as failure:
                    say(f"  {failure}")
                    continue
                for name, value in figures.items():
                    by_size = found.setdefault(series, {}).setdefault(name, {})
                    by_size[size] = min(value, by_size.get(size, value))
    return found


def shown(name: str, value: float) -> str:
    return f"{value:,.3g} s" if name == "seconds" else f"{value / M:,.1f} MB"


def markdown(findings: Mapping[str, Any]) -> str:
    """The table of all series, a line for each figure."""
    lines = [
        "# How cost grows",
        "",
        *machine_lines(findings),
        f"- the least of {findings['repeats']}; the exponent is that of the larger half of the sizes,",
        "  without what the smallest one costs: 1 is linear",
        "",
        "| grows with | figure | sizes | figures | grows as |",
        "|---|---|---|---|---|",
    ]
    for series, figures in findings["series"].items():
        for name, by_size in figures.items():
            sizes = ", ".join(f"{int(size):,}" for size in by_size)
            values = ", ".join(shown(name, value) for value in by_size.values())
            growth = growth_of({int(size): value for size, value in by_size.items()})
            lines.append(f"| {series} ({UNITS[series]}) | {FIGURES[name]} | {sizes} | {values} | {growth.told} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="up to 1 GB, 100 turns, 100,000 sub-calls, 64 boxes")
    parser.add_argument("--series", nargs="+", choices=UNITS, default=list(UNITS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder of the results (tests/bench/results/DATE)")
    options = parser.parse_args(arguments)
    on, all_sizes = machine(), FULL if options.full else QUICK
    with engine_needed():
        ensure_image(say)
    sizes = {series: all_sizes[series] for series in options.series}
    findings = {
        "machine": on,
        "versions": asyncio.run(_versions()),
        "repeats": options.repeats,
        "series": measured(sizes, options.repeats),
    }
    findings["machine"]["load_at_end"] = round(os.getloadavg()[0], 2)
    write(options.out or default_folder(on), "growth", findings, markdown(findings))
    everything = [by_size for figures in findings["series"].values() for by_size in figures.values()]
    whole = set(findings["series"]) == set(sizes)
    return 0 if whole and not any(growth_of(by_size).worse for by_size in everything) else 1


async def _versions() -> dict[str, str]:
    engine = await Engine.connect()
    try:
        return await versions(engine)
    finally:
        await engine.aclose()


if __name__ == "__main__":
    raise SystemExit(interruptible(main))
