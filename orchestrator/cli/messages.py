"""What the command says on stderr, and the error that says it was not understood."""

from __future__ import annotations

import contextlib
import sys


class UsageError(Exception):
    """The command was not understood; the text says what to change."""


def say(line: str) -> None:
    """One line to stderr, for a person. What a stranger may have written in it is escaped."""
    from orchestrator.rendering import escape_terminal

    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"airlock: {escape_terminal(line)}\n")
            sys.stderr.flush()
