"""The fixtures of `tests.boxes`, and the report at the end of the session."""

from __future__ import annotations

import pytest

from tests.attack.levels import _gvisor_box, gvisor_box, level, level_box
from tests.attack.report import LINES, rendered
from tests.boxes import _module_box, box, box_host

__all__ = ["_gvisor_box", "_module_box", "box", "box_host", "gvisor_box", "level", "level_box"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the report, also under -q."""
    if LINES:
        terminalreporter.section("restrictions, one line for each runtime and attack")
        for line in rendered(LINES):
            terminalreporter.write_line(line)
