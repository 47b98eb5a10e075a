"""What a run used, in words for a person."""

from __future__ import annotations

from decimal import Decimal

from orchestrator.limits import Usage
from orchestrator.providers.prices import dollars


def usage_line(usage: Usage) -> str:
    """What a run used, one line."""
    parts = [counted(usage.turns, "turn"), counted(usage.sub_calls, "sub-call")]
    if usage.cache_hits:
        parts.append(f"{usage.cache_hits:,} from the cache")
    if usage.tool_calls:
        parts.append(counted(usage.tool_calls, "tool call"))
    if usage.refusals:
        parts.append(f"{usage.refusals:,} refused")
    cached = f", {usage.cached_input_tokens:,} of them cached" if usage.cached_input_tokens else ""
    tokens = f"{usage.total_tokens:,} tokens ({usage.input_tokens:,} in{cached}, {usage.output_tokens:,} out"
    if usage.estimated_tokens:
        tokens += f"; {usage.estimated_tokens:,} of them estimated"
    return ", ".join([*parts, f"{tokens})", _cost(usage), f"{usage.wall_s:.1f} s"])


def _cost(usage: Usage) -> str:
    if usage.cost_usd is None:
        return "cost not known"
    about = "about " if usage.estimated_tokens and usage.cost_usd else ""
    return about + dollars(Decimal(str(usage.cost_usd)))


def counted(number: int, noun: str) -> str:
    """A number with its noun, which gets its s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
