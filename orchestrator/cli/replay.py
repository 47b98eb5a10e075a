"""`airlock replay`: a journal's run once more, without a model, to see whether its cells do the same."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final, get_args

from orchestrator.cli.differences import differing_lines
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.journaled import check_trust, divergence_lines
from orchestrator.cli.messages import print_safely, say
from orchestrator.cli.resume import ISOLATION_HELP, TRUST_HELP
from orchestrator.journal import FILE, Journal
from orchestrator.limits import Limits
from orchestrator.spent import counted
from sandbox.spec import Isolation

DESCRIPTION: Final = (
    "Runs the cells of a journal again in a real box, with every reply from the record: no model is asked and no key "
    "is needed. Says where what they show differs. What they print of time, chance or IDs differs by nature."
)
EPILOG: Final = "exit codes: 0 all is equal, 1 something differs, 2 bad usage, 4 no box\n"
MAX_SHOWN: Final = 100
_OF_THE_MACHINE: Final = ("memory_bytes", "max_boxes", "max_live_boxes", "max_store_bytes")


def replay_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock replay`."""
    parser = parser_class(prog="airlock replay", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("directory", metavar="DIR", help="the journal's directory, or its journal.jsonl")
    parser.add_argument("--isolation", choices=get_args(Isolation), help=ISOLATION_HELP)
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    return parser


def replay(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        ConfigError: There is no such journal, or it can't be run.
        BoxError: There is no box for it.
    """
    from orchestrator.comparing import compare
    from orchestrator.sync import run_sync

    path = Path(options.directory)
    journal = Journal.open(path.parent if path.name == FILE else path, to_compare=True)
    if _asks_for_much(journal):
        check_trust(journal, trusted=options.trust)
    found = run_sync(compare(journal, isolation=options.isolation))
    for difference in found.differences[:MAX_SHOWN]:
        where = f"run {difference.run}, " if difference.run else ""
        lines = differing_lines(difference.recorded, difference.now)
        head = f"{where}turn {difference.turn}, cell {difference.cell}: the {difference.what} differs"
        print_safely("\n  ".join([head, *lines]))
    if found.problem is not None:
        say("\n".join([str(found.problem), *divergence_lines(found.problem, advice=False)]))
    left_out = f"; {found.left_out} that cost their box were left out" if found.left_out else ""
    say(f"{counted(found.cells, 'cell')} ran again, {len(found.differences)} differ{left_out}")
    return ExitCode.ANSWERED if found.same else ExitCode.INTERNAL


def _asks_for_much(journal: Journal) -> bool:
    """Whether its boxes may take more of this machine than boxes do by default: all else that it says stays in them."""
    settings = journal.about["settings"]
    limits = settings.get("limits") if isinstance(settings, dict) else None
    if not isinstance(limits, dict):
        return False  # `compare` says what is wrong
    asked = ((limits.get(name), getattr(Limits(), name)) for name in _OF_THE_MACHINE)
    return any(isinstance(value, int) and value > default for value, default in asked)
