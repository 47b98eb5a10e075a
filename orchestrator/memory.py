"""What a run has asked and been answered: in this life and, from a journal, in those before.

A run that is resumed runs its cells again and asks the same. Its root's replies come back in their order, with the
conversation that they answered; what a cell asks is found by its place (turn and cell), its digest and how often the
cell has asked the same. Neither takes a permit, but both are charged what they cost then. What is recorded and has not
been charged yet is held back from calls that are new, so that no limit is exceeded over all lives.

A cell that had ended asks nothing new: what it asks and is not recorded differs (`orchestrator.errors.Diverged`). The
cell that was running when its process died may ask what it had not come to. Where it asks such a thing while something
that it had asked is still missing, that may only be another order of its threads, so it waits for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestrator.recorded import (
    Asked,
    CellCall,
    CellRecord,
    Outcome,
    Place,
    RunRecord,
    prompt_digest,
    shown_prompt,
)
from orchestrator.result import Divergence
from orchestrator.root_memory import RootMemory
from orchestrator.tree_memory import TreeMemory, is_cancelled
from sandbox.messages import SubCallFailure

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.permit import Permit
    from orchestrator.providers.base import TokenUsage

WAIT_FOR_OTHERS_S: Final = 3.0
MAX_REFUSALS_NOTED: Final = 10_000
"""Of one run: a cell can be refused without end, and each takes a line."""

_OVER: Final = SubCallFailure("LimitExceeded", "the cell's time is over")
_ENDS: Final = SubCallFailure("SubCallError", "the run does not do what its journal says, and ends")
_NOT_ASKED: Final = SubCallFailure("SubCallError", "it was not asked before, and nothing is asked anew here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a cell asks.

    Attributes:
        place: Which cell.
        asked: What.
        prompt: Its text, and of `data` what it is about: both may hold the document's words.
    """

    place: Place
    asked: Asked
    prompt: str
    data: str | None


