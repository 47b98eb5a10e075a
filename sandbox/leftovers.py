"""What processes of ours have left somewhere, what becomes of it, and why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["box", "store", "build", "image", "trace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One thing of ours.

    Attributes:
        kind: What it is.
        name: Its name, for people; made by us, never what a label says.
        why: Why it goes, or stays.
        remove: Removes it, and says why it could not, or "" where it is gone; None: it stays.
    """

    kind: Kind
    name: str
    why: str
    remove: Callable[[], Awaitable[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one `Leftover`.

    Attributes:
        kind: As there.
        name: As there.
        removed: Whether it is gone.
        why: Why.
        failed: Whether it should be gone and is not.
    """

    kind: Kind
    name: str
    removed: bool
    why: str
    failed: bool = False


async def remove_all(leftovers: Iterable[Leftover]) -> list[Outcome]:
    """Remove what goes, one after the other; nothing that fails keeps the others."""
    return [await _remove(leftover) for leftover in leftovers]


async def _remove(leftover: Leftover) -> Outcome:
    kind, name, why = leftover.kind, leftover.name, leftover.why
    if leftover.remove is None:
        return Outcome(kind=kind, name=name, removed=False, why=why)
    problem = await leftover.remove()
    return Outcome(kind=kind, name=name, removed=not problem, why=problem or why, failed=bool(problem))
