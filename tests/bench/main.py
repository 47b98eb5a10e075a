"""`python -m tests.bench`: measures all there is, and writes one page with each aim met or missed by how much."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.end_to_end import main as runs
from tests.bench.end_to_end.page import figures_table
from tests.bench.end_to_end.page import verdicts as verdicts_of_runs
from tests.bench.end_to_end.parts import PARTS
from tests.bench.environments import make_plotter
from tests.bench.findings import aims_table, default_folder, write
from tests.bench.machine import engine_needed, machine_lines
from tests.bench.own_process import count
from tests.bench.speed import subjects as boxes
from tests.bench.speed import table
from tests.bench.speed.figures import Counts
from tests.bench.speed.peers import PEERS
from tests.bench.speed.rows import SUBJECTS

NAME = "bench"
OURS = ("airlock", "open_kernel", "pipe")
"""Without a figure of these there is no table: exit status 1."""
NOTE_CHARS = 300


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="What a box and a run cost, beside others. Some six minutes."
    )
    parser.add_argument("--rounds", type=count, default=3, help="of the boxes beside others")
    parser.add_argument("--run-rounds", type=count, default=1, help="of whole runs")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), metavar="SUBJECT",
                        help=", ".join(SUBJECTS))  # fmt: skip
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS), metavar="PART",
                        help="of whole runs, none for none: " + ", ".join(PARTS))  # fmt: skip
    parser.add_argument("--peers", action="store_true", help="install the peers from the package index where missing")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out though they are installed")
    parser.add_argument("--plot", action="store_true", help="install matplotlib for the plot, likewise")
    parser.add_argument("--small", action="store_true", help="a few of each: only to see that it works")
    parser.add_argument("--out", type=Path, help="folder of the results (tests/bench/results/DATE)")
    options = parser.parse_args(arguments)
    if options.no_peers:
        options.only = [name for name in options.only if name not in {peer.name for peer in PEERS}]
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All findings."""
    counts = boxes.SMALL if options.small else Counts()
    findings = boxes.measure(options.only, options.rounds, counts, may_install=options.peers)
    peers = options.peers if "rlms" in options.only else None
    found = runs.measured(options.parts, options.run_rounds, runs.SMALL if options.small else runs.WORK, peers=peers)
    failed = [name for name in OURS if name in options.only and findings["subjects"][name]["missing"]]
    return {**findings, **found.as_findings(), "failed": bool(failed or found.failed)}


def markdown(findings: Mapping[str, Any]) -> str:
    """All of it, as one page."""
    verdicts = [*table.verdicts(findings), *verdicts_of_runs(findings["parts"])]
    notes = [f"- {' '.join(note.split())[:NOTE_CHARS]}" for note in findings["notes"]]
    lines = ["# What a box and a run cost", "", *machine_lines(findings), *table.how_lines(findings), *notes, ""]
    lines += [*aims_table(verdicts), "", "## Boxes", "", *table.tables(findings)]
    if findings["parts"]:
        lines += ["", "## Whole runs, pools, large contexts", "", *figures_table(findings["parts"])]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the files. 1 where one of ours has no figures."""
    options = parsed(arguments)
    if options.plot:
        make_plotter()
    with engine_needed():
        findings = measure(options)
    write(options.out or default_folder(findings["machine"]), NAME, findings, markdown(findings))
    return 1 if findings["failed"] else 0
