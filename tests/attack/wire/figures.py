"""The figures of the attacks on the wire, printed at the end of the session."""

from __future__ import annotations

from typing import Any, Final

from tests.told import TOLD, tell

MAX_PEAK_MIB: Final = 32
_SECTION: Final = "hostile guest"


def add(outcomes: list[dict[str, Any]]) -> None:
    """What `tests.attack.wire.measure` has printed."""
    tell(_SECTION, outcomes)


def lines() -> list[str]:
    """In words; empty where nothing was measured."""
    outcomes = {outcome["attack"]: outcome for told in TOLD.get(_SECTION, []) for outcome in told}
    if not outcomes:
        return []
    everything = outcomes.pop("all")
    worst = max(outcomes.values(), key=lambda outcome: float(outcome["peak_mib"]))
    slowest = max(outcomes.values(), key=lambda outcome: float(outcome["block_ms"]))
    total = (
        f"hostile guest: {len(outcomes)} attacks; host's peak memory {worst['peak_mib']} MiB over idle "
        f"of {MAX_PEAK_MIB} ({worst['attack']}); {everything['honest_cells']} cells of another kernel meanwhile: "
        f"p50 x{everything['p50_ratio']}, p99 x{everything['p99_ratio']} of alone, "
        f"x{everything['p99_busy_ratio']} of that beside a guest that only burns CPU time; "
        f"event loop held {slowest['block_ms']} ms at most ({slowest['attack']})"
    )
    return [total, *map(_line, outcomes.values())]


def _line(outcome: dict[str, Any]) -> str:
    p99 = f"p99 x{outcome['p99_ratio']:<5} of alone, x{outcome['p99_busy_ratio']:<5} of beside a busy guest"
    return f"  {outcome['attack']:26} {outcome['peak_mib']:5} MiB  {p99} {outcome['ended'][:80]!a}"
