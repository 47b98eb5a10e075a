"""What counts as the run's answer, and what the root is told of one that does not.

`orchestrator.parsing` says what a reply holds; here it is decided what that is worth, given what the reply's cells did.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field
from typing import Final, Protocol

from orchestrator import prompts
from orchestrator.errors import VariableError
from orchestrator.parsing import FinalText, FinalVar, ParsedReply, reads_like_a_plan
from orchestrator.recorder import Recorder
from orchestrator.rendering import frame
from orchestrator.repl import Repl
from orchestrator.result import AnswerKind
from orchestrator.schema import Checked, OutputSchema, Problem

STARTED_ANEW: Final = "It was started anew: `context` is there again, all other variables and imports are gone."


class CellsRan(Protocol):
    """What is asked of a turn's cells."""

    @property
    def ok(self) -> bool:
        """Whether all that ran ended well."""

    @property
    def ran_any(self) -> bool:
        """Whether there were any."""

    @property
    def answer(self) -> str | None:
        """What the last one gave as the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as the run has it, before any policy has seen it.

    Attributes:
        text: The text; JSON where it fits a schema.
        kind: ``final`` where the run accepts it.
        checked: What the schema made of it, where it fits.
    """

    text: str
    kind: AnswerKind = "final"
    checked: Checked | None = None

    def as_policies_left(self, text: str, schema: OutputSchema | None) -> Answer:
        """The answer with the text that policies made of it. What was redacted must not live on in the value."""
        if schema is None or (text == self.text and self.checked is not None):
            return dataclasses.replace(self, text=text)
        checked = schema.check(text)
        if isinstance(checked, Problem):
            return dataclasses.replace(self, text=text, checked=None)
        return dataclasses.replace(self, text=checked.text, checked=checked)

    def valid(self, schema: OutputSchema | None) -> bool | None:
        """Whether it fits the schema; None where there is none."""
        return None if schema is None else self.checked is not None


@dataclass(slots=True, kw_only=True)
class Answers:
    """Decides about the answers of one run.

    Attributes:
        repl: Where variables are.
        recorder: Is told of answers that do not fit, and of lost boxes.
        most_bytes: Most bytes of an answer.
        schema: What it must fit, or None.
        typed: Whether no text of the box may reach the root.
        partial: The best one so far that was not accepted: what a run that hits a limit returns.
    """

    repl: Repl
    recorder: Recorder
    most_bytes: int
    schema: OutputSchema | None = None
    typed: bool = False
    partial: Answer | None = None
    _doubted: bool = field(default=False, init=False)

    async def of_turn(self, parsed: ParsedReply, ran: CellsRan) -> tuple[Answer | None, str | None]:
        """The answer of a turn, or None and what to say about the one it tried to give.

        Raises:
            ProtocolViolation: The box misbehaved and has been killed.
            BoxError: A fresh one would not start.
        """
        if ran.answer is not None:
            return await self._checked(ran.answer)
        match parsed.final:
            case FinalText(text=text) if ran.ran_any:
                self.partial = Answer(text=text, kind="partial")
                return None, prompts.ask_again()
            case FinalText(text=text) if reads_like_a_plan(text) and not self._doubted:
                self._doubted = True
                self.partial = Answer(text=text, kind="partial")
                return None, prompts.doubt_plan()
            case FinalText(text=text):
                return await self._checked(text)
            case FinalVar(name=name) if ran.ok:
                value, remark = await self._variable(name)
                return (None, remark) if value is None else await self._checked(value)
            case FinalVar():
                return None, prompts.ask_again()
        return None, None

    async def best_effort(self, parsed: ParsedReply) -> Answer | None:
        """The answer of the one reply behind the last turn, whose code is not run; in quarantine a variable's only.

        Raises:
            ProtocolViolation: The box misbehaved and has been killed.
        """
        text = None
        match parsed.final:
            case FinalText(text=said) if not self.typed:
                text = said
            case FinalVar(name=name) if self.repl.alive:
                try:
                    text = await self.repl.answer_text(name)
                except VariableError:
                    text = None
        if text is None:
            return None
        checked = await self._fitting(text)
        if isinstance(checked, Checked):
            return Answer(text=checked.text, kind="best_effort", checked=checked)
        return Answer(text=text, kind="best_effort")

    async def _checked(self, text: str) -> tuple[Answer | None, str | None]:
        checked = await self._fitting(text)
        if checked is None:
            return Answer(text=text), None
        if isinstance(checked, Checked):
            return Answer(text=checked.text, checked=checked), None
        self.partial = Answer(text=text, kind="partial")
        self.recorder.invalid_answer(checked.plainly(), checked.words())
        if self.typed:
            return None, prompts.not_valid(checked.plainly())
        words = checked.words()
        return None, prompts.not_valid(
            checked.plainly(indexes=True), frame("the check's words", words) if words else ""
        )

    async def _fitting(self, text: str) -> Checked | Problem | None:
        return None if self.schema is None else await asyncio.to_thread(self.schema.check, text)

    async def _variable(self, name: str) -> tuple[str | None, str | None]:
        try:
            return await self.repl.answer_text(name), None
        except VariableError as error:  # its text has words of the box, which the root sees inside of a frame only
            remark = f"FINAL_VAR({name}) gives no answer: {self._why(error)}"
        if self.repl.alive:
            return None, remark
        self.recorder.box_lost(self.recorder.turns[-1], "a value did not become text in time, or ended it")
        restored = await self.repl.restart()
        if restored is None:
            return None, f"{remark} {STARTED_ANEW}"
        self.recorder.replayed(cells=restored.cells, failed=restored.failed, done=restored.done)
        return None, f"{remark} {restored.said}"

    def _why(self, error: VariableError) -> str:
        if error.undefined:
            return "no variable has that name. For the answer itself write FINAL(your answer)."
        if error.size_bytes is None:
            return "its value can't be taken as text: that raised an error, gave no text, or took too long."
        size = "" if self.typed else f" of {error.size_bytes:,} bytes"  # in quarantine the box names no number
        return f"a text{size} is too long; at most {self.most_bytes:,} bytes are allowed. Cut it or sum it up."
