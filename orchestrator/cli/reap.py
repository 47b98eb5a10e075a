"""`airlock reap`: removes what processes of Airlock that were killed have left, and says what it left and why."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.removal import report
from sandbox.cleaning import find_directories, find_in_engine
from sandbox.engine import Engine
from sandbox.errors import EngineUnavailable
from sandbox.leftovers import remove_all

DESCRIPTION: Final = (
    "Removes what processes of Airlock that are gone have left: containers, the document's copy in the state "
    "directory, and directories of image builds. What a live process owns stays. Every run does the same at its start."
)
EPILOG: Final = "exit codes: 0 done, also where there was nothing, 2 bad usage, 4 no engine, or it failed\n"


def reap_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock reap`."""
    parser = parser_class(prog="airlock reap", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def reap(options: argparse.Namespace) -> ExitCode:
    """Run the command. Directories are looked at also where no engine answers."""
    return asyncio.run(_reap(as_json=options.json))


async def _reap(*, as_json: bool) -> ExitCode:
    outcomes = await remove_all(find_directories())
    problem = ""
    try:
        engine = await Engine.connect()
        outcomes += await remove_all(await find_in_engine(engine))
        await engine.aclose()
    except EngineUnavailable as error:
        problem = str(error)
    return report(outcomes, problem, as_json=as_json)
