"""What the attacks on the wire cost the host, measured once a session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.attack.wire import figures
from tests.attack.wire.guest import AT_START, IN_CELL, VALUES
from tests.conftest import REPOSITORY

ATTACKS = [*IN_CELL, *AT_START, *VALUES]

Measured = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def measured() -> Measured:
    """Outcome and cost of each attack, measured in a process that does nothing else."""
    command = [sys.executable, "-m", "tests.attack.wire.measure", *ATTACKS]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert ran.stderr == "", "the host's log on the operator's terminal"
    outcomes = [json.loads(line) for line in ran.stdout.splitlines()]
    figures.add(outcomes)
    return {outcome["attack"]: outcome for outcome in outcomes}
