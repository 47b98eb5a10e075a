"""What the command says on stderr, and the error that says it was not understood."""

from __future__ import annotations

import contextlib
import sys


class UsageError(Exception):
    """The command was not understood; the text says what to change."""


def say(line: str) -> None:
    """One line to stderr, for a person. What a stranger may have written in it is escaped.

    Further lines are indented, so that none of them looks like one of ours.
    """
    from orchestrator.rendering import escape_terminal

    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("airlock: " + escape_terminal(line).replace("\n", "\n  ") + "\n")
            sys.stderr.flush()
