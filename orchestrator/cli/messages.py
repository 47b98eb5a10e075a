"""What the command says on stderr, and the error that says it was not understood."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Final

_OF_A_MODEL: Final = re.compile(r"^\w+Interface(\.base_url|\.model)?:")
_KEY: Final = ", or pass api_key= (any text, if the server at base_url wants none)"


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


def print_safely(text: str) -> None:
    """Escaped text to stdout, also where that can't take all letters."""
    encoding = sys.stdout.encoding
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def by_options(said: str, *, model: str, url: str) -> str:
    """What a model's class says of its settings, in the words of the command.

    Args:
        said: The text of a `ConfigError`.
        model: What named the model: ``--model openai:gpt-5``.
        url: The option with its address.
    """
    said = _OF_A_MODEL.sub(lambda match: f"{url if match[1] == '.base_url' else model}:", said)
    return said.replace(_KEY, f" (to any text, if the server at {url} wants none)")
