"""What is asked of it, the rounds, and what is written."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.image import ensure_image
from tests.bench.end_to_end.many import CELLS_OF_A_RUN
from tests.bench.end_to_end.page import figures_table, verdicts
from tests.bench.end_to_end.parts import PARTS
from tests.bench.end_to_end.script import tasks
from tests.bench.findings import aims_table, default_folder, write
from tests.bench.machine import engine_needed, engine_versions, machine, machine_lines
from tests.bench.own_process import Failed, count, measure_apart, say, seconds
from tests.bench.speed.peers import PEERS, install, peer_image, remove_leftovers

MODULE = "tests.bench.end_to_end"
WORK = {
    "latency_s": 1.0,
    "cells": 5,
    "runs": 100,
    "few": 8,
    "checkouts": 100,
    "large_bytes": 1_000_000_000,
    "loads": 3,
    "printed_chars": 50_000_000,
    "starts": 10,
}
SMALL = {
    "latency_s": 0.01,
    "cells": 1,
    "runs": 3,
    "few": 1,
    "checkouts": 2,
    "large_bytes": 1_000_000,
    "loads": 1,
    "printed_chars": 500_000,
    "starts": 1,
}
PEER_RUNS = (100, 10)
"""At once, by the peer: the second where the first fails."""


class Measured:
    """What came out.

    Attributes:
        parts: Figures of each part by their names, a value for each round.
        notes: What could not be measured, and why.
        failed: Whether anything of ours is among that.
    """

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, list[float]]] = {}
        self.notes: list[str] = []
        self.failed = False

    def add(self, part: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.parts.setdefault(part, {}).setdefault(name, []).append(value)

    def figure(self, part: str, name: str) -> float:
        """One that was measured, or 0."""
        return self.parts.get(part, {}).get(name, [0.0])[-1]

    def as_findings(self) -> dict[str, Any]:
        return {"parts": self.parts, "notes": self.notes}


def measured(parts: Sequence[str], rounds: int, work: Mapping[str, Any], *, peers: bool | None = None) -> Measured:
    """Measure parts in rounds.

    Args:
        parts: Names of `PARTS`.
        rounds: How often each.
        work: What they are told.
        peers: Whether the peer is asked for what it can do of it; True: and fetched where it is missing.
    """
    found = Measured()
    if "many" in parts and (missing := _missing_data()):
        found.notes.append(missing)
        parts = [part for part in parts if part != "many"]
    for number in range(rounds):
        for part in parts:
            say(f"round {number + 1} of {rounds}: {part}")
            try:
                found.add(part, measure_apart(MODULE, {**work, "part": part}))
            except Failed as failure:
                say(f"  {failure}")
                found.notes.append(f"{part}: {failure}")
                found.failed = True
    if "many" in parts and peers is not None:
        _ask_the_peer(found, work, may_install=peers)
    return found


def _missing_data() -> str:
    try:
        tasks(1)
    except OSError as error:
        return (
            f"many runs at once: the test data is not there ({error.strerror}); AIRLOCK_SHARED names its parent folder"
        )
    return ""


def _ask_the_peer(found: Measured, work: Mapping[str, Any], *, may_install: bool) -> None:
    peer = PEERS[0]
    try:
        if may_install:
            install(peer)
        if not peer.is_here:
            raise Failed("not installed: make bench PEERS=1")
        with peer_image(peer) as image:
            for runs in PEER_RUNS if work["runs"] > PEER_RUNS[1] else (work["runs"],):
                say(f"{runs} runs at once, {peer.name}")
                asked = {
                    **work,
                    "runs": runs,
                    "image": image,
                    "cell_s": found.figure("many", CELLS_OF_A_RUN) / 1000,
                }
                try:
                    found.add("many", measure_apart(f"{MODULE}.many_rlms", asked, python=peer.python))
                    return
                except Failed as failure:
                    found.notes.append(f"{runs} runs at once, {peer.name}: {failure}")
                    say(f"  {failure}")
                finally:
                    remove_leftovers()
    except Failed as failure:
        found.notes.append(f"many runs at once, {peer.name}: {failure}")


def markdown(findings: Mapping[str, Any]) -> str:
    """The page of whole runs alone."""
    lines = ["# Whole runs", "", *machine_lines(findings), f"- rounds: {findings['rounds']}"]
    lines += [f"- {' '.join(note.split())[:300]}" for note in findings["notes"]]
    lines += ["", *aims_table(list(verdicts(findings["parts"]))), "", *figures_table(findings["parts"]), ""]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write. 1 where something of ours has no figures."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}", description="What whole runs cost over their model's time."
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--latency", type=seconds, help="seconds of each call of a model (1)")
    parser.add_argument("--runs", type=count, help="runs at once (100)")
    parser.add_argument("--rounds", type=count, default=1)
    parser.add_argument("--peers", action="store_true", help="install the peer from the package index where missing")
    parser.add_argument("--no-peers", action="store_true", help="leave the peer out though it is installed")
    parser.add_argument("--small", action="store_true", help="a little of each: only to see that it works")
    parser.add_argument("--out", type=Path, help="folder of the results (tests/bench/results/DATE)")
    options = parser.parse_args(arguments)
    work = dict(SMALL if options.small else WORK)
    work |= {"latency_s": options.latency} if options.latency is not None else {}
    work |= {"runs": options.runs, "few": min(work["few"], options.runs)} if options.runs else {}
    on = machine()
    with engine_needed():
        ensure_image(say)
    found = measured(options.parts, options.rounds, work, peers=None if options.no_peers else options.peers)
    findings = {
        "machine": on,
        "versions": asyncio.run(engine_versions()),
        "rounds": options.rounds,
        **found.as_findings(),
    }
    write(options.out or default_folder(on), "end_to_end", findings, markdown(findings), plot=False)
    return 1 if found.failed else 0
