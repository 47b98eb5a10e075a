"""A run that ends anywhere leaves no box, no directory and no file with the document's text."""

from __future__ import annotations

import time

import pytest

from orchestrator.cli.exits import ExitCode
from tests.lifecycle.desk import KILLED, Desk, Running
from tests.lifecycle.points import NOT_STARTED, POINTS

pytestmark = pytest.mark.docker


def killed(desk: Desk, point: str) -> Running:
    """A run that SIGKILL ended at a point. What the engine was doing for it then, it has done."""
    running = desk.start(point)
    assert running.wait() == KILLED, running.said
    if point == "creation asked for":
        until = time.monotonic() + 5
        while not running.boxes() and time.monotonic() < until:
            time.sleep(0.02)
    return running


def assert_nothing_is_left(desk: Desk, *ended: Running) -> None:
    assert [run.wait_until_gone() for run in ended] == [{}] * len(ended)
    assert desk.files() == []
    assert desk.files_with_the_document() == []


def test_a_run_that_is_not_ended_answers_and_leaves_nothing(desk: Desk) -> None:
    running = desk.start("none")
    assert running.wait() == ExitCode.ANSWERED, running.said
    assert desk.marker in desk.document.read_text()
    assert_nothing_is_left(desk, running)


@pytest.mark.parametrize("point", POINTS)
def test_boxes_that_run_end_by_themselves_and_reap_removes_the_rest(point: str, desk: Desk) -> None:
    running = killed(desk, point)
    left = running.wait_until_none_runs()
    assert set(left.values()) <= {"created"}
    if point not in NOT_STARTED:
        assert left == {}
    reaped = desk.airlock("reap")
    assert reaped.returncode == ExitCode.ANSWERED, reaped.stderr
    for box in left:
        assert f"left box {box[:12]}" not in reaped.stdout
    assert_nothing_is_left(desk, running)


@pytest.mark.parametrize(
    "point", ["creation asked for", "created", "second box created", "context half written", "in a sub-call"]
)
def test_the_next_run_removes_what_the_killed_one_left(point: str, desk: Desk) -> None:
    dead = killed(desk, point)
    after = desk.start("none")
    assert after.wait() == ExitCode.ANSWERED, after.said
    assert_nothing_is_left(desk, dead, after)


SIGNALS = {"INT": ExitCode.INTERRUPTED, "TERM": ExitCode.TERMINATED}
TOLD = [(point, signal) for point in POINTS if point != "store half removed" for signal in SIGNALS]
QUICK = TOLD[::3]  # of both signals


@pytest.mark.parametrize(
    ("point", "ends_by"), [pytest.param(*told, marks=[] if told in QUICK else pytest.mark.long) for told in TOLD]
)
def test_a_run_that_is_told_to_end_cleans_up_itself(point: str, ends_by: str, desk: Desk) -> None:
    running = desk.start(point, ends_by)
    assert running.wait() == SIGNALS[ends_by], running.said
    assert running.boxes() == {}
    assert_nothing_is_left(desk)
