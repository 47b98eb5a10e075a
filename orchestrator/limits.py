"""What a run may spend (`Limits`), what it has spent (`Usage`), and when it must end (`Deadline`)."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from orchestrator.errors import ConfigError

UNLIMITED: Final[float] = float("inf")
"""The one way to say that a limit is off. ``None`` and 0 are errors, so that no limit goes missing by accident."""

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# field: (least, most, whether UNLIMITED is allowed)
_RANGES: Final[dict[str, tuple[float, float, bool]]] = {
    "max_turns": (1, 1_000_000, True),
    "max_failed_cells": (1, 1_000_000, True),
    "max_idle_turns": (1, 1_000_000, True),
    "max_depth": (0, 16, False),
    "max_sub_calls": (0, 1_000_000_000, True),
    "max_tool_calls": (0, 1_000_000_000, True),
    "max_tokens": (1, 10**15, True),
    "max_cost_usd": (0, 10**6, True),
    "max_wall_s": (0.001, 10**9, True),
    "max_call_s": (0.001, 10**9, True),
    "max_concurrency": (1, 1024, False),
    "max_prompt_bytes": (1, 4 * MIB, False),
    "max_reply_bytes": (1, 4 * MIB, False),
    "max_output_chars": (200, 200_000, False),
    "cell_wall_s": (0.001, 10**9, True),
    "cell_cpu_s": (0.001, 10**9, True),
    "cell_wait_s": (0, 10**9, True),
    "memory_bytes": (128 * MIB, 1024 * GIB, False),
    "max_boxes": (1, 1024, False),
    "max_live_boxes": (1, 4096, False),
    "max_store_bytes": (0, 1024 * GIB, False),
}
_MONEY: Final = frozenset({"max_cost_usd"})
_SECONDS: Final = frozenset({"max_wall_s", "max_call_s", "cell_wall_s", "cell_cpu_s", "cell_wait_s"})
_INTEGERS: Final = frozenset(_RANGES) - _SECONDS - _MONEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one run and its whole recursion tree. Every one is finite unless `UNLIMITED` is written; but money,
    which can only be bounded where the models' prices are known.

    Attributes:
        max_turns: Root replies, 1 and more.
        max_failed_cells: Cells in a row that may fail; the last of them moves the run to its next strategy, or ends it.
        max_idle_turns: Turns in a row without progress, likewise: no code and no answer, code that did what it had
            done before, an answer that could not be taken (`orchestrator.strategies.Progress`).
        max_depth: Levels below the root, 0 to 16. 1 allows plain sub-calls; 0 none; more is accepted and not used yet.
        max_sub_calls: Sub-calls sent to a provider, retries included, 0 and more.
        max_tool_calls: Calls of all tools together (`orchestrator.tools`), 0 and more.
        max_tokens: Input and output tokens of all calls together. Before a call its upper bound is reserved
            (one token a UTF-8 byte, plus the reply's maximum); after it the provider's own count is charged.
        max_cost_usd: US dollars of all calls together, a `Decimal` or an int from 0 to a million. Before a call the
            most that its tokens can cost is reserved, after it what the provider counted is charged, at the prices of
            `orchestrator.providers.prices` or the caller's own. A model without a price is then a ConfigError.
        max_wall_s: Seconds from start to answer.
        max_call_s: Seconds one model call may take.
        max_concurrency: Provider calls in flight at once, 1 to 1024.
        max_prompt_bytes: UTF-8 bytes of one sub-call's prompt with its ``data``, up to 4 MiB.
        max_reply_bytes: UTF-8 bytes of one model reply, up to 4 MiB; a longer one is cut off and is an error.
        max_output_chars: Characters of one turn's output that the root is shown, 200 to 200,000; never more than half
            as many as it can read tokens at once.
        cell_wall_s: Seconds one cell may take, not counting those it waits for its sub-calls.
        cell_cpu_s: CPU seconds one cell may use, waiting or not.
        cell_wait_s: Seconds for which waiting for sub-calls may stop the cell's wall clock, in total.
        memory_bytes: Memory of the box, 128 MiB and more; swap is off.
        max_boxes: Boxes of the recursion tree that run a cell at once, 1 to 1024; one that waits for a child run does
            not count. More wait for their turn.
        max_live_boxes: Boxes of the tree alive at once, those that wait included, 1 to 4096. A child run that would
            need one more is refused.
        max_store_bytes: Contexts of child runs on the host's disk at once, in bytes of UTF-8 or JSON.

    Raises:
        ConfigError: A value is out of its range, names the field, the value and the range.
    """

    max_turns: float = 30
    max_failed_cells: float = 5
    max_idle_turns: float = 3
    max_depth: int = 1
    max_sub_calls: float = 100
    max_tool_calls: float = 100
    max_tokens: float = 2_000_000
    max_cost_usd: Decimal | float = UNLIMITED
    max_wall_s: float = 15 * 60
    max_call_s: float = 10 * 60
    max_concurrency: int = 16
    max_prompt_bytes: int = 2 * MIB
    max_reply_bytes: int = 4 * MIB
    max_output_chars: int = 20_000
    cell_wall_s: float = 60
    cell_cpu_s: float = 60
    cell_wait_s: float = 10 * 60
    memory_bytes: int = GIB
    max_boxes: int = 4
    max_live_boxes: int = 16
    max_store_bytes: int = 256 * MIB

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name))


