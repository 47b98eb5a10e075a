"""When a root does not get on, and what is tried then: another prompt or another model, on the same budget and REPL."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

from orchestrator.errors import ConfigError
from orchestrator.prompts import PromptMode
from orchestrator.providers.base import LLMInterface, Provider
from orchestrator.providers.custom import as_provider

MAX_STRATEGIES: Final = 16
MAX_NOTE_CHARS: Final = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """What a run changes when it is stuck. What is left out stays as it is in the run.

    Attributes:
        prompt_mode: The mode whose system prompt the root gets, also where the run has a ``system_prompt`` of its own.
            ``no_subcalls`` refuses sub-calls from then on.
        root_llm: The root model.
        note: What the root is told besides, in the caller's words, up to 4,000 characters.

    Raises:
        ConfigError: It changes nothing, or a field is wrong, named with its value.
    """

    prompt_mode: PromptMode | None = None
    root_llm: LLMInterface | Provider | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if self.prompt_mode is not None and self.prompt_mode not in get_args(PromptMode):
            known = ", ".join(get_args(PromptMode))
            raise ConfigError(f"Strategy.prompt_mode: {self.prompt_mode!r:.80} is none of {known}")
        if self.note is not None and not (isinstance(self.note, str) and 0 < len(self.note) <= MAX_NOTE_CHARS):
            raise ConfigError(f"Strategy.note: not a text of 1 to {MAX_NOTE_CHARS:,} characters")
        if self.prompt_mode is None and self.root_llm is None and self.note is None:
            raise ConfigError("Strategy: it changes nothing; give prompt_mode, root_llm or note")

    @property
    def facts(self) -> dict[str, str | None]:
        """What it changes, as JSON values."""
        root = None if self.root_llm is None else as_provider(self.root_llm).name
        return {"root": root, "prompt_mode": self.prompt_mode, "note": self.note}


def checked_strategies(strategies: Sequence[Strategy], prompt_mode: PromptMode) -> tuple[Strategy, ...]:
    """What a run tries one after the other, its root models as providers.

    Args:
        strategies: What the caller gave.
        prompt_mode: The run's own.

    Raises:
        ConfigError: One is no `Strategy`, there are too many, or one wants sub-calls in a run that has none.
    """
    if isinstance(strategies, Strategy) or not isinstance(strategies, Sequence):
        raise ConfigError(f"strategies: a {type(strategies).__name__}; write strategies=[Strategy(...)]")
    if len(strategies) > MAX_STRATEGIES:
        raise ConfigError(f"strategies: {len(strategies):,} of them; at most {MAX_STRATEGIES} are tried")
    for number, strategy in enumerate(strategies):
        if not isinstance(strategy, Strategy):
            raise ConfigError(f"strategies[{number}]: of type {type(strategy).__name__}; write Strategy(...)")
        if prompt_mode == "no_subcalls" and strategy.prompt_mode not in (None, "no_subcalls"):
            raise ConfigError(
                f"strategies[{number}].prompt_mode: {strategy.prompt_mode!r} asks sub-questions, and a run in "
                "'no_subcalls' has no function for them; begin with a mode that has and end with this one"
            )
    return tuple(
        strategy
        if strategy.root_llm is None
        else dataclasses.replace(strategy, root_llm=as_provider(strategy.root_llm))
        for strategy in strategies
    )


def roots_of(strategies: Sequence[Strategy]) -> tuple[Provider, ...]:
    """The root models that strategies bring."""
    return tuple(as_provider(strategy.root_llm) for strategy in strategies if strategy.root_llm is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A cell as `Progress` sees it.

    Attributes:
        ok: Whether it ended well.
        did: A hash of its code and of all that it showed, reported and was answered.
        ended: How it failed, in words of the host: ``NameError``, ``the box was lost``.
    """

    ok: bool
    did: int
    ended: str = ""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Whether a root gets on.

    A turn is progress if one of its cells ended well and did what none before it did: same code that showed the same
    again is none. A turn whose answer could not be taken is none either, whatever its cells did. A turn with a cell
    that failed counts by its failed cells alone.

    Attributes:
        max_failed_cells: Cells in a row that may fail; the last of them ends it.
        max_idle_turns: Turns in a row that may be without progress; likewise.
    """

    max_failed_cells: float
    max_idle_turns: float
    _done: set[int] = field(default_factory=set, init=False)
    _failed: int = field(default=0, init=False)
    _idle: int = field(default=0, init=False)

    def turn(self, cells: Sequence[Ran], refused: str | None = None) -> str | None:
        """Take what came of a turn; why the root is stuck, in words of the host, or None.

        Args:
            cells: Its cells, in the order they ran.
            refused: Why its answer was not taken, where the root has to give another one.
        """
        new = False
        for cell in cells:
            self._failed = 0 if cell.ok else self._failed + 1
            new = new or (cell.ok and cell.did not in self._done)
            self._done.add(cell.did)
        if self._failed >= self.max_failed_cells:
            return f"{self._failed:,} cells in a row failed; the last: {cells[-1].ended}"
        why = _why_idle(cells, refused, new=new)
        if why is not None:
            self._idle += 1
        elif new:
            self._idle = 0
        if self._idle >= self.max_idle_turns:
            return f"{self._idle:,} turns in a row brought nothing new; the last: {why}"
        return None

    def starts_anew(self) -> None:
        """All variables are gone: what a cell does again is new."""
        self._done.clear()


def _why_idle(cells: Sequence[Ran], refused: str | None, *, new: bool) -> str | None:
    if not all(cell.ok for cell in cells):
        return None
    if refused or new:
        return refused
    return "code that did what it had done before" if cells else "neither code nor an answer"
