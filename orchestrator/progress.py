"""What a person sees while a run works: turns, cells, sub-calls, tokens used and time left.

On a terminal the run scrolls by, shortened, above one live line. Elsewhere (a pipe, a log) there is one plain line an
event, with sizes and, of a cell that failed, its exception's name: no other text that the document may have written.
Whatever comes from a model, a document or the box is escaped and cut before it is shown. Where nothing happens for
10 s, a line says what is waited for.
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
from orchestrator.spent import counted, usage_line
from orchestrator.trace import TraceEvent

CODE_LINES: Final = 14
OUTPUT_LINES: Final = 10
SUB_CALLS_SHOWN: Final = 8
PLAIN_LINE_CHARS: Final = 160
ERROR_NAME_CHARS: Final = 40
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
        self._ended = False
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
            self._ended = True
            self.close()

    def note(self, text: str) -> None:
        """Show a line that is no event, such as a warning of the log."""
        with contextlib.suppress(OSError, ValueError):
            self._screen.show(((_one_line(text, PLAIN_LINE_CHARS), "yellow"),))

    def left_behind(self) -> None:
        """Show what is known of a run that nobody waits for any more; nothing where its end was shown."""
        if not self._ended:
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
            yield from _child_run(event)
            return
        match event.kind:
            case "run_start" | "box" | "policy" | "overbilled" | "last_chance" | "invalid_answer":
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
            status = facts["status"] + (_error_name(texts.get("error", "")) if facts["status"] == "error" else "")
            where = f"turn {facts['turn']}, cell {facts['cell']}: {status}, {took}"
            yield ((f"{where}, {counted(shown, 'character')} of output{calls}", ""),)
            return
        size = f", {counted(shown, 'character')} of output" if shown else ""
        coloured = (facts["status"], _STATUS_STYLES.get(facts["status"], ""))
        yield (("  ╰ ", "dim"), coloured, (f"  {took}{calls}{size}", "dim"))
        if texts.get("output"):
            yield from _block(texts["output"], OUTPUT_LINES, first="    ")
        if texts.get("error"):
            yield (("    ", ""), (_one_line(strip_colours(texts["error"][:_READ_CHARS]), 140), "red"))

    def _run_end(self, facts: dict[str, Any]) -> Iterator[Line]:
        if self._show_text:
            yield ()
        yield self._end_line(facts["stop_reason"], usage_line(Usage(**facts["usage"])))


def _run_start(facts: dict[str, Any]) -> Iterator[Line]:
    sub = f"sub-calls to {_one_line(facts['sub'], 60)}" if facts["sub"] else "no sub-calls"
    yield ((f"root {_one_line(facts['root'], 60)}, {sub}, isolation {facts['isolation']}", "dim"),)
    yield ((f"context is {facts['context']}", "dim"),)
    if facts.get("policy_summaries"):
        yield ((_one_line("policies: " + ", ".join(facts["policy_summaries"]), 300), "dim"),)


def _box(facts: dict[str, Any]) -> Iterator[Line]:
    where = f"{facts['isolation']} ({_one_line(facts['runtime'], 40)})"
    unsure = f", {len(facts['not_checked']):,} could not be checked" if facts["not_checked"] else ""
    yield ((f"box started: {where}, audit: {counted(facts['held'], 'control')} held{unsure}", "dim"),)


def _policy(facts: dict[str, Any]) -> Iterator[Line]:
    done = {"redact": f"redacted {counted(facts['count'], 'place')}", "refuse": "refused", "report": "reports"}
    what = {"on_request": "a request", "on_reply": "a reply", "on_answer": "the answer"}[facts["hook"]]
    said = f"policy {facts['policy']}: {done[facts['action']]}, {what}: {facts['reason']}"
    yield ((f"  {_one_line(said, 300)}", "yellow"),)


def _last_chance(facts: dict[str, Any]) -> Iterator[Line]:
    asked = "no turns are left: the root was asked once more, for its best answer"
    yield ((asked + (f" ({facts['failure']})" if facts["failure"] else ""), "dim"),)


def _invalid_answer(facts: dict[str, Any]) -> Iterator[Line]:
    yield ((f"  the answer does not fit the schema: {_one_line(facts['faults'][0], 100)}", "yellow"),)


def _overbilled(facts: dict[str, Any]) -> Iterator[Line]:
    model, billed, reserved = _one_line(facts["model"], 60), facts["billed_tokens"], facts["reserved_tokens"]
    yield ((f"  {model} billed {billed:,} tokens for a call of at most {reserved:,}: the run ends", "red"),)


_HOSTS_OWN: Final = {
    "run_start": _run_start,
    "box": _box,
    "overbilled": _overbilled,
    "policy": _policy,
    "last_chance": _last_chance,
    "invalid_answer": _invalid_answer,
}


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
            yield ((first, "dim"), (f"… {counted(left_out, 'more line')}", "dim italic"))
        else:
            yield ((first, "dim"), (line[:PLAIN_LINE_CHARS], style))


def _one_line(text: str, most: int) -> str:
    """A stranger's text as one safe, short line."""
    safe = escape_terminal(" ".join(text[:_READ_CHARS].split()), one_line=True)
    return safe if len(safe) <= most else safe[: most - 1] + "…"


