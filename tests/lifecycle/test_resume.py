"""A run with a journal, killed by SIGKILL, is gone on with: to the same answer, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from orchestrator.audit_log import verify_trace
from orchestrator.comparing import compare
from orchestrator.journal import Journal
from orchestrator.record_reader import read_record
from tests.conftest import REPOSITORY
from tests.events import faults_in
from tests.lifecycle.desk import KILLED

pytestmark = pytest.mark.docker

SAID: Final = ["<What is alpha?>", "<What is bravo?>", "<What is charlie?>", "<What is delta?>"]
ANSWERS: Final = {
    "turns": f"520 <What is first?> {SAID} <What is first?>",
    "children": str((["5 <Help with 5>", "5 <Help with 5>", "7 <Help with 7>"], "1 <Help with 1>")),
    "killed box": str(("<three>", False)),
    "restored box": str(("<three>", True)),
    "refused": str([f"<q{i}>" for i in range(4)] + ["4 of 4 sub-calls used"] * 2),
    "summed up": str([f"<Help with {i}>" for i in range(1, 7)]),
    "strategies": "1 <Help me>",
}
CALLS: Final = {
    "turns": 10,
    "children": 15,
    "killed box": 7,
    "restored box": 7,
    "refused": 6,
    "summed up": 14,
    "strategies": 7,
}
LONGER: Final = ("refused", "killed box", "restored box", "strategies")
REPLIES: Final = ("root_reply", "call")


class Survivor:
    """Lives of one run. See `tests.lifecycle.survivor`."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.plan = plan
        self.directory = folder / "journal"
        self._calls = folder / "journal.calls"
        self._environment = os.environ | {"AIRLOCK_STATE": str(folder / "state")}
        self.lives = 0

    def live(self, line: int | str = 0, *more: str) -> dict[str, Any] | None:
        """One life, the first or a further one; None where it was killed."""
        self.lives += 1
        what = "ask" if self.lives == 1 else "resume"
        life = subprocess.run(
            [sys.executable, "-m", "tests.lifecycle.survivor", self.plan, self.directory, str(line), what, *more],
            cwd=REPOSITORY,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if life.returncode == KILLED:
            return None
        assert life.returncode == 0, life.stderr
        found: dict[str, Any] = json.loads(life.stdout.splitlines()[-1])
        return found

    @property
    def calls(self) -> int:
        """Calls that the models have had."""
        return len(self._calls.read_text().splitlines()) if self._calls.exists() else 0

    @property
    def journal(self) -> Path:
        return self.directory / "journal.jsonl"

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_text().splitlines()]

    @property
    def in_flight(self) -> int:
        """Calls whose replies are not in the journal."""
        return self.calls - sum(line["kind"] in REPLIES and bool(line["permits"]) for line in self.lines)

    def assert_ended_well(self, result: dict[str, Any] | None, *, paid_twice: int = 0) -> None:
        assert result is not None
        assert result.get("answer") == ANSWERS[self.plan], result
        assert self.calls == CALLS[self.plan] + paid_twice
        charges = read_record(self.journal).charges.values()
        assert sum(result["calls"]) == len(charges)
        assert result["tokens"] == sum(charge.usage.input_tokens + charge.usage.output_tokens for charge in charges)
        assert faults_in(self.journal) == []
        verdict = verify_trace(self.journal)
        assert verdict.problem is None
        assert verdict.ended
        events = Counter(
            (line["kind"], line.get("run"), line["turn"], line["cell"]) for line in self.lines if line["kind"] == "cell"
        )
        assert set(events.values()) == {1}, "nothing that happened again is told again"


@pytest.fixture
def survivor(tmp_path: Path) -> Callable[[str], Survivor]:
    """Makes the survivor of a plan."""
    return lambda plan: Survivor(tmp_path, plan)


@pytest.mark.parametrize(
    "plan",
    ["turns", *(pytest.param(plan, marks=pytest.mark.long) for plan in LONGER)],
)
def test_killed_at_each_turn_boundary_it_comes_to_the_same_answer_with_as_many_calls(
    plan: str, survivor: Callable[[str], Survivor]
) -> None:
    """Each life is killed at the first turn that is new to it."""
    run = survivor(plan)
    while (result := run.live("turn:1")) is None:
        assert run.in_flight == 0
    run.assert_ended_well(result)
    assert result is not None
    assert run.lives == result["turns"] + 1


