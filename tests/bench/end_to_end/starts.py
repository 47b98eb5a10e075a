"""How fast the command and the package start."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.own_process import REPOSITORY

Figures = dict[str, float]


async def starts(work: Mapping[str, Any]) -> Figures:
    """The least of a few starts of each, since a start can only be held up."""
    commands = {
        "airlock --help, ms": [str(Path(sys.executable).parent / "airlock"), "--help"],
        "import orchestrator, ms": [sys.executable, "-c", "import orchestrator"],
        "python -c pass, ms": [sys.executable, "-c", "pass"],
    }
    figures: Figures = {}
    for name, command in commands.items():
        for _ in range(work["starts"] + 1):  # the first fills the page cache
            started = time.perf_counter()
            subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
            taken = (time.perf_counter() - started) * 1000
            figures[name] = min(taken, figures.get(name, taken))
    return figures
