"""Runs in a row that are killed at random leave the engine, the store and the temporary files as they were."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from tests.lifecycle.desk import Desk
from tests.lifecycle.random_kills import random_kills

pytestmark = pytest.mark.docker


@pytest.mark.timeout(3000)
def test_runs_that_are_killed_at_random_leave_nothing(desk: Desk, repeats: Callable[[int], int]) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    report = random_kills(desk, repeats(200), seed)
    print(report.table("container"))
    assert report.left == []
    assert report.killed > 0
