"""The report of the suite: one line for each restriction, runtime and attack, and what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["held", "not available here", "no control on this kernel", "kept by the audit, no attack", "NOT HELD"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the suite says of one restriction under one runtime against one attack.

    Attributes:
        setting: The restriction.
        level: The isolation level, which stands for the runtime.
        attack: What was tried.
        status: ``held``: stopped in the locked box and by this setting alone, and shown to work without.
        reason: Why there is nothing to show; "" where there is.
        also: Other settings that each alone stop the same attack.
    """

    setting: str
    level: str
    attack: str
    status: Status
    reason: str = ""
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        also = f" (so does: {', '.join(self.also)})" if self.also else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.level:<9}  {self.setting:<17}  {self.attack}  ...  {self.status}{reason}{also}"


LINES: list[Line] = []
"""All lines of this session, in the order of the tests."""


def add(line: Line) -> None:
    """Add a line to the session's report."""
    LINES.append(line)


NAMED: dict[str, set[str]] = {}
"""Restrictions that the audit has named, and no other one, where they were taken away; by level."""


def audit_named(level: str, settings: set[str]) -> None:
    """The audit has named what was taken away."""
    NAMED.setdefault(level, set()).update(settings)


def rendered(lines: Iterable[Line]) -> list[str]:
    """The report, sorted by runtime and restriction, with a count at its end."""
    ordered = sorted(lines, key=lambda line: (line.level, line.setting))
    levels = dict.fromkeys(line.level for line in ordered)
    counts = {level: Counter(line.status for line in ordered if line.level == level) for level in levels}
    settings = {level: len({line.setting for line in ordered if line.level == level}) for level in levels}
    return [
        *map(str, ordered),
        *(
            f"{level}: {settings[level]} restrictions, "
            + ", ".join(f"{number} {status}" for status, number in sorted(counts[level].items()))
            for level in levels
        ),
        *(f"{level}: the audit named {len(named)} restrictions that were taken away" for level, named in NAMED.items()),
    ]
