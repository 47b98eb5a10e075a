"""Runs in a row, each killed with SIGKILL at a random place: what is left, and how long boxes outlive their hosts.

    python -m tests.lifecycle.random_kills [--runs 200] [--seed N] [--isolation gvisor]

Half of the runs end at a random point of `tests.lifecycle.points`, the others at a random time. Each is the next start
after the one before. Prints a Markdown table, and ends with 1 where something is left.
"""

from __future__ import annotations

import argparse
import math
import random
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.cli.exits import ExitCode
from sandbox.engine import connect
from tests.lifecycle.desk import KILLED, Desk, Running
from tests.lifecycle.points import POINTS

NOT_STARTED_S: Final = 2.0
"""A box that the engine has not begun to start so long after its host's end will never be started."""
GIVE_UP_S: Final = 30.0


@dataclass(slots=True)
class Report:
    """What the runs did, and what they have left.

    Attributes:
        outlived_s: For each box that ran when its host was killed, the seconds until it was gone, and where that was.
        never_started: Boxes without a process, which the next run has removed.
        left: What is left, in words; empty as it should be.
        killed: Runs that were killed; the others had answered before.
    """

    outlived_s: list[tuple[float, str]] = field(default_factory=list)
    never_started: int = 0
    left: list[str] = field(default_factory=list)
    killed: int = 0

    def percentile(self, share: float) -> float:
        """Of `outlived_s`."""
        taken = sorted(self.outlived_s)
        return taken[max(0, math.ceil(share * len(taken)) - 1)][0] if taken else math.nan

    def table(self, isolation: str) -> str:
        """As Markdown."""
        slowest = sorted(self.outlived_s, reverse=True)[:5]
        figures = [self.percentile(0.5), self.percentile(0.99), self.percentile(1)]
        return (
            "| isolation | killed | boxes that ran | p50 s | p99 s | most s | never started | left |\n"
            "|---|---|---|---|---|---|---|---|\n"
            f"| {isolation} | {self.killed} | {len(self.outlived_s)} | "
            f"{' | '.join(f'{figure:.2f}' for figure in figures)} | {self.never_started} | {len(self.left)} |\n\n"
            "slowest: " + ", ".join(f"{seconds:.2f} s ({where})" for seconds, where in slowest)
        )


def random_kills(desk: Desk, runs: int, seed: int, isolation: str = "container") -> Report:
    """Do it. Nothing of another user of the engine is looked at."""
    rng, report = random.Random(seed), Report()
    volumes = _volumes()
    whole_s = _whole_run_s(desk, isolation, report)
    waiting: list[str] = []
    for _ in range(runs):
        began = time.monotonic()
        running, where, answered = _killed(desk, rng, whole_s, isolation, report)
        if answered:  # it was over before it was to be killed: the machine has become quicker
            whole_s = time.monotonic() - began
        known = running.boxes()
        if known:  # it came so far that it has looked for dead owners
            report.left += [f"box {box} after the next start" for box in waiting if _exists(box)]
            waiting.clear()
        waiting += _measure(running, known, where, report)
    reaped = desk.airlock("reap")
    if reaped.returncode != ExitCode.ANSWERED:
        report.left.append(f"airlock reap failed: {reaped.stderr}")
    report.left += [f"box {box} at the end" for box in waiting if _exists(box)]
    report.left += [f"volume {name}" for name in _volumes_since(volumes)]
    report.left += [f"file {name}" for name in desk.files() + desk.files_with_the_document()]
    return report


def _whole_run_s(desk: Desk, isolation: str, report: Report) -> float:
    began = time.monotonic()
    running = desk.start("none", isolation=isolation)
    if running.wait() != ExitCode.ANSWERED:
        report.left.append(f"a run that nobody killed failed: {running.said}")
    return time.monotonic() - began


def _killed(
    desk: Desk, rng: random.Random, whole_s: float, isolation: str, report: Report
) -> tuple[Running, str, bool]:
    """One run, at its end; where that was, and whether it came so far by itself."""
    at_point = rng.random() < 0.5
    point, delay_s = rng.choice(list(POINTS)), rng.uniform(0, whole_s)
    running = desk.start(point if at_point else "none", isolation=isolation)
    if not at_point:
        running.kill_after(delay_s)
    code = running.wait()
    if code == KILLED:
        report.killed += 1
    elif code != ExitCode.ANSWERED:
        report.left.append(f"a run failed by itself: {running.said}")
    return running, point if at_point else f"after {delay_s:.2f} s", code == ExitCode.ANSWERED


def _measure(running: Running, known: dict[str, str], where: str, report: Report) -> list[str]:
    """Wait until its boxes are gone; returns those that the next run has to remove."""
    began, ran = time.monotonic(), _ran(known)
    while left := running.boxes():
        waited_s = time.monotonic() - began
        ran |= _ran(left)
        if not ran and waited_s > NOT_STARTED_S:
            report.never_started += len(left)
            return list(left)
        if waited_s > GIVE_UP_S:
            report.left.append(f"boxes {left} outlive their host")
            return list(left)
        time.sleep(0.01)
    if ran:
        report.outlived_s.append((time.monotonic() - began, where))
    return []


def _ran(boxes: dict[str, str]) -> bool:
    return not set(boxes.values()) <= {"created"}


def _exists(box: str) -> bool:
    client = connect()
    try:
        return any(found["Id"] == box for found in client.containers(all=True))
    finally:
        client.close()


def _volumes() -> set[str]:
    client = connect()
    try:
        return {volume["Name"] for volume in client.volumes()["Volumes"] or ()}
    finally:
        client.close()


def _volumes_since(before: set[str]) -> set[str]:
    """Volumes that stay. Another user's come and go, and nothing says whose they are."""
    until = time.monotonic() + GIVE_UP_S
    since = _volumes() - before
    while since and time.monotonic() < until:
        time.sleep(0.5)
        since &= _volumes()
    return since


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--isolation", choices=["container", "gvisor"], default="container")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="random-kills-") as folder:
        report = random_kills(Desk(Path(folder)), options.runs, options.seed, options.isolation)
    print(report.table(options.isolation), *report.left, sep="\n")
    return 1 if report.left else 0


if __name__ == "__main__":
    sys.exit(main())
