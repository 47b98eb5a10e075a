"""Text that is still on its way - a reply as it is written, a cell's output as it is printed - told in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

INTERVAL_S: Final = 0.05
"""Pieces that come within so many seconds are told as one: a box or a server may send any number of them."""

Tell = Callable[[str, str, bool], None]
"""Is called with the stream's name, the piece, and whether what came behind it is left out."""


class LiveText:
    """Passes text on while it comes: its head only, and at most one piece of each stream every `INTERVAL_S`.

    So whoever sends it decides neither how much the host keeps nor how often the host's listeners are called. Of two
    streams that write within one interval, the order between them is lost.

    Args:
        tell: Called with each piece, on the event loop.
        most_chars: Characters passed on, all streams together; what comes behind them costs nothing.
    """

    def __init__(self, tell: Tell, most_chars: int) -> None:
        self._tell = tell
        self._room = most_chars
        self._cut = False
        self._waiting: dict[str, list[str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, stream: str, text: str) -> None:
        """Take a piece. To be called on the event loop."""
        if self._closed or self._cut or not text:
            return
        self._cut = len(text) > self._room
        self._waiting.setdefault(stream, []).append(text[: self._room])
        self._room -= len(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._flush)

    def close(self) -> None:
        """Tell what waits. Nothing is told after it; safe to call twice."""
        self._flush()
        self._closed = True

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        for number, (stream, pieces) in enumerate(waiting.items(), start=1):
            # A stream may have split a surrogate pair over two pieces; half of one is no text.
            text = "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            self._tell(stream, text, self._cut and number == len(waiting))
