"""How many frames of the wire were decoded, in one line at the end of the session."""

from __future__ import annotations

import pytest

from tests.fuzz.counted import COUNTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts, also under -q."""
    if COUNTED:
        parts = ", ".join(f"{name.removeprefix('check_')} {count:,}" for name, count in COUNTED.items())
        terminalreporter.write_line(f"fuzzed wire: {sum(COUNTED.values()):,} frames decoded ({parts})")