def _error_name(error: str) -> str:
    """The exception's name, which is the box's word: shown where it is one short name, and nothing behind it ever."""
    name = error[:_READ_CHARS].partition(":")[0]
    return f" {_one_line(name, ERROR_NAME_CHARS)}" if name.isidentifier() else ""


def _short(number: float) -> str:
    """A number in few characters: 950, 2.1k, 19k, 2M."""
    units = ["", "k", "M", "G", "T"]
    while number >= 999.5 and len(units) > 1:
        number /= 1000
        del units[0]
    unit = units[0]
    shown = f"{number:.1f}" if unit and number < 9.95 else f"{number:.0f}"
    return shown.removesuffix(".0") + unit


def _child_run(event: TraceEvent) -> Iterator[Line]:
    """Of a child run its start and its end."""
    number, depth = event.facts["run"], event.facts["run_depth"]
    if event.kind == "child_start":
        yield ((f"  child run {number} starts at depth {depth}", "dim"),)
    elif event.kind == "child_end":
        ended = str(event.facts["stop_reason"]).replace("_", " ")
        yield ((f"  child run {number}: {ended}, {counted(event.facts['usage']['turns'], 'turn')}", "dim"),)


class _Tally:
    """The numbers of the live line. Written on the event loop, read by the thread that draws the line."""

    def __init__(self) -> None:
        self._limits: dict[str, Any] = {}
        self._started = time.monotonic()
        self._doing = "starting"
        self._since = self._started
        self._turn = 1
        self._turns = self._tokens = self._sub_calls = 0
        self._failures: Counter[str] = Counter()
        self.calls_of_cell = 0

    def take(self, event: TraceEvent) -> None:
        facts = event.facts
        if facts.get("run"):
            self._take_of_child(event)
            return
        match event.kind:
            case "run_start":
                self._limits = facts["limits"]
                self._started = time.monotonic()
                self._now("starting the box")
            case "box":
                self._now("asking the root")
            case "turn":
                self._turns = facts["turn"]
                self._turn = self._turns + 1  # until a cell of it runs
                self._add_tokens(facts)
            case "cell_start":
                self.calls_of_cell = 0
                self._failures.clear()
                self._turn = facts["turn"]
                self._now(f"running cell {facts['cell']}")
            case "sub_call" | "refusal":
                self._sub_calls += 1
                self.calls_of_cell += 1
                self._failures.update([facts["error_kind"]] if facts["error_kind"] else [])
                self._add_tokens(facts)
            case "cell":
                self._turn = facts["turn"] + 1
                self._now("asking the root")

    def _take_of_child(self, event: TraceEvent) -> None:
        """To the run above, a child's root is one more sub-model."""
        if event.kind in ("turn", "sub_call"):
            self._sub_calls += 1
            self._add_tokens(event.facts)

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
        return f", {counted(self.calls_of_cell, 'sub-call')}" + (f" ({failed})" if failed else "")

    def status(self) -> str:
        """What happens now first: a narrow terminal cuts the end off."""
        now = time.monotonic()
        parts = [
            f"{self._doing}, {now - self._since:.0f} s",
            f"turn {self._of(self._turn, 'max_turns')}",
            f"{self._of(self._sub_calls, 'max_sub_calls')} sub-calls",
            f"{self._of(self._tokens, 'max_tokens')} tokens",
            self._time_left(now),
        ]
        return " · ".join(parts)

    def so_far(self) -> str:
        """What a run that is left behind has used, as far as is known."""
        return f"{counted(self._turns, 'turn')}, {counted(self._sub_calls, 'sub-call')}, {self._tokens:,} tokens so far"

    def _of(self, number: int, limit: str) -> str:
        most = self._limits.get(limit, "unlimited")
        if most == "unlimited":
            return _short(number)
        return f"{_short(min(number, most) if limit == 'max_turns' else number)}/{_short(most)}"

    def _time_left(self, now: float) -> str:
        most = self._limits.get("max_wall_s", "unlimited")
        if most == "unlimited":
            return f"{_clock(now - self._started)} gone"
        return f"{_clock(max(0.0, most - (now - self._started)))} left"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
