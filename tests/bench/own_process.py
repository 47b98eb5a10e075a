"""A measurement in a process of its own: nothing of one is warm, loaded or left when the next one begins.

The process gets its work as one JSON argument and prints its findings as the last line. Of the standard library alone:
programs that measure other software import this under that software's Python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
GOODBYE_S = 30.0
"""What a process has to remove its containers when it is interrupted."""
SAID_CHARS = 1500


class Failed(Exception):
    """The process ended without findings; says why."""


class Samples:
    """Figures of one process by their names, each a list.

    Attributes:
        taken: Seconds, or bytes where the name ends so.
    """

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def add(self, name: str, *values: float | None) -> None:
        """Add figures; None is none."""
        self.taken.setdefault(name, []).extend(value for value in values if value is not None)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes."""
        started = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - started)


def measured_here(measure: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """The whole main program of a measuring process. Ctrl-C ends it as an exception, so that it can tidy up."""
    _interrupted_by_signals()
    work = json.loads(sys.argv[1])
    try:
        findings = measure(work)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(json.dumps(findings), flush=True)


def _interrupted_by_signals() -> None:
    """Also where a shell has started this in the background, which ignores SIGINT for it and all that it starts."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def measure_apart(
    module: str, work: Mapping[str, Any], *, python: str = sys.executable, timeout_s: float = 600
) -> dict[str, Any]:
    """Run a module that calls `measured_here`, and return its findings. Ctrl-C here lets it tidy up first.

    Args:
        module: Its name.
        work: What it is told, as JSON.
        python: Who runs it.
        timeout_s: Seconds after which it is interrupted.

    Raises:
        Failed: It ended with an error, or too late.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            [python, "-m", module, json.dumps(work)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,  # a terminal's Ctrl-C comes to us alone, and we pass it on once
        )
        try:
            printed, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{module} did not end within {timeout_s:.0f} s") from None
        finally:
            _end(process)
        lines = printed.strip().splitlines()
        if process.returncode == 0 and lines:
            findings: dict[str, Any] = json.loads(lines[-1])
            return findings
        said.seek(0)
        raise Failed(f"{module} ended with {process.returncode}: {said.read()[-SAID_CHARS:].strip()}")


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt it where it still runs; kill it and what it started where that does not help."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=GOODBYE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def count(word: str) -> int:
    """A number from 1 on, of a command line.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not word.isdecimal() or not int(word):
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 1 on")
    return int(word)


def seconds(word: str) -> float:
    """A time above 0, of a command line.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of seconds above 0 and below an hour")
    return value


def say(line: str) -> None:
    """Progress, to stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def interruptible(program: Callable[[], int]) -> int:
    """Run a main program; Ctrl-C and SIGTERM end it in order, with status 130."""
    _interrupted_by_signals()
    try:
        return program()
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        return 130
