"""What the injection tests have looked at, for one line at the end of the session."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of one session.

    Attributes:
        cases: Documents and strings that were played, once for each mode and model.
        broken: Those in which something was broken, by name.
        payloads: Strings that were searched for.
        requests: Root requests that were searched.
    """

    cases: int = 0
    broken: list[str] = field(default_factory=list)
    payloads: set[str] = field(default_factory=set)
    requests: int = 0

    def line(self) -> str:
        return (
            f"injections: {self.cases:,} cases, {len(self.broken)} broken; {len(self.payloads):,} payload strings "
            f"searched for in {self.requests:,} root requests"
        )


TALLY = Tally()
