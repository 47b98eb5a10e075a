"""What a journal says of a run: every reply that was given, and what every call cost. `orchestrator.record_reader`
reads it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.providers.base import Message, ModelReply, TokenUsage
from orchestrator.result import PolicyDecision
from orchestrator.trace import NO_LINE
from sandbox.messages import SubCallFailure

RESUMABLE: Final = frozenset({"cancelled", "provider_error", "sandbox_error", "internal_error", "diverged"})
"""Ends after which a run can go on; all others are an answer or a limit, which would only be met again."""
ALWAYS_WRITTEN: Final = frozenset({"setup", "box", "policy", "divergence"})
"""Events of which each life of a run has its own."""
MAX_PROMPTS_SHOWN: Final = 1000
"""Sub-questions of one cell that are kept to show where another one differs."""

Outcome = str | SubCallFailure
"""What a cell got for what it asked."""


class Place(NamedTuple):
    """Where something was asked: a turn, and a cell of it; cell 0 is outside of any."""

    turn: int
    cell: int


class Asked(NamedTuple):
    """What was asked in a cell: its digest, and how often the cell had asked the same before."""

    digest: str
    occurrence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one attempt at a model cost.

    Attributes:
        run: Whose attempt it was.
        sub_call: Whether that run's cell asked, or its root.
        usage: Tokens; where no settlement was recorded, those that were reserved.
        usd: Money, likewise; None where the model has no price.
        sent_bytes: Text that was sent.
    """

    run: int
    sub_call: bool
    usage: TokenUsage
    usd: Decimal | None
    sent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootReply:
    """One reply of a root, to what it was sent: so many messages of the call before, and these behind them.

    Attributes:
        sums_up: How many turns it sums up; 0: it is no summary.
    """

    model: str
    kept: int
    messages: tuple[Message, ...]
    reply: ModelReply
    permits: tuple[int, ...]
    sums_up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFailure:
    """A call of the root that failed, and that its run survived: a summary that could not be had, for example.

    Attributes:
        limit: The limit that refused it, or None where the model failed.
        too_long: Whether the model found it too long.
        permits, sums_up: As for `RootReply`.
    """

    limit: str | None
    too_long: bool
    permits: tuple[int, ...]
    sums_up: int

    def error(self) -> LimitExceeded | ProviderError:
        """The same failure again."""
        if self.limit is not None:
            return LimitExceeded("as it was recorded", limit=self.limit)
        return ProviderError("it failed, as it was recorded", provider="journal", too_long=self.too_long)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCall:
    """What came of one thing that a cell asked.

    Attributes:
        outcome: What the cell got; None of a child run that had not ended.
        permits: Numbers of the attempts that were made for it.
        child: Number of the child run that it was, or None.
        usage: Tokens of the attempt that succeeded.
        model: Who answered.
    """

    outcome: Outcome | None
    permits: tuple[int, ...] = ()
    child: int | None = None
    usage: TokenUsage | None = None
    model: str = ""


@dataclass(slots=True)
class CellRecord:
    """What is recorded of one cell.

    Attributes:
        status: How it ended; None where it had not.
        output: What it showed.
        error: Its error.
        lost_because: Why the box was lost, where it was.
        calls: What it asked, and what came of it.
        prompts: Sub-questions of it, to show where another one differs.
    """

    status: str | None = None
    output: str = ""
    error: str | None = None
    lost_because: str | None = None
    calls: dict[Asked, CellCall] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class RunRecord:
    """What is recorded of one run of the recursion tree.

    Attributes:
        parent: The run that started it; None of the first.
        roots: Its root's replies that have not been given again yet.
        failed: Failures of its root behind the last of them: whether the run survived them, a further reply tells.
        cells: Its cells.
        refused_more: Whether its cells were refused more than is recorded.
    """

    parent: int | None = None
    roots: deque[RootReply | RootFailure] = field(default_factory=deque)
    failed: list[RootFailure] = field(default_factory=list)
    cells: dict[Place, CellRecord] = field(default_factory=dict)
    refused_more: bool = False

    def cell(self, turn: int, cell: int) -> CellRecord:
        """What is recorded of a cell, made where nothing is."""
        return self.cells.setdefault(Place(turn, cell), CellRecord())


@dataclass(slots=True)
class Record:
    """What is recorded of a whole recursion tree.

    Attributes:
        runs: By number; 0 is the first.
        charges: All attempts, by their permits' numbers.
        events: How many events of a kind are recorded of a run, a turn and a cell.
        policies: What policies did, in order.
        lives: How often the run was started.
        wall_s: Seconds that all lives took.
        image: The newest box's.
        digest_key: The trace's.
        end: The facts and texts of its end, where it has ended for good.
        stop_reason: Of the last life that ended, in whatever way.
        head: SHA-256 of the last whole line.
        size_bytes: Where that line ends.
    """

    runs: dict[int, RunRecord] = field(default_factory=dict)
    charges: dict[int, Charge] = field(default_factory=dict)
    events: Counter[tuple[object, ...]] = field(default_factory=Counter)
    policies: list[PolicyDecision] = field(default_factory=list)
    lives: int = 0
    wall_s: float = 0.0
    image: str | None = None
    digest_key: str | None = None
    end: dict[str, Any] | None = None
    stop_reason: str | None = None
    head: str = NO_LINE
    size_bytes: int = 0

    def run(self, number: int) -> RunRecord:
        """What is recorded of a run, made where nothing is."""
        return self.runs.setdefault(number, RunRecord())

    def below(self, run: int) -> set[int]:
        """A run and all runs that were started below it."""
        found = {run}
        for number, record in sorted(self.runs.items()):  # a child has a higher number than its parent
            if record.parent in found:
                found.add(number)
        return found


def event_key(kind: str, facts: dict[str, Any]) -> tuple[object, ...]:
    """By what an event that happens again is known."""
    return kind, facts.get("run", 0), facts.get("turn"), facts.get("cell")


def prompt_digest(prompt: str, data: str | None, to: str = "") -> str:
    """By what a question is known: SHA-256 of its text, its data, and who was named to answer it."""
    digest = hashlib.sha256()
    for part in (to, prompt, data):
        raw = None if part is None else part.encode("utf-8", "surrogatepass")
        digest.update(b"-;" if raw is None else b"%d;" % len(raw))
        digest.update(raw or b"")
    return digest.hexdigest()


def shown_prompt(prompt: str, data: str | None) -> str:
    """A sub-question as a person compares it with another."""
    return prompt if data is None else f"{prompt}\n{data}"