@dataclass(slots=True)
class _Asking:
    """What the cell that runs now has asked.

    Attributes:
        place: Which cell it is.
        record: What a journal says of it.
        missing: What is recorded and has not been asked again.
        asked: How often it asked what.
        news: Something was.
    """

    place: Place
    record: CellRecord
    missing: set[Asked]
    asked: Counter[str] = field(default_factory=Counter)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class RunMemory:
    """One run's.

    Args:
        tree: What it shares with the others.
        run: Its number.
        ledger: Its account.
        place: Says which cell runs now: the turn, and the cell in it.

    Attributes:
        root: Of its root's calls.
    """

    def __init__(self, tree: TreeMemory, run: int, ledger: Ledger, place: Callable[[], tuple[int, int]]) -> None:
        self._tree = tree
        self._journal = tree.journal
        self._run = run
        self._ledger = ledger
        self._place = place
        self._record = self._journal.record.run(run) if self._journal else RunRecord()
        self.root = RootMemory(tree, run, ledger, place, self._record)
        self._asking: _Asking | None = None
        self._answered: dict[Place, dict[Asked, Outcome]] = {}
        self._again: tuple[Mapping[Asked, Outcome], Counter[str]] | None = None
        self._refusals = 0

    def question(self, prompt: str, data: str | None = None, *, to: str = "") -> Question:
        """What the running cell asks now.

        Args:
            prompt: The question.
            data: What it is about.
            to: Who is named to answer it, or what for.
        """
        place = Place(*self._place())
        counter = self._again[1] if self._again else self._now(place).asked
        digest = prompt_digest(prompt, data, to)
        asked = Asked(digest, counter[digest])
        counter[digest] += 1
        return Question(place=place, asked=asked, prompt=prompt, data=data)

    def _now(self, place: Place) -> _Asking:
        if self._asking is None or self._asking.place != place:
            record = self._record.cells.get(place, CellRecord())
            missing = {asked for asked, call in record.calls.items() if not is_cancelled(call)}
            self._asking = _Asking(place, record, missing)
        return self._asking

    async def recall(self, question: Question) -> CellCall | None:
        """What came of it before; None where it is to be asked now. A child run that had not ended has no outcome."""
        if self._again:
            return CellCall(outcome=self._again[0].get(question.asked, _NOT_ASKED))
        if self._tree.diverged:
            return CellCall(outcome=_ENDS)
        cell = self._now(question.place)
        known = cell.record.calls.get(question.asked)
        cell.missing.discard(question.asked)
        cell.news.set()
        if known is None or is_cancelled(known):
            return await self._not_known(question, cell)
        return known if known.outcome is None else self._given_again(question, known, known.outcome)

    def _given_again(self, question: Question, known: CellCall, outcome: Outcome) -> CellCall:
        if known.child is not None and self._tree.asks_nobody:  # its own cells are compared, too
            return CellCall(outcome=None, child=known.child)
        self._charge(known)
        self._keep(question, outcome)
        return known

    def _charge(self, call: CellCall) -> None:
        if call.child is not None:
            self._tree.charge_tree(call.child, self._ledger)
        for permit in call.permits:
            self._tree.charge(permit, self._ledger, sub_call=True)

    async def _not_known(self, question: Question, cell: _Asking) -> CellCall | None:
        """In a cell that had not ended it is new, once all that the cell had asked is asked again."""
        status = cell.record.status
        if status in ("interrupted", "lost") or (status is not None and self._record.refused_more):
            return CellCall(outcome=_OVER)  # nor did it get an answer to this then
        if status is not None or not await self._all_asked_again(cell):
            self._not_recorded(question, cell)
        if self._tree.diverged:
            return CellCall(outcome=_ENDS)
        if self._tree.asks_nobody:
            return CellCall(outcome=_NOT_ASKED)
        self._tree.charge_lost()
        return None

    async def _all_asked_again(self, cell: _Asking) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_FOR_OTHERS_S):
                while cell.missing:
                    cell.news.clear()
                    await cell.news.wait()
        return not cell.missing

    def _not_recorded(self, question: Question, cell: _Asking) -> None:
        missing = (asked for asked in cell.record.calls if asked in cell.missing)
        expected = next((cell.record.prompts.get(asked.digest) for asked in missing), None)
        turn, number = question.place
        what = f"cell {number} of turn {turn} asks what is not in the journal"
        asked_now = shown_prompt(question.prompt, question.data)
        found = Divergence(run=self._run, turn=turn, cell=number, what=what)
        self._tree.differs(found, recorded=expected, asked=asked_now)

    def replied(
        self,
        question: Question,
        outcome: Outcome,
        *,
        permits: Sequence[int] = (),
        usage: TokenUsage | None = None,
        model: str = "",
        child: int | None = None,
    ) -> None:
        """A cell was answered for the first time, or refused. A cell can be refused without end, so few are kept."""
        if isinstance(outcome, SubCallFailure) and not permits and child is None:
            self._refusals += 1
            if self._refusals > MAX_REFUSALS_NOTED:
                if self._journal is not None and self._refusals == MAX_REFUSALS_NOTED + 1:
                    self._journal.note("refused_more", run=self._run)
                return
        self._keep(question, outcome)
        if self._journal is not None and self._tree.diverged is None:
            failure = (outcome.kind, outcome.message) if isinstance(outcome, SubCallFailure) else None
            self._journal.note(
                "call",
                run=self._run,
                **_where(question),
                reply=None if failure else outcome,
                failure=failure,
                permits=list(permits),
                usage=dataclasses.asdict(usage) if usage else None,
                model=model,
                child=child,
            )

    def _keep(self, question: Question, outcome: Outcome) -> None:
        if self._tree.runs_cells_again:
            self._answers(question.place)[question.asked] = outcome

    def _answers(self, place: Place) -> dict[Asked, Outcome]:
        return self._answered.setdefault(place, {})

    def answers_of_this_cell(self) -> Mapping[Asked, Outcome]:
        """What the cell that has just run was answered."""
        return self._answers(Place(*self._place()))

    def child_starts(self, question: Question, child: int) -> None:
        """A cell starts a child run."""
        if self._journal is not None:
            self._journal.note("child", run=self._run, **_where(question), child=child)

    def lost_cell(self) -> CellRecord | None:
        """What is recorded of the cell that is to run, where it cost its box: it is not run again, only paid for."""
        record = self._record.cells.get(Place(*self._place()))
        if record is None or record.status != "lost":
            return None
        for call in record.calls.values():
            self._charge(call)
        return record

    @contextlib.contextmanager
    def again(self, answers: Mapping[Asked, Outcome]) -> Iterator[None]:
        """While the body lasts, a cell of this life runs once more and is answered as before, by nobody else."""
        self._again = (answers, Counter())
        try:
            yield
        finally:
            self._again = None

    @property
    def is_again(self) -> bool:
        """Whether a cell runs once more: nothing of it is told again."""
        return self._again is not None

    def sends(self, permit: Permit, *, sub_call: bool, sent_bytes: int) -> int:
        """An attempt is sent, and what it may cost is on disk before it is. Returns its number."""
        return self._tree.sends(self._run, permit, sub_call=sub_call, sent_bytes=sent_bytes)

    def settled(self, number: int, permit: Permit) -> None:
        """What it cost is known."""
        self._tree.settled(number, permit)

    def check_end(self) -> None:
        """The run is over: all that is recorded of its root should have been said.

        Raises:
            Diverged: It was not.
        """
        self.root.check_end()


def _where(question: Question) -> dict[str, object]:
    (turn, cell), (digest, occurrence) = question.place, question.asked
    return {"turn": turn, "cell": cell, "digest": digest, "occurrence": occurrence}
