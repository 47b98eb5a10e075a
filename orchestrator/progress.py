"""What a person sees while a run works: turns, cells, sub-calls, tokens used and time left.

On a terminal the run scrolls by, shortened, above one live line. Elsewhere (a pipe, a log) there is one plain line an
event, with sizes and no text that the document may have written. Whatever comes from a model, a document or the box
is escaped and cut before it is shown. Where nothing happens for 10 s, a line says what is waited for.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from orchestrator.limits import Usage
from orchestrator.rendering import escape_terminal, strip_colours
from orchestrator.screens import Line, PlainScreen, Screen, TerminalScreen
from orchestrator.trace import TraceEvent

CODE_LINES: Final = 14
OUTPUT_LINES: Final = 10
SUB_CALLS_SHOWN: Final = 8
PLAIN_LINE_CHARS: Final = 160
_READ_CHARS: Final = 20_000  # of one text; the rest is not even looked at

_STATUS_STYLES: Final = {"ok": "green", "error": "red", "interrupted": "yellow", "lost": "red"}


class ProgressPrinter:
    """A listener that prints a run as it happens. Serves one run; a write that fails is let go, the run goes on.

    Args:
        stream: Where to print; asked whether it is a terminal.
        show_text: Whether to show code, output, questions and replies, shortened; None: on a terminal only.
        trace: Path of the run's trace, named at the end.
    """

    def __init__(self, stream: TextIO, *, show_text: bool | None = None, trace: Path | None = None) -> None:
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._show_text = terminal if show_text is None else show_text
        self._trace = trace
        self._tally = _Tally()
        self._question = ""
        prefix = "" if self._show_text else "airlock: "
        status = self._tally.status
        self._screen: Screen = TerminalScreen(stream, status) if terminal else PlainScreen(stream, prefix, status)

    def __call__(self, event: TraceEvent) -> None:
        """Show one event."""
        self._tally.take(event)
        with contextlib.suppress(OSError, ValueError):  # the reader of the stream is gone, or it is closed
            if event.kind == "run_start":
                self._screen.open()
            for line in self._lines(event):
                self._screen.show(line, whole=event.kind in ("setup", "run_end"))
        if event.kind == "run_end":
            self.close()

    def note(self, text: str) -> None:
        """Show a line that is no event, such as a warning of the log."""
        with contextlib.suppress(OSError, ValueError):
            self._screen.show(((_one_line(text, PLAIN_LINE_CHARS), "yellow"),))

    def close(self) -> None:
        """Take the live line off the screen. The end of the run does it too; safe to call twice."""
        with contextlib.suppress(OSError, ValueError):
            self._screen.close()

    def _lines(self, event: TraceEvent) -> Iterator[Line]:
        facts, texts = event.facts, event.texts
        match event.kind:
            case "run_start" | "box" | "policy":
                yield from _HOSTS_OWN[event.kind](facts)
            case "setup":
                yield ((f"  {_one_line(str(facts['doing']), 2_000)}", "dim"),)
            case "turn":
                yield from self._turn(facts, texts.get("response", ""))
            case "cell_start" if self._show_text:
                self._question = ""
                yield from _block(facts["code"], CODE_LINES, first="  │ ", style="cyan")
            case "sub_call" | "refusal" if self._show_text and self._tally.calls_of_cell <= SUB_CALLS_SHOWN:
                yield from self._sub_call(facts, texts)
            case "cell":
                yield from self._cell(facts, texts)
            case "box_lost":
                because = _one_line(facts["because"], 100)
                yield ((f"  the box was lost ({because}); a fresh one is started with the context in it", "yellow"),)
            case "run_end":
                yield from self._run_end(facts)

    def _turn(self, facts: dict[str, Any], response: str) -> Iterator[Line]:
        tokens = facts["usage"]["input_tokens"] + facts["usage"]["output_tokens"]
        cut = ", cut off at its output limit" if facts["finish_reason"] == "length" else ""
        took = f"{facts['wall_s']:.1f} s, {tokens:,} tokens{cut}"
        if not self._show_text:
            yield ((f"turn {facts['turn']}: {took}", ""),)
            return
        yield ()
        yield ((f"turn {facts['turn']}", "bold"), (f"  {took}", "dim"))
        if said := _one_line(response.partition("```")[0], 120):
            yield ((f"  {said}", ""),)

    def _sub_call(self, facts: dict[str, Any], texts: dict[str, str]) -> Iterator[Line]:
        question = _one_line(texts["prompt"], 120)
        if question != self._question:
            self._question = question
            yield (("  ├ ", "dim"), (question, "magenta"))
        data = f"{len(texts['data']):,} characters " if "data" in texts else ""
        if facts["error_kind"]:
            outcome = (_one_line(f"{facts['error_kind']}: {texts.get('error', '')}", 100), "red")
        else:
            outcome = (_one_line(texts.get("reply", ""), 100) or "(an empty reply)", "")
        yield (("  │   ", "dim"), (f"{data}→ ", "dim"), outcome, (f"  {facts['wall_s']:.1f} s", "dim"))

    def _cell(self, facts: dict[str, Any], texts: dict[str, str]) -> Iterator[Line]:
        shown = sum(int(facts[f"{stream}_chars"]) for stream in ("stdout", "stderr", "result"))
        calls = self._tally.calls_line()
        took = f"{facts['wall_s']:.2f} s" + (f", stopped by the {facts['clock']} clock" if facts["clock"] else "")
        if not self._show_text:
            where = f"turn {facts['turn']}, cell {facts['cell']}: {facts['status']}, {took}"
            yield ((f"{where}, {_count(shown, 'character')} of output{calls}", ""),)
            return
        size = f", {_count(shown, 'character')} of output" if shown else ""
        status = (facts["status"], _STATUS_STYLES.get(facts["status"], ""))
        yield (("  ╰ ", "dim"), status, (f"  {took}{calls}{size}", "dim"))
        if texts.get("output"):
            yield from _block(texts["output"], OUTPUT_LINES, first="    ")
        if texts.get("error"):
            yield (("    ", ""), (_one_line(strip_colours(texts["error"][:_READ_CHARS]), 140), "red"))

    def _run_end(self, facts: dict[str, Any]) -> Iterator[Line]:
        if self._show_text:
            yield ()
        reason = facts["stop_reason"]
        style = {"answered": "bold green"}.get(reason, "bold yellow")
        where = f"; trace {escape_terminal(str(self._trace), one_line=True)}" if self._trace else ""
        yield ((reason.replace("_", " "), style), (f": {usage_line(Usage(**facts['usage']))}{where}", ""))


def usage_line(usage: Usage) -> str:
    """What a run used, one line."""
    parts = [_count(usage.turns, "turn"), _count(usage.sub_calls, "sub-call")]
    if usage.refusals:
        parts.append(f"{usage.refusals:,} refused")
    tokens = f"{usage.total_tokens:,} tokens ({usage.input_tokens:,} in, {usage.output_tokens:,} out"
    if usage.estimated_tokens:
        tokens += f"; {usage.estimated_tokens:,} of them estimated"
    return ", ".join([*parts, f"{tokens})", f"{usage.wall_s:.1f} s"])


def _run_start(facts: dict[str, Any]) -> Iterator[Line]:
    sub = f"sub-calls to {_one_line(facts['sub'], 60)}" if facts["sub"] else "no sub-calls"
    yield ((f"root {_one_line(facts['root'], 60)}, {sub}, isolation {facts['isolation']}", "dim"),)
    yield ((f"context is {facts['context']}", "dim"),)


def _box(facts: dict[str, Any]) -> Iterator[Line]:
    where = f"{facts['isolation']} ({_one_line(facts['runtime'], 40)})"
    unsure = f", {len(facts['not_checked']):,} could not be checked" if facts["not_checked"] else ""
    yield ((f"box started: {where}, audit: {_count(facts['held'], 'control')} held{unsure}", "dim"),)


def _policy(facts: dict[str, Any]) -> Iterator[Line]:
    done = {"redact": f"redacted {_count(facts['count'], 'place')}", "refuse": "refused", "report": "reports"}
    what = {"on_request": "a request", "on_reply": "a reply", "on_answer": "the answer"}[facts["hook"]]
    said = f"policy {facts['policy']}: {done[facts['action']]}, {what}: {facts['reason']}"
    yield ((f"  {_one_line(said, 300)}", "yellow"),)


_HOSTS_OWN: Final = {"run_start": _run_start, "box": _box, "policy": _policy}


def _block(text: str, most: int, *, first: str, style: str = "") -> Iterator[Line]:
    """A text of several lines: its head and its tail, and how many are left out between."""
    lines = escape_terminal(strip_colours(text[:_READ_CHARS])).rstrip("\n").expandtabs(4).split("\n")
    left_out = 0
    if len(lines) > most:
        head, tail = lines[: most - 3], lines[-2:]
        left_out = len(lines) - len(head) - len(tail)
        lines = [*head, "", *tail]
    for index, line in enumerate(lines):
        if left_out and index == most - 3:
            yield ((first, "dim"), (f"… {_count(left_out, 'more line')}", "dim italic"))
        else:
            yield ((first, "dim"), (line[:PLAIN_LINE_CHARS], style))


def _one_line(text: str, most: int) -> str:
    """A stranger's text as one safe, short line."""
    safe = escape_terminal(" ".join(text[:_READ_CHARS].split()), one_line=True)
    return safe if len(safe) <= most else safe[: most - 1] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