@pytest.mark.parametrize(("plan", "line", "turns"), [("summed up", "root_reply:6", 5), ("strategies", "strategy:1", 3)])
def test_it_sums_up_and_changes_its_strategy_where_it_had_done_so_and_so_does_a_replay(
    plan: str, line: str, turns: int, survivor: Callable[[str], Survivor]
) -> None:
    """The second life shows its root more of each output, which would have filled its conversation earlier."""
    run = survivor(plan)
    assert run.live(line) is None
    assert run.in_flight == 0
    early = asyncio.run(compare(Journal.open(run.directory, to_compare=True)))
    assert (early.same, early.cells) == (True, turns)
    run.assert_ended_well(result := run.live(0, "more"))
    kinds = Counter(written["kind"] for written in run.lines)
    assert kinds["compaction"] + kinds["strategy"] == 1
    late = asyncio.run(compare(Journal.open(run.directory, to_compare=True)))
    assert result is not None
    assert (late.problem, late.cells) == (None, result["turns"])


@pytest.mark.parametrize("line", ["child_end:2", pytest.param("turn:3", marks=pytest.mark.long)])
def test_child_runs_that_had_ended_get_no_box_and_the_others_go_on(
    line: str, survivor: Callable[[str], Survivor]
) -> None:
    run = survivor("children")
    assert run.live(line) is None
    lost, ended = run.in_flight, sum(written["kind"] == "child_end" for written in run.lines)
    boxes = sum(written["kind"] == "box" for written in run.lines)
    run.assert_ended_well(run.live(), paid_twice=lost)
    assert sum(written["kind"] == "box" for written in run.lines) - boxes <= 7 - ended


@pytest.mark.long
def test_killed_at_each_turn_of_any_run_of_the_tree(survivor: Callable[[str], Survivor]) -> None:
    run = survivor("children")
    twice = 0
    while (result := run.live("turn:1")) is None:
        twice += run.in_flight - twice
    run.assert_ended_well(result, paid_twice=twice)


def test_only_calls_in_flight_are_paid_for_twice(survivor: Callable[[str], Survivor]) -> None:
    """Killed while a batch is asked: one of its replies is there."""
    run = survivor("turns")
    assert run.live("call:2") is None
    lost = run.in_flight
    assert lost == 3
    run.assert_ended_well(run.live(), paid_twice=lost)


@pytest.mark.long
@pytest.mark.parametrize("plan", ["turns", "children", "killed box", "restored box", "summed up", "strategies"])
def test_killed_behind_any_line(plan: str, tmp_path: Path) -> None:
    whole = Survivor(tmp_path / "whole", plan)
    whole.directory.parent.mkdir()
    whole.assert_ended_well(whole.live())
    numbers = random.Random(plan).sample(range(1, len(whole.lines)), 15)
    for number in numbers:
        run = Survivor(tmp_path / str(number), plan)
        run.directory.parent.mkdir()
        assert run.live(number) is None
        lost = run.in_flight
        run.assert_ended_well(run.live(), paid_twice=lost)


def test_what_a_cell_asks_otherwise_ends_the_run_unpaid_or_is_paid_for_and_told(
    survivor: Callable[[str], Survivor],
) -> None:
    run = survivor("random")
    assert run.live("turn:2") is None
    calls = run.calls
    failed = run.live()
    assert failed is not None
    assert failed["error"] == "Diverged"
    assert failed["said"] == "cell 1 of turn 1 asks what is not in the journal"
    assert failed["recorded"] != failed["asked"]
    assert failed["recorded"].startswith("What?\n1")
    assert failed["asked"].startswith("What?\n1")
    assert run.calls == calls
    allowed = run.live(0, "allow")
    assert allowed is not None
    assert allowed["answer"] == "<What?>"
    assert allowed["divergences"] == 1
    assert faults_in(run.journal) == []
    assert run.calls == calls + 1
    assert verify_trace(run.journal).problem is None


def test_a_cell_that_had_not_ended_may_ask_more_but_not_something_else(survivor: Callable[[str], Survivor]) -> None:
    run = survivor("random")
    assert run.live("call:1") is None
    calls = run.calls
    failed = run.live()
    assert failed is not None
    assert failed["error"] == "Diverged"
    assert run.calls == calls


def test_a_last_line_that_the_kill_cut_is_cut_off(survivor: Callable[[str], Survivor]) -> None:
    run = survivor("turns")
    assert run.live("turn:2") is None
    with run.journal.open("a") as file:
        file.write('{"previous": "00')
    run.assert_ended_well(run.live())


def test_a_run_that_has_ended_pays_nothing(survivor: Callable[[str], Survivor]) -> None:
    run = survivor("refused")
    run.assert_ended_well(run.live())
    calls, lines = run.calls, len(run.lines)
    again = run.live()
    assert again is not None
    assert again["answer"] == ANSWERS["refused"]
    assert (run.calls, len(run.lines)) == (calls, lines)
