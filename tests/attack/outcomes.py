"""How a cell that attacks may end, and that the next one works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest

from sandbox.cell import CellResult
from sandbox.errors import BoxGone
from sandbox.spec import CellLimits
from tests.boxes import Box

SHORT: Final = CellLimits(wall_s=0.5)


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How a cell may end, and what it says then."""

    status: str
    clock: str | None = None
    lost_because: str | None = None
    error: str | None = None

    def fits(self, result: CellResult) -> bool:
        return (
            result.status == self.status
            and result.clock == self.clock
            and (self.lost_because or "") in (result.lost_because or "")
            and (self.error is None or (result.error is not None and result.error.name == self.error))
        )


OK: Final = Ends(status="ok")
INTERRUPTED: Final = Ends(status="interrupted", clock="wall")
LOST: Final = Ends(status="lost", clock="wall", lost_because="it did not stop when interrupted")


async def works(box: Box, *, lost: bool) -> None:
    """The next cell works, in a fresh box where the old one is lost."""
    assert box.alive is not lost
    if lost:
        with pytest.raises(BoxGone):
            await box.execute("1")
        await box.restart()
    assert await box.shown("6 * 7") == "42"
