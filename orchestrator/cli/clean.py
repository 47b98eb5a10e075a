"""`airlock clean`: removes what Airlock no longer needs, and with ``--all`` everything of ours."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from functools import partial
from typing import Final

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.messages import UsageError, say
from orchestrator.cli.removal import report, report_plan, show_plan
from orchestrator.kept import kept_traces, traces_dir
from sandbox.cleaning import find_directories, find_in_engine
from sandbox.engine import Engine
from sandbox.errors import EngineUnavailable
from sandbox.leftovers import Leftover, remove_all
from sandbox.store import state_dir

DESCRIPTION: Final = """\
Removes what dead processes of Airlock have left, and images of other versions. With --all everything
of Airlock's: containers, images, traces and stores. What a live process owns stays, unless --force is given.
"""
EPILOG: Final = """\
Never touched: what has not a name or label of Airlock's, and the Python image, where a build has pulled it.
exit codes: 0 done, 2 bad usage, 4 no engine, or something could not be removed
"""


def clean_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock clean`."""
    parser = parser_class(
        prog="airlock clean",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--all", action="store_true", help="everything of ours; asks first")
    add("--force", action="store_true", help="also what a live process uses: its run fails")
    add("--dry-run", action="store_true", help="remove nothing, print what would be removed")
    add("--yes", action="store_true", help="do not ask")
    add("--json", action="store_true", help="print what became of it as one JSON object")
    return parser


def clean(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        UsageError: It has to ask, and there is no terminal.
    """
    asks = options.all and not (options.yes or options.dry_run)
    if asks and (options.json or sys.stdin is None or not sys.stdin.isatty()):
        raise UsageError("clean --all asks first, and there is nobody to ask: give --yes, or --dry-run")
    return asyncio.run(_clean(options, asks=asks))


async def _clean(options: argparse.Namespace, *, asks: bool) -> ExitCode:
    found = find_directories(live_too=options.force) + (_traces(live_too=options.force) if options.all else [])
    engine, problem = None, ""
    try:
        engine = await Engine.connect()
        found = await find_in_engine(engine, images=True, all_images=options.all, live_too=options.force) + found
    except EngineUnavailable as error:
        problem = str(error)
    try:
        if options.dry_run:
            return report_plan(found, problem, as_json=options.json)
        if asks and not _confirmed(found):
            say("nothing was removed")
            return ExitCode.ANSWERED
        outcomes = await remove_all(found)
    finally:
        if engine is not None:
            await engine.aclose()
    if options.all:
        _remove_empty_directories()
    return report(outcomes, problem, as_json=options.json)


def _traces(*, live_too: bool) -> list[Leftover]:
    found = []
    for trace in kept_traces(traces_dir()):
        live = trace.in_use()
        why = "its run still lasts" if live else f"{trace.age_days:.0f} days old"
        remove = partial(asyncio.to_thread, trace.remove) if live_too or not live else None
        found.append(Leftover(kind="trace", name=str(trace.path), why=why, remove=remove))
    return found


def _confirmed(found: list[Leftover]) -> bool:
    show_plan(found)
    sys.stdout.write("Remove this? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _remove_empty_directories() -> None:
    """What else lies in them is somebody else's, and keeps them."""
    for directory in (traces_dir(), state_dir() / "store", state_dir()):
        with contextlib.suppress(OSError):
            directory.rmdir()
