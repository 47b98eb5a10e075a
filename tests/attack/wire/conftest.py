"""What the attacks on the wire cost the host, in one line at the end of the session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.attack.wire.guest import AT_START, IN_CELL, VALUES
from tests.conftest import REPOSITORY

MAX_PEAK_MIB = 32
ATTACKS = [*IN_CELL, *AT_START, *VALUES]

Measured = dict[str, dict[str, Any]]
_measured: Measured = {}


@pytest.fixture(scope="session")
def measured() -> Measured:
    """Outcome and cost of each attack, measured in a process that does nothing else."""
    command = [sys.executable, "-m", "tests.attack.wire.measure", *ATTACKS]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert ran.stderr == "", "the host's log on the operator's terminal"
    for line in ran.stdout.splitlines():
        outcome = json.loads(line)
        _measured[outcome["attack"]] = outcome
    return _measured


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, also under -q."""
    if not _measured:
        return
    everything = _measured["all"]
    attacks = [outcome for name, outcome in _measured.items() if name != "all"]
    worst = max(attacks, key=lambda outcome: float(outcome["peak_mib"]))
    slowest = max(attacks, key=lambda outcome: float(outcome["block_ms"]))
    terminalreporter.write_line(
        f"hostile guest: {len(attacks)} attacks; host's peak memory {worst['peak_mib']} MiB over idle "
        f"of {MAX_PEAK_MIB} ({worst['attack']}); {everything['honest_cells']} cells of another kernel meanwhile: "
        f"p50 x{everything['p50_ratio']}, p99 x{everything['p99_ratio']} of alone, "
        f"x{everything['p99_busy_ratio']} of that beside a guest that only burns CPU time; "
        f"event loop held {slowest['block_ms']} ms at most ({slowest['attack']})"
    )
    for outcome in attacks:
        p99 = f"p99 x{outcome['p99_ratio']:<5} of alone, x{outcome['p99_busy_ratio']:<5} of beside a busy guest"
        cost = f"{outcome['peak_mib']:5} MiB  {p99}"
        terminalreporter.write_line(f"  {outcome['attack']:26} {cost} {outcome['ended'][:80]!a}")
