"""`airlock resume`: go on with a run whose process was killed, from its journal."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Final, get_args

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.journaled import check_trust, options_of
from orchestrator.cli.messages import say
from orchestrator.cli.options import LIMIT_OPTIONS
from orchestrator.journal import Journal
from sandbox.spec import Isolation

DESCRIPTION: Final = (
    "Goes on with a run that was killed, from the journal that `airlock ask --journal DIR` keeps: its cells run again "
    "in a fresh box with the recorded replies, and what was paid for is not paid again. Keys come from the environment."
)
ISOLATION_HELP: Final = "least isolation of its boxes, instead of the one that the journal says"
TRUST_HELP: Final = "do as a journal says that was not written by you on this machine"
EPILOG: Final = "exit codes: those of airlock ask; 7: the run does not do what the journal says\n"


def resume_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock resume`."""
    parser = parser_class(prog="airlock resume", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    add = parser.add_argument
    add("directory", metavar="DIR", help="the journal's directory")
    add("--allow-divergence", action="store_true", help="pay for what the run asks otherwise than the journal says")
    add("--isolation", choices=get_args(Isolation), help=ISOLATION_HELP)
    add("--trust", action="store_true", help=TRUST_HELP)
    for option in LIMIT_OPTIONS:
        add(option, metavar="N", help="instead of the limit that it was begun with; what it has spent counts")
    add("--json", action="store_true", help="print the result as JSON")
    add("-v", "--verbose", action="store_true", help="as for airlock ask")
    add("--quiet", action="store_true", help="errors only on stderr")
    return parser


def resume(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        ConfigError: There is no such journal, another process has it, or it can't be gone on with.
        RLMError: As `RLM.aresume`, where there is nothing to print.
    """
    from orchestrator.cli.ask import deliver, rlm_from, run_and_tell

    journal = Journal.open(Path(options.directory))
    try:
        if result := journal.result():
            if not options.quiet:
                say(f"the run had ended ({result.stop_reason.value}); this is its answer, and nothing was asked")
            return deliver(result, None, as_json=options.json)
        check_trust(journal, trusted=options.trust)
        given = options_of(journal, options)
        rlm = rlm_from(given)
        journal.check(rlm.settings)
        context = journal.context()
        journal.allow_divergence = options.allow_divergence
        return run_and_tell(given, partial(rlm.alive, journal, context), journal.trace, None)
    finally:
        journal.close()
