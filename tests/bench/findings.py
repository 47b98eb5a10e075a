"""Where findings go: JSON for programs, Markdown for people, a plot for both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.environments import PLOTTER, python_of
from tests.bench.own_process import REPOSITORY, say


def default_folder(machine: Mapping[str, Any]) -> Path:
    """``tests/bench/results/DATE``."""
    return Path(__file__).parent / "results" / str(machine["date"])[:10]


def write(folder: Path, name: str, findings: Mapping[str, Any], markdown: str, *, plot: bool = True) -> None:
    """Write ``NAME.json``, ``NAME.md`` and, where matplotlib is, ``NAME.svg``; print the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(findings, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown)
    print(markdown, flush=True)
    if plot:
        _draw(path)
    say(f"written to {folder}")


def missed(times_the_aim: float) -> str:
    """By how much, in words."""
    return f"missed by {times_the_aim - 1:.0%}" if times_the_aim <= 2 else f"missed, {times_the_aim:.3g} times the aim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of an aim.

    Attributes:
        what: Whose figure it is, and which.
        most: What it shall be at most, in words.
        result: What it is, and by how much that is too much.
        met: None where it was not measured.
        why: What a missed aim is owed to.
    """

    what: str
    most: str
    result: str
    met: bool | None
    why: str = ""


def aims_table(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for each, and below them why some were missed."""
    met = sum(one.met is True for one in verdicts)
    lines = [f"{met} of {sum(one.met is not None for one in verdicts)} aims are met.", ""]
    lines += ["| aim | at most | result |", "|---|---|---|"]
    lines += [f"| {one.what} | {one.most} | {one.result} |" for one in verdicts]
    missed_ones = [one for one in verdicts if one.met is False]
    lines += ["", "Why the others are missed:", ""] if missed_ones else []
    return lines + [f"- {one.what}: {one.why or 'not looked into yet'}" for one in missed_ones]


def _draw(path: Path) -> None:
    python = python_of(PLOTTER)
    if not Path(python).exists():
        python = sys.executable  # which may have matplotlib
    command = [python, "-m", "tests.bench.plot", str(path)]
    drawn = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if drawn.returncode:
        say("no plot: " + (drawn.stderr.strip().splitlines() or ["?"])[-1])
