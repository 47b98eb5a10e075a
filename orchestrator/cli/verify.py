"""`airlock verify`: whether a trace is as the run wrote it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from orchestrator.audit_log import verify_trace
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.messages import UsageError, say
from orchestrator.journal import FILE as JOURNAL_FILE

DESCRIPTION: Final = (
    "Checks the chain of digests in a trace: an edited, removed, added or moved line shows. A cut at the end, or a "
    "file written anew, shows only against the head that `airlock ask` reported at the end of the run."
)
EPILOG: Final = "exit codes: 0 sound as far as could be told, 1 changed, 2 bad usage\n"
_DIGEST_CHARS: Final = 64


def verify_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock verify`."""
    parser = parser_class(prog="airlock verify", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("trace", metavar="TRACE", help="the JSONL file, or the directory of a journal")
    parser.add_argument("--anchor", metavar="HEAD", help="the head: 64 hex digits, or a file that holds them")
    return parser


def verify(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        ConfigError: The trace can't be read.
        UsageError: The anchor is no digest and no file with one.
    """
    anchor = _anchor(options.anchor) if options.anchor is not None else None
    path = Path(options.trace)
    verdict = verify_trace(path / JOURNAL_FILE if path.is_dir() else path, anchor=anchor)
    if verdict.problem:
        say(f"changed: {verdict.problem}")
        return ExitCode.INTERNAL
    sys.stdout.write(f"{verdict.head}\n")
    say("unchanged: all lines follow each other" + (", and the last one is the anchor's" if anchor else ""))
    if not verdict.ended:
        say("the run's end is missing: the run was killed, or the trace was cut")
    if anchor is None:
        say("without --anchor it can't be told whether the end was cut off or changed, or the whole file written anew")
    return ExitCode.ANSWERED


def _anchor(given: str) -> str:
    if _is_digest(given):
        return given
    try:
        text = Path(given).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        text = ""
    if not _is_digest(text):
        raise UsageError(f"--anchor: {given!r:.80} is neither 64 hex digits nor a file that holds them")
    return text


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_CHARS and all(digit in "0123456789abcdefABCDEF" for digit in text)
