"""What has run in a box: so that a fresh one can be brought to where the lost one was (``on_kill="replay"``).

The cells run once more, in their order, and what they ask is answered as it was before (`orchestrator.memory`): no
model, tool or child run is asked anew. A cell that cost its box is left out. What the cells show is shown to nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sandbox.cell import CellResult

if TYPE_CHECKING:
    from orchestrator.memory import RunMemory
    from orchestrator.recorded import Asked, Outcome

RunCell = Callable[[str], Awaitable[CellResult]]

LOST: Final = "It was started anew: `context` is there again, all other variables and imports are gone."


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came of running a box's cells once more.

    Attributes:
        cells: How many there were to run.
        failed: How many of them fail now and did not before.
        done: Whether all ran. Where not, the fresh box was lost too, or the time was over; then nothing is restored.
    """

    cells: int
    failed: int
    done: bool

    @property
    def said(self) -> str:
        """In words for the root."""
        if not self.done:
            return LOST + (" Its earlier cells were run again there, and that failed." if self.cells else "")
        if not self.cells:
            return LOST
        cells = "1 earlier cell" if self.cells == 1 else f"{self.cells} earlier cells"
        said = f"It was started anew, and the {cells} ran again there with the same answers of sub-calls"
        if not self.failed:
            return f"{said}: the variables are as they were before this cell, which was not run again."
        return f"{said}; {self.failed} failed this time, so variables may be missing. This cell was not run again."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    code: str
    failed: bool
    answers: Mapping[Asked, Outcome]


class Past:
    """The cells of one box.

    Args:
        memory: The memory of the run that works in the box now.
        runs_again: Whether a fresh box runs them once more; else nothing is kept of them.
    """

    def __init__(self, memory: Callable[[], RunMemory | None], *, runs_again: bool) -> None:
        self._memory = memory
        self._runs_again = runs_again
        self._done: list[_Done] = []

    def lost(self) -> CellResult | None:
        """How the cell that is to run now ended where it cost the box in an earlier life of its run: it is not run
        again. Else None.
        """
        memory = self._memory()
        record = memory.lost_cell() if memory is not None else None
        return None if record is None else CellResult(status="lost", lost_because=record.lost_because)

    def ran(self, code: str, result: CellResult) -> None:
        """A cell has run."""
        memory = self._memory()
        if self._runs_again and memory is not None and result.status != "lost":
            answers = memory.answers_of_this_cell()
            self._done.append(_Done(code=code, failed=result.status != "ok", answers=answers))

    async def restore(self, run: RunCell) -> Restored | None:
        """Run them once more, in a fresh box; None where they are not to be.

        Args:
            run: Runs one cell.
        """
        memory = self._memory()
        if not self._runs_again or memory is None:
            return None
        failed, done = 0, self._done
        for cell in done:
            with memory.again(cell.answers):
                result = await run(cell.code)
            if result.status == "lost" or result.clock == "run":
                self._done = []
                return Restored(cells=len(done), failed=0, done=False)
            failed += result.status != "ok" and not cell.failed
        return Restored(cells=len(done), failed=failed, done=True)