def _check(name: str, value: Any) -> None:
    least, most, unlimited_allowed = _RANGES[name]
    is_nan = isinstance(value, Decimal) and value.is_nan()
    if unlimited_allowed and not is_nan and value == UNLIMITED:
        return
    hint = ", or UNLIMITED" if unlimited_allowed else ""
    kind, types = _kind(name)
    number = isinstance(value, types) and not isinstance(value, bool)
    if not number or is_nan or not least <= value <= most:
        raise ConfigError(f"Limits.{name}: {value!r} is not {kind} from {least:,} to {most:,}{hint}")


def _kind(name: str) -> tuple[str, tuple[type, ...]]:
    """What a field takes: money is no float, which would make a cent of 0.30000000000000004."""
    if name in _MONEY:
        return "a Decimal or an integer", (int, Decimal)
    return ("an integer", (int,)) if name in _INTEGERS else ("a number", (int, float))


def merge_limits(limits: Limits | None, **overrides: float | None) -> Limits:
    """The limits with a constructor's short forms put in.

    Raises:
        ConfigError: Both were given and contradict each other, or `limits` are none.
    """
    if limits is not None and not isinstance(limits, Limits):
        raise ConfigError(f"limits: of type {type(limits).__name__}; write limits=Limits(max_turns=2)")
    given = {name: value for name, value in overrides.items() if value is not None}
    base, default = limits or Limits(), Limits()
    for name, value in given.items():
        if getattr(base, name) not in (getattr(default, name), value):
            raise ConfigError(f"limits.{name}: {getattr(base, name)!r} contradicts {value!r}; give it once")
    merged: Limits = dataclasses.replace(base, **given)  # type: ignore[arg-type]
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run has spent so far.

    Attributes:
        turns: Root replies.
        root_calls: Attempts at the root model, retries included.
        sub_calls: Attempts at a sub-model, retries included.
        cache_hits: Sub-calls that were answered from the cache; none of those above.
        input_tokens: All input tokens, cached ones included.
        cached_input_tokens: Those of them the provider read from its cache.
        cache_write_tokens: Those of them it wrote to its cache.
        output_tokens: Output tokens.
        estimated_tokens: Those of both that were estimated (4 characters a token) or charged by reservation,
            because the provider gave no count.
        cost_usd: US dollars, counted as those tokens are; None where a model's price is not known.
        wall_s: Seconds since the start.
        tool_calls: Calls of tools that were made.
        refusals: Sub-calls that a limit, a policy or the gate refused, and tool calls that were not made.
    """

    turns: int = 0
    root_calls: int = 0
    sub_calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    estimated_tokens: int = 0
    cost_usd: Decimal | None = Decimal(0)
    wall_s: float = 0.0
    tool_calls: int = 0
    refusals: int = 0
    cache_hits: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


class Deadline:
    """A moment on the monotonic clock. Public time-outs are relative; this absolute form stays inside."""

    __slots__ = ("_at", "_left_s")

    def __init__(self, seconds_from_now: float) -> None:
        self._at = time.monotonic() + seconds_from_now
        self._left_s: float | None = None

    def pause(self) -> None:
        """Stop the clock: what is left stays so until `resume`."""
        self._left_s = self.remaining_s

    def resume(self) -> None:
        """Let the clock run on; no change where it runs."""
        if self._left_s is not None:
            self._at = time.monotonic() + self._left_s
            self._left_s = None

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below 0; `UNLIMITED` where there is no end."""
        if self._left_s is not None:
            return self._left_s
        return max(0.0, self._at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining_s <= 0.0
