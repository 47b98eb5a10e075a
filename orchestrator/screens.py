"""Where the lines of a run's progress go: a terminal with one live line at its end, or plain text."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TextIO

if TYPE_CHECKING:
    from rich.text import Text

SILENCE_S: Final = 10.0

Line = tuple[tuple[str, str], ...]
"""Pieces of a line: text that is safe to show, and its style (rich's words, "" for none)."""


class Screen(Protocol):
    """Where lines go."""

    def open(self) -> None:
        """The run begins."""

    def show(self, line: Line, *, whole: bool = False) -> None:
        """Print one line, cut to the terminal's width or `whole`."""

    def close(self) -> None:
        """The run is over. Safe to call twice."""


class PlainScreen:
    """One write a line, so that lines of several programs don't mix. A silence is broken by what is waited for.

    Args:
        stream: Where to print.
        prefix: Of each line.
        status: What stands in the line after a silence; called from a thread.
        silence_s: Seconds without a line before that.
    """

    def __init__(self, stream: TextIO, prefix: str, status: Callable[[], str], *, silence_s: float = SILENCE_S) -> None:
        self._stream = stream
        self._prefix = prefix
        self._status = status
        self._silence_s = silence_s
        self._lock = threading.Lock()
        self._shown = threading.Event()
        self._closed = False

    def open(self) -> None:
        """From now on a silence is broken."""
        threading.Thread(target=self._break_silences, name="airlock-progress", daemon=True).start()

    def _break_silences(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the reader of the stream is gone, or it is closed
            while not self._closed:
                if self._shown.wait(self._silence_s):
                    self._shown.clear()
                    continue
                with self._lock:
                    if not self._closed:
                        self._write(f"  {self._status()}")

    def show(self, line: Line, *, whole: bool = False) -> None:
        """Print one line, without its styles; nothing is cut here."""
        with self._lock:
            self._write("".join(piece for piece, _ in line))
        self._shown.set()

    def _write(self, text: str) -> None:
        self._stream.write(f"{self._prefix}{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """A silence is not broken any more. A line on its way is written before this returns."""
        with self._lock:
            self._closed = True
        self._shown.set()


class TerminalScreen:
    """Lines that scroll above one live line, which a thread of its own draws four times a second."""

    def __init__(self, stream: TextIO, status: Callable[[], str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._status = status
        self._lock = threading.Lock()
        self._console = Console(file=stream, highlight=False, emoji=False, markup=False)
        self._live: Live | None = Live(
            get_renderable=self._live_line,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def _live_line(self) -> Text:
        from rich.text import Text

        return Text(self._status(), style="reverse", no_wrap=True, overflow="ellipsis")

    def open(self) -> None:
        """Show the live line."""
        with self._lock:
            if self._live is not None:
                self._live.start()

    def show(self, line: Line, *, whole: bool = False) -> None:
        """Print one line above the live line, cut to the terminal's width or `whole`."""
        from rich.text import Text

        if whole:
            self._console.print(Text.assemble(*line), soft_wrap=True)
        else:
            self._console.print(Text.assemble(*line), no_wrap=True, overflow="ellipsis", crop=True)

    def close(self) -> None:
        """Take the live line away."""
        with self._lock:
            live, self._live = self._live, None
        if live is not None:
            live.stop()
