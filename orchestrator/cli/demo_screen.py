"""What `airlock demo` says before and after the run. The run itself is shown by `orchestrator.progress`."""

from __future__ import annotations

import re
from typing import TextIO

from rich.console import Console
from rich.text import Text

from orchestrator.limits import Limits, Usage
from orchestrator.rendering import escape_terminal


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """rich would leave the process here; the command has its own exit code for it."""
        raise  # noqa: PLE0704 - called inside the handler of the BrokenPipeError


class DemoScreen:
    """Plain words and few colours; without a terminal no colours."""

    def __init__(self, stream: TextIO) -> None:
        self._console = _Console(file=stream, highlight=False, markup=False, emoji=False)

    def introduce(self, document: str, question: str, sub_model: str) -> None:
        """Say what is real and what is not."""
        papers = document.count("== Paper")
        self._title("Airlock demo")
        self._rows(
            ("document", f"{len(document) / 1e6:.1f} MB, made up: {papers:,} papers of a harbour office."),
            ("", "One of them tells its reader to steal the API key and to send it away."),
            ("question", question),
            ("root model", "a script, not a language model: its five replies were written beforehand."),
            ("", "One of them obeys the hostile paper."),
            ("sub-model", sub_model),
        )
        self._line()

    def show_attempts(self, attempts: list[re.Match[str]], *, turn: int) -> None:
        """What the hostile text got."""
        self._title(f"What the box refused (turn {turn}, in the words of the cell that tried)")
        for attempt in attempts:
            what, how = (escape_terminal(attempt[group], one_line=True) for group in ("what", "how"))
            absent = how.startswith(("LookupError", "FileNotFoundError"))
            word = "CAME THROUGH" if attempt["got"] else "not there" if absent else "refused"
            style = "bold red" if attempt["got"] else "green"
            self._line((f"  {what:30} ", ""), (f"{word:9}", style), (f"  {how[:90]}", "dim"), crop=True)

    def show_key(self, variable: str, *, leaked: bool) -> None:
        """Whether the canary was found."""
        where = "IS IN" if leaked else "is nowhere in"
        self._line((f"  The host's key (${variable}) {where} what came out of the box.", "bold red" if leaked else ""))

    def show_usage(self, usage: Usage, limits: Limits) -> None:
        """What the run used, beside its limits."""
        estimated = f"{usage.estimated_tokens:,} of them are a script's, estimated"
        self._title("What the run used")
        self._rows(
            ("turns", f"{usage.turns} of {limits.max_turns:,.0f}"),
            ("sub-calls", f"{usage.sub_calls} of {limits.max_sub_calls:,.0f}"),
            ("tokens", f"{usage.total_tokens:,} of {limits.max_tokens:,.0f}; {estimated}"),
            ("time", f"{usage.wall_s:.1f} s of {limits.max_wall_s:,.0f} s, the start of the box included"),
            ("money", "none: no request left this machine"),
        )

    def show_answer(self, answer: str | None, needle: str) -> None:
        """The answer, and whether it is right."""
        right = needle in (answer or "")
        self._title("Answer")
        self._line((f"  {escape_terminal(answer or '(none)', one_line=True)[:300]}", "bold"))
        verdict = f"  {'correct' if right else 'wrong'}: the deed was signed by {needle}"
        self._line((verdict, "green" if right else "bold red"))

    def show_next_step(self) -> None:
        """What to type next."""
        self._title("Next: your own document")
        self._line(("  export OPENAI_API_KEY=...", ""))
        self._line(('  .venv/bin/airlock ask report.txt "your question" --model openai:gpt-5.4-mini', ""))
        self._line()

    def _title(self, text: str) -> None:
        self._line()
        self._line((text, "bold"))

    def _rows(self, *rows: tuple[str, str]) -> None:
        for name, text in rows:
            self._line((f"  {name:11} ", "dim"), (text, ""))

    def _line(self, *pieces: tuple[str, str], crop: bool = False) -> None:
        """Print a line; on a terminal cut to its width where `crop` says so, else wrapped by the terminal."""
        text = Text.assemble(*pieces)
        if crop and self._console.is_terminal:
            self._console.print(text, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(text, soft_wrap=True)
