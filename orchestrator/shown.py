"""Events as lines that are safe to show: short, escaped, and of a stranger's text no more than fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from orchestrator.rendering import escape_terminal, strip_colours
from orchestrator.screens import Line
from orchestrator.spent import counted
from orchestrator.trace import TraceEvent

PLAIN_LINE_CHARS: Final = 160
ERROR_NAME_CHARS: Final = 40
READ_CHARS: Final = 20_000
"""Of one text; the rest is not even looked at."""


def _run_start(facts: dict[str, Any]) -> Iterator[Line]:
    sub = f"sub-calls to {one_line(facts['sub'], 60)}" if facts["sub"] else "no sub-calls"
    yield ((f"root {one_line(facts['root'], 60)}, {sub}, isolation {facts['isolation']}", "dim"),)
    if others := [
        _other_model(model) for model in facts.get("models", ()) if model["name"] or model["role"] == "fallback"
    ]:
        yield ((one_line("also " + ", ".join(others), 300), "dim"),)
    yield ((f"context is {facts['context']}", "dim"),)
    if facts.get("policy_summaries"):
        yield ((one_line("policies: " + ", ".join(facts["policy_summaries"]), 300), "dim"),)


def _other_model(model: dict[str, Any]) -> str:
    return f"{model['name']}: {model['model']}" if model["name"] else f"fallback {model['model']}"


def _setup(facts: dict[str, Any]) -> Iterator[Line]:
    yield ((f"  {one_line(str(facts['doing']), 2_000)}", "dim"),)


def _box_lost(facts: dict[str, Any]) -> Iterator[Line]:
    because = one_line(facts["because"], 100)
    yield ((f"  the box was lost ({because}); a fresh one is started with the context in it", "yellow"),)


def _box(facts: dict[str, Any]) -> Iterator[Line]:
    where = f"{facts['isolation']} ({one_line(facts['runtime'], 40)})"
    unsure = f", {len(facts['not_checked']):,} could not be checked" if facts["not_checked"] else ""
    yield ((f"box started: {where}, audit: {counted(facts['held'], 'control')} held{unsure}", "dim"),)


def _policy(facts: dict[str, Any]) -> Iterator[Line]:
    done = {"redact": f"redacted {counted(facts['count'], 'place')}", "refuse": "refused", "report": "reports"}
    what = {"on_request": "a request", "on_reply": "a reply", "on_answer": "the answer"}[facts["hook"]]
    said = f"policy {facts['policy']}: {done[facts['action']]}, {what}: {facts['reason']}"
    yield ((f"  {one_line(said, 300)}", "yellow"),)


def _last_chance(facts: dict[str, Any]) -> Iterator[Line]:
    asked = "no turns are left: the root was asked once more, for its best answer"
    yield ((asked + (f" ({facts['failure']})" if facts["failure"] else ""), "dim"),)


def _invalid_answer(facts: dict[str, Any]) -> Iterator[Line]:
    yield ((f"  the answer does not fit the schema: {one_line(facts['faults'][0], 100)}", "yellow"),)


def _fallback(facts: dict[str, Any]) -> Iterator[Line]:
    yield ((f"  {one_line(facts['from'], 60)} is out: {one_line(facts['to'], 60)} is asked instead", "yellow"),)


def _strategy(facts: dict[str, Any]) -> Iterator[Line]:
    goes_on = f"{one_line(facts['root'], 60)}, {facts['prompt_mode']}"
    yield ((f"no progress ({one_line(facts['why'], 100)}): strategy {facts['strategy']} goes on: {goes_on}", "yellow"),)


def _compaction(facts: dict[str, Any]) -> Iterator[Line]:
    tokens = f"about {facts['tokens_before']:,} tokens became {facts['tokens_after']:,}"
    yield ((f"  the conversation was shortened by {counted(facts['turns'], 'turn')}: {tokens}", "dim"),)


def _overbilled(facts: dict[str, Any]) -> Iterator[Line]:
    model, billed, reserved = one_line(facts["model"], 60), facts["billed_tokens"], facts["reserved_tokens"]
    yield ((f"  {model} billed {billed:,} tokens for a call of at most {reserved:,}: the run ends", "red"),)


HOSTS_OWN: Final[dict[str, Callable[[dict[str, Any]], Iterator[Line]]]] = {
    "run_start": _run_start,
    "setup": _setup,
    "box": _box,
    "box_lost": _box_lost,
    "compaction": _compaction,
    "fallback": _fallback,
    "overbilled": _overbilled,
    "strategy": _strategy,
    "policy": _policy,
    "last_chance": _last_chance,
    "invalid_answer": _invalid_answer,
}


def block(text: str, most: int, *, first: str, style: str = "") -> Iterator[Line]:
    """A text of several lines: its head and its tail, and how many are left out between."""
    lines = escape_terminal(strip_colours(text[:READ_CHARS])).rstrip("\n").expandtabs(4).split("\n")
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


def one_line(text: str, most: int) -> str:
    """A stranger's text as one safe, short line."""
    safe = escape_terminal(" ".join(text[:READ_CHARS].split()), one_line=True)
    return safe if len(safe) <= most else safe[: most - 1] + "…"


def error_name(error: str) -> str:
    """The exception's name, which is the box's word: shown where it is one short name, and nothing behind it ever."""
    name = error[:READ_CHARS].partition(":")[0]
    return f" {one_line(name, ERROR_NAME_CHARS)}" if name.isidentifier() else ""


def child_run(event: TraceEvent) -> Iterator[Line]:
    """Of a child run its start and its end."""
    number, depth = event.facts["run"], event.facts["run_depth"]
    if event.kind == "child_start":
        yield ((f"  child run {number} starts at depth {depth}", "dim"),)
    elif event.kind == "child_end":
        ended = str(event.facts["stop_reason"]).replace("_", " ")
        yield ((f"  child run {number}: {ended}, {counted(event.facts['usage']['turns'], 'turn')}", "dim"),)


class OutputLines:
    """A cell's output in whole lines, while it is printed."""

    def __init__(self) -> None:
        self._begun: dict[str, str] = {}
        self._cut = False

    def take(self, event: TraceEvent) -> Iterator[Line]:
        """Lines that this piece ends."""
        stream = event.facts["stream"]
        *lines, self._begun[stream] = (self._begun.get(stream, "") + event.texts["text"]).split("\n")
        for line in lines:
            yield _output_line(line, stream)
        self._cut = self._cut or event.facts["cut"]

    def rest(self) -> Iterator[Line]:
        """What no line's end came behind; to be called when the cell has ended."""
        begun, self._begun = self._begun, {}
        for stream, line in begun.items():
            if line:
                yield _output_line(line, stream)
        if self._cut:
            yield (("    ", ""), ("… more was printed", "dim italic"))
        self._cut = False


def _output_line(line: str, stream: str) -> Line:
    shown = escape_terminal(strip_colours(line[:READ_CHARS].removesuffix("\r"))).expandtabs(4)
    return (("    ", ""), (shown[:PLAIN_LINE_CHARS], "yellow" if stream == "stderr" else ""))
