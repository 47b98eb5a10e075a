"""Where two texts differ, in two short lines that no text of a stranger's can forge."""

from __future__ import annotations

from itertools import takewhile
from typing import Final

from orchestrator.rendering import escape_terminal

BEFORE_CHARS: Final = 30
BEHIND_CHARS: Final = 60


def differing_lines(recorded: str, now: str, *, words: tuple[str, str] = ("recorded", "now")) -> list[str]:
    """The place where two texts begin to differ, in both of them; nothing where they don't.

    Args:
        recorded: The one.
        now: The other.
        words: What to call them.
    """
    if recorded == now:
        return []
    at = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(recorded, now, strict=False)))
    width = max(map(len, words))
    named = zip(words, (recorded, now), strict=True)
    return [f"{word.ljust(width)} from character {at:,}: {_around(text, at)}" for word, text in named]


def _around(text: str, at: int) -> str:
    start, end = max(0, at - BEFORE_CHARS), at + BEHIND_CHARS
    shown = escape_terminal(text[start:end], one_line=True)
    return (
        ("..." if start else "")
        + shown
        + ("..." if end < len(text) else "")
        + (" (its end)" if at >= len(text) else "")
    )