class _Tally:
    """The numbers of the live line. Written on the event loop, read by the thread that draws the line."""

    def __init__(self) -> None:
        self._limits: dict[str, Any] = {}
        self._started = time.monotonic()
        self._doing = "starting"
        self._since = self._started
        self._turns = self._tokens = self._sub_calls = 0
        self._failures: Counter[str] = Counter()
        self.calls_of_cell = 0

    def take(self, event: TraceEvent) -> None:
        facts = event.facts
        match event.kind:
            case "run_start":
                self._limits = facts["limits"]
                self._started = time.monotonic()
                self._now("starting the box")
            case "box":
                self._now("asking the root")
            case "turn":
                self._turns = facts["turn"]
                self._add_tokens(facts)
            case "cell_start":
                self.calls_of_cell = 0
                self._failures.clear()
                self._now(f"running cell {facts['cell']}")
            case "sub_call" | "refusal":
                self._sub_calls += 1
                self.calls_of_cell += 1
                self._failures.update([facts["error_kind"]] if facts["error_kind"] else [])
                self._add_tokens(facts)
            case "cell":
                self._now("asking the root")

    def _now(self, doing: str) -> None:
        self._doing, self._since = doing, time.monotonic()

    def _add_tokens(self, facts: dict[str, Any]) -> None:
        if facts["usage"]:
            self._tokens += facts["usage"]["input_tokens"] + facts["usage"]["output_tokens"]

    def calls_line(self) -> str:
        """The sub-calls of the cell that has ended, as a part of its line."""
        if not self.calls_of_cell:
            return ""
        failed = ", ".join(f"{number:,} {kind}" for kind, number in self._failures.items())
        return f", {_count(self.calls_of_cell, 'sub-call')}" + (f" ({failed})" if failed else "")

    def status(self) -> str:
        now = time.monotonic()
        parts = [
            f"turn {self._turns:,}{self._of('max_turns')}",
            f"{self._sub_calls:,}{self._of('max_sub_calls')} sub-calls",
            f"{self._tokens:,}{self._of('max_tokens')} tokens",
            self._time_left(now),
            f"{self._doing}, {now - self._since:.0f} s",
        ]
        return " · ".join(parts)

    def _of(self, limit: str) -> str:
        most = self._limits.get(limit, "unlimited")
        return "" if most == "unlimited" else f" of {most:,.0f}"

    def _time_left(self, now: float) -> str:
        most = self._limits.get("max_wall_s", "unlimited")
        if most == "unlimited":
            return f"{_clock(now - self._started)} gone"
        return f"{_clock(max(0.0, most - (now - self._started)))} left"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
