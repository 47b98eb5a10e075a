"""Runs of the command that keep a journal: its options go into it, and come out of it, without keys."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.differences import differing_lines
from orchestrator.cli.messages import say
from orchestrator.cli.options import ask_parser
from orchestrator.errors import ConfigError, Diverged
from orchestrator.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.context import Context
    from orchestrator.errors import RLMError
    from orchestrator.result import RunResult
    from orchestrator.settings import RunSettings

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
        if any(_PASSWORD.search(text) for text in ([value] if isinstance(value, str) else value or []) if text):
            option = name.replace("_", "-")
            raise ConfigError(f"--journal: --{option} holds a password, which would stand in the journal")
    for name in _FILES:
        if kept.get(name) is not None:
            kept[name] = os.path.abspath(kept[name])
    if kept.get("module"):
        kept["module"] = [os.path.abspath(path) for path in kept["module"]]
    return kept


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


def report_divergences(result: RunResult) -> None:
    """Say what was paid for though the journal has it otherwise."""
    found = result.divergences
    if found:
        where = f"run {found[0].run}: " if found[0].run else ""
        say(f"differs from the journal {len(found):,} times, first: {where}{found[0].what}")
