"""`airlock ask` with a scripted model, which ends itself at a point of `tests.lifecycle.points`.

    python -m tests.lifecycle.driver POINT KILL|TERM|INT|STOP FILE [ISOLATION]

Everything else is the real command: one document, three turns, one sub-call, and a box that dies and is replaced.
POINT `none` ends nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from orchestrator.cli.main import main
from tests.lifecycle.points import POINTS


def run(point: str, ends_by: str, document: str, isolation: str = "container") -> int:
    """One run; returns the command's exit code, where there is one."""
    number = signal.Signals[f"SIG{ends_by}"]
    if point != "none":
        POINTS[point](lambda: send(number))
    model = f"scripted:{Path(__file__).with_name('model.py')}"
    return main(["ask", document, "-q", "How long?", "--model", model, "--isolation", isolation])


def send(number: signal.Signals) -> None:
    """To this process; one that stops it also stops this thread before its next step."""
    if number is signal.SIGSTOP:
        signal.pthread_kill(threading.get_ident(), number)
    else:
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
