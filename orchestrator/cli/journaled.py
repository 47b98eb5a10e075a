"""Runs of the command that keep a journal: its options go into it, and come out of it, without keys."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.differences import differing_lines
from orchestrator.cli.messages import say
from orchestrator.cli.options import ask_parser
from orchestrator.errors import ConfigError, Diverged
from orchestrator.journal import Journal, JournalFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.context import Context
    from orchestrator.errors import RLMError
    from orchestrator.result import RunResult
    from orchestrator.settings import RunSettings
    from orchestrator.trace import TraceFile

_OF_ONE_LIFE: Final = frozenset(
    {"words", "question", "journal", "json", "quiet", "verbose", "dry_run", "keep", "keep_days", "audit_anchor"}
)
_FILES: Final = ("schema", "setup", "cache")
_PASSWORD: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def begin_journal(
    options: argparse.Namespace, question: str, context: Context, settings: RunSettings, files: Sequence[str]
) -> Journal:
    """The journal that ``--journal`` names.

    Raises:
        ConfigError: It is there already or can't be written, or an option holds a password.
    """
    command = _kept(options)
    try:
        return Journal.create(
            Path(options.journal), question=question, context=context, settings=settings, files=files, command=command
        )
    except ConfigError as error:
        raise ConfigError(f"--journal: {error}") from error


def _kept(options: argparse.Namespace) -> dict[str, Any]:
    kept: dict[str, Any] = {name: value for name, value in vars(options).items() if name not in _OF_ONE_LIFE}
    kept["model"] = options.model or os.environ.get("AIRLOCK_MODEL")
    for name, value in kept.items():
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and _PASSWORD.search(text) for text in texts):
            option = name.replace("_", "-")
            raise ConfigError(f"--journal: --{option} holds a password, which would stand in the journal")
    for name in _FILES:
        if kept.get(name) is not None:
            kept[name] = os.path.abspath(kept[name])
    if kept.get("module"):
        kept["module"] = [os.path.abspath(path) for path in kept["module"]]
    return kept


def check_trust(journal: Journal, *, trusted: bool) -> None:
    """Before anything is done as a journal says.

    Args:
        journal: The journal.
        trusted: Whether the user says that it may be.

    Raises:
        ConfigError: It was not written by this user on this machine, and it says whom to ask with this user's keys,
            which files to read, and what may be spent.
    """
    if journal.own or trusted:
        return
    command = journal.about["command"]
    defaults = vars(ask_parser(argparse.ArgumentParser).parse_args([])) if isinstance(command, dict) else {}
    set_there = {name: command[name] for name in defaults if command.get(name, defaults[name]) != defaults[name]}
    said = ", ".join(f"{name}={value!r:.200}" for name, value in set_there.items())
    raise ConfigError(
        f"{str(journal.directory)!r} is not as you wrote it on this machine. What it says would be done with your keys "
        f"and your files, and a scripted: model is code that runs here: {said}. If you trust all of it: --trust"
    )


def options_of(journal: Journal, given: argparse.Namespace) -> argparse.Namespace:
    """The options that a journal's run was begun with, and those of this life.

    Raises:
        ConfigError: It was not begun by the command.
    """
    command = journal.about["command"]
    if not isinstance(command, dict):
        raise ConfigError(
            f"{str(journal.directory)!r}: this run was begun by a Python program, which has to go on with it "
            "(RLM(..., journal_dir=...).aresume())"
        )
    options = ask_parser(argparse.ArgumentParser).parse_args([])
    for name in vars(options).keys() & command.keys():
        setattr(options, name, command[name])
    for name, value in vars(given).items():
        if value is not None:
            setattr(options, name, value)
    return options


def divergence_lines(failure: RLMError, *, advice: bool = True) -> list[str]:
    """Where a resumed run that diverged differs, for a person: both texts may be the document's."""
    if not isinstance(failure, Diverged):
        return []
    lines = []
    if failure.asked is not None:
        lines = differing_lines(failure.recorded or "", failure.asked, words=("recorded", "asked"))
    if failure.recorded is None:
        lines = lines[1:]
    return [*lines, *(["--allow-divergence goes on and pays for what differs"] if advice else [])]


def report_journal(trace: TraceFile, *, broken_off: bool) -> None:
    """Say how to go on with a run that was broken off, where it keeps a journal."""
    if broken_off and isinstance(trace, JournalFile):
        say(f"to go on from here: airlock resume {shlex.quote(str(trace.path.parent))}")


def report_divergences(result: RunResult) -> None:
    """Say what was paid for though the journal has it otherwise."""
    found = result.divergences
    if found:
        where = f"run {found[0].run}: " if found[0].run else ""
        say(f"differs from the journal {len(found):,} times, first: {where}{found[0].what}")
