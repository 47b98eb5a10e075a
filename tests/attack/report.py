"""The report of the suite: one line for each restriction, runtime and attack, and what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Literal

from tests.told import TOLD, tell

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


_LINES: Final = "lines of the report"
_NAMED: Final = "restrictions that the audit has named"


def add(line: Line) -> None:
    """Add a line to the session's report."""
    tell(_LINES, asdict(line))


def audit_named(level: str, settings: set[str]) -> None:
    """The audit has named what was taken away, and nothing else."""
    tell(_NAMED, (level, sorted(settings)))


def report() -> list[str]:
    """The session's report; empty where no attack was made."""
    named: dict[str, set[str]] = {}
    for level, settings in sorted(TOLD.get(_NAMED, [])):
        named.setdefault(level, set()).update(settings)
    return [
        *rendered(Line(**{**line, "also": tuple(line["also"])}) for line in TOLD.get(_LINES, [])),
        *(
            f"{level}: the audit named {len(settings)} restrictions that were taken away"
            for level, settings in named.items()
        ),
    ]


def rendered(lines: Iterable[Line]) -> list[str]:
    """The lines, sorted by runtime, restriction and attack, with a count at their end."""
    ordered = sorted(lines, key=lambda line: (line.level, line.setting, line.attack))
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
    ]
