"""Private engines beside the machine's own, for the tests. Commands and results: README.md in this folder."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from tests.engines.catalog import RECIPES
from tests.engines.private import EngineError, PrivateEngine


def say(line: str) -> None:
    print(f"engines: {line}", file=sys.stderr, flush=True)


def up(engine: PrivateEngine) -> int:
    """Start it for good; stdout is for a shell's `eval`."""
    engine.up(tied=False)
    for name, value in engine.environment().items():
        print(f"export {name}={value}")
    return 0


def run(engine: PrivateEngine, command: list[str]) -> int:
    """Run a command with a fresh start of the engine; returns the command's status."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with engine:
        others = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        process = subprocess.Popen(command, env=others | engine.environment())
        try:
            return process.wait()
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """After Ctrl-C the command has had it too: wait for it, so that it can clean up while the engine is there."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
        return
    process.kill()
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.engines", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, meaning in {
        "up": 'start an engine; type: eval "$(python -m tests.engines up NAME)"',
        "down": "end it and clean up; does nothing where there is nothing",
        "run": "start it, run a command on it, end it: run NAME -- COMMAND...",
        "remove": "down, and remove its root file system and images",
    }.items():
        sub = verbs.add_parser(verb, help=meaning)
        sub.add_argument("name", choices=RECIPES)
        if verb in {"up", "run"}:
            sub.add_argument(
                "--visible", type=Path, action="append", default=[], help="a directory that boxes may mount"
            )
        if verb == "run":
            sub.add_argument("command", nargs="+")
    options = parser.parse_args()
    engine = PrivateEngine(options.name, visible=getattr(options, "visible", ()), progress=say)
    if options.verb == "run":
        return run(engine, options.command)
    if options.verb == "up":
        return up(engine)
    engine.remove() if options.verb == "remove" else engine.down()
    return 0


def entry() -> NoReturn:
    """Exit statuses: the command's own for `run`, 2 where an engine can't be had, 130 after Ctrl-C."""
    try:
        sys.exit(main())
    except EngineError as error:
        say(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    entry()
