"""What a person sees while a run works: turns, cells, sub-calls, tokens used and time left.

On a terminal the run scrolls by, shortened, above one live line. Elsewhere (a pipe, a log) there is one plain line an
event, with sizes and, of a cell that failed, its exception's name: no other text that the document may have written.
Whatever comes from a model, a document or the box is escaped and cut before it is shown. Where nothing happens for
10 s, a line says what is waited for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from orchestrator.limits import Usage
from orchestrator.rendering import escape_terminal, strip_colours
from orchestrator.screens import Line, PlainScreen, Screen, TerminalScreen
from orchestrator.shown import (
    HOSTS_OWN,
    PLAIN_LINE_CHARS,
    READ_CHARS,
    OutputLines,
    block,
    child_run,
    error_name,
    one_line,
)
from orchestrator.spent import counted, usage_line
from orchestrator.tally import Tally
from orchestrator.trace import TraceEvent

CODE_LINES: Final = 14
OUTPUT_LINES: Final = 10
SUB_CALLS_SHOWN: Final = 8

_STATUS_STYLES: Final = {"ok": "green", "error": "red", "interrupted": "yellow", "lost": "red"}


class ProgressPrinter:
    """A listener that prints a run as it happens. Serves one run; a write that fails is let go, the run goes on.

    Args:
        stream: Where to print; asked whether it is a terminal.
        show_text: Whether to show code, output, questions and replies, shortened; None: on a terminal only.
        trace: Path of the run's trace, named at the end.
        whole_output: Whether to show text, and of cells all output that the root gets to see, as it is printed.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        show_text: bool | None = None,
        trace: Path | None = None,
        whole_output: bool = False,
    ) -> None:
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._show_text = whole_output or (terminal if show_text is None else show_text)
        self._output = OutputLines() if whole_output else None
        self._trace = trace
        self._tally = Tally()
        self._begun = False
        self._ended = False
        self._question = ""
        prefix = "" if self._show_text else "airlock: "
        status = self._tally.status
        self._screen: Screen = TerminalScreen(stream, status) if terminal else PlainScreen(stream, prefix, status)

    def __call__(self, event: TraceEvent) -> None:
        """Show one event."""
        self._begun = True
        self._tally.take(event)
        with contextlib.suppress(OSError, ValueError):  # the reader of the stream is gone, or it is closed
            if event.kind == "run_start":
                self._screen.open()
            for line in self._lines(event):
                self._screen.show(line, whole=event.kind in ("setup", "run_end"))
        if event.kind == "run_end":
            self._ended = True
            self.close()

    def note(self, text: str) -> None:
        """Show a line that is no event, such as a warning of the log."""
        with contextlib.suppress(OSError, ValueError):
            self._screen.show(((one_line(text, PLAIN_LINE_CHARS), "yellow"),))

    def left_behind(self) -> None:
        """Show what is known of a run that nobody waits for any more; nothing if it never began, or ended."""
        if self._begun and not self._ended:
            self._ended = True
            with contextlib.suppress(OSError, ValueError):
                self._screen.show(self._end_line("cancelled", self._tally.so_far()), whole=True)

    def _end_line(self, reason: str, used: str) -> Line:
        style = {"answered": "bold green"}.get(reason, "bold yellow")
        where = f"; trace {escape_terminal(str(self._trace), one_line=True)}" if self._trace else ""
        return ((reason.replace("_", " "), style), (f": {used}{where}", ""))

    def close(self) -> None:
        """Take the live line off the screen. The end of the run does it too; safe to call twice."""
        with contextlib.suppress(OSError, ValueError):
            self._screen.close()

    def _lines(self, event: TraceEvent) -> Iterator[Line]:
        facts, texts = event.facts, event.texts
        if facts.get("run"):
            yield from child_run(event)
            return
        if event.kind in HOSTS_OWN:
            yield from HOSTS_OWN[event.kind](facts)
            return
        match event.kind:
            case "turn":
                yield from self._turn(facts, texts.get("response", ""))
            case "cell_start" if self._show_text:
                self._question = ""
                yield from block(facts["code"], CODE_LINES, first="  │ ", style="cyan")
            case "output" if self._output is not None:
                yield from self._output.take(event)
            case "sub_call" | "refusal" if self._show_text and self._tally.calls_of_cell <= SUB_CALLS_SHOWN:
                yield from self._sub_call(facts, texts)
            case "tool_call" if self._show_text and self._tally.tools_of_cell <= SUB_CALLS_SHOWN:
                yield from self._tool_call(facts, texts)
            case "cell":
                yield from self._cell(facts, texts)
            case "run_end":
                yield from self._run_end(facts)

    def _turn(self, facts: dict[str, Any], response: str) -> Iterator[Line]:
        tokens = facts["usage"]["input_tokens"] + facts["usage"]["output_tokens"]
        cut = ", cut off at its output limit" if facts["finish_reason"] in ("length", "window") else ""
        took = f"{facts['wall_s']:.1f} s, {tokens:,} tokens{cut}"
        if not self._show_text:
            yield ((f"turn {facts['turn']}: {took}", ""),)
            return
        yield ()
        yield ((f"turn {facts['turn']}", "bold"), (f"  {took}", "dim"))
        if said := one_line(response.partition("```")[0], 120):
            yield ((f"  {said}", ""),)

    def _sub_call(self, facts: dict[str, Any], texts: dict[str, str]) -> Iterator[Line]:
        question = one_line(texts["prompt"], 120)
        if question != self._question:
            self._question = question
            yield (("  ├ ", "dim"), (question, "magenta"))
        data = f"{len(texts['data']):,} characters " if "data" in texts else ""
        outcome = _failure(facts, texts) or (one_line(texts.get("reply", ""), 100) or "(an empty reply)", "")
        yield (("  │   ", "dim"), (f"{data}→ ", "dim"), outcome, (f"  {facts['wall_s']:.1f} s", "dim"))

    def _tool_call(self, facts: dict[str, Any], texts: dict[str, str]) -> Iterator[Line]:
        self._question = ""  # the next sub-call's stands below this
        asked = one_line(f"{facts['tool']} {texts['arguments'][:READ_CHARS]}", 120)
        outcome = _failure(facts, texts) or (one_line(texts.get("result", "")[:READ_CHARS], 100), "")
        yield (("  ├ ", "dim"), (asked, "magenta"))
        yield (("  │   ", "dim"), ("→ ", "dim"), outcome, (f"  {facts['wall_s']:.1f} s", "dim"))

    def _cell(self, facts: dict[str, Any], texts: dict[str, str]) -> Iterator[Line]:
        shown = sum(int(facts[f"{stream}_chars"]) for stream in ("stdout", "stderr", "result"))
        calls = self._tally.calls_line()
        took = f"{facts['wall_s']:.2f} s" + (f", stopped by the {facts['clock']} clock" if facts["clock"] else "")
        if not self._show_text:
            status = facts["status"] + (error_name(texts.get("error", "")) if facts["status"] == "error" else "")
            where = f"turn {facts['turn']}, cell {facts['cell']}: {status}, {took}"
            yield ((f"{where}, {counted(shown, 'character')} of output{calls}", ""),)
            return
        size = f", {counted(shown, 'character')} of output" if shown else ""
        coloured = (facts["status"], _STATUS_STYLES.get(facts["status"], ""))
        if self._output is not None:
            yield from self._output.rest()
        yield (("  ╰ ", "dim"), coloured, (f"  {took}{calls}{size}", "dim"))
        if texts.get("output") and self._output is None:
            yield from block(texts["output"], OUTPUT_LINES, first="    ")
        if texts.get("error"):
            yield (("    ", ""), (one_line(strip_colours(texts["error"][:READ_CHARS]), 140), "red"))

    def _run_end(self, facts: dict[str, Any]) -> Iterator[Line]:
        if self._show_text:
            yield ()
        yield self._end_line(facts["stop_reason"], usage_line(Usage(**facts["usage"])))


def _failure(facts: dict[str, Any], texts: dict[str, str]) -> tuple[str, str] | None:
    """Of a call that failed."""
    if not facts["error_kind"]:
        return None
    return one_line(f"{facts['error_kind']}: {texts.get('error', '')}", 100), "red"
