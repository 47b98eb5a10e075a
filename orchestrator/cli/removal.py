"""What `airlock reap` and `airlock clean` do with the things that were found, and say of each: one line, or JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.messages import say
from orchestrator.rendering import escape_terminal
from sandbox.leftovers import Leftover, Outcome


def show_plan(leftovers: Iterable[Leftover]) -> None:
    """To stdout, what would be removed and what would stay."""
    for leftover in leftovers:
        _line("would remove" if leftover.remove else "would leave", leftover)


def _line(verb: str, thing: Leftover | Outcome) -> None:
    sys.stdout.write(f"{verb} {thing.kind} {escape_terminal(thing.name)}: {escape_terminal(thing.why)}\n")


def report_plan(leftovers: Sequence[Leftover], problem: str, *, as_json: bool) -> ExitCode:
    """Say what would be done, and give the exit code; else as `report`."""
    if as_json:
        _json(
            [{"kind": x.kind, "name": x.name, "goes": x.remove is not None, "why": x.why} for x in leftovers], problem
        )
    else:
        show_plan(leftovers)
    return _ended(problem, found=bool(leftovers), failed=False)


def report(outcomes: Sequence[Outcome], problem: str, *, as_json: bool) -> ExitCode:
    """Say what was done, and give the exit code.

    Args:
        outcomes: What became of each thing.
        problem: Why the engine could not be looked at, or "".
        as_json: One JSON object on stdout instead of lines.
    """
    if as_json:
        _json([dataclasses.asdict(outcome) for outcome in outcomes], problem)
    else:
        for outcome in outcomes:
            _line("removed" if outcome.removed else "could not remove" if outcome.failed else "left", outcome)
    return _ended(problem, found=bool(outcomes), failed=any(outcome.failed for outcome in outcomes))


def _json(leftovers: list[dict[str, Any]], problem: str) -> None:
    sys.stdout.write(json.dumps({"leftovers": leftovers, "error": problem or None}) + "\n")


def _ended(problem: str, *, found: bool, failed: bool) -> ExitCode:
    sys.stdout.flush()
    if problem:
        say(problem)
    elif not found:
        say("there is nothing of ours")
    return ExitCode.SANDBOX if problem or failed else ExitCode.ANSWERED
