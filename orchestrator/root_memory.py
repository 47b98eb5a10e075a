"""What a run's root has replied, in this life and, from a journal, in those before. See `orchestrator.memory`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.errors import LimitExceeded, ProviderError, RecordOver
from orchestrator.providers.base import Message, ModelReply
from orchestrator.recorded import RootFailure, RunRecord
from orchestrator.result import Divergence

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.tree_memory import TreeMemory


class RootMemory:
    """The root's calls of one run, in their order.

    Args:
        tree: What it shares with the others.
        run: The run's number.
        ledger: Its account.
        place: Says which turn and cell it is at.
        record: What a journal says of it.
    """

    def __init__(
        self, tree: TreeMemory, run: int, ledger: Ledger, place: Callable[[], tuple[int, int]], record: RunRecord
    ) -> None:
        self._tree = tree
        self._run = run
        self._ledger = ledger
        self._place = place
        self._record = record
        self._conversation: list[Message] = []

    @property
    def sums_up(self) -> int | None:
        """How many turns the next call that is recorded sums up, 0 where it is no summary; None: none is recorded."""
        return self._record.roots[0].sums_up if self._record.roots else None

    def recall(self, model: str, messages: list[Message]) -> ModelReply | None:
        """The reply that is recorded for the root's next call; the conversation becomes the one that it answered.

        Raises:
            Diverged: The run does not do what is recorded.
            RecordOver: Nothing is recorded any more, and nobody is to be asked.
            LimitExceeded, ProviderError: The call failed then, and the run survived it.
        """
        self._tree.raise_diverged()
        if not self._record.roots:
            if self._tree.asks_nobody:
                raise RecordOver("the journal holds no further reply of the root")
            self._tree.charge_lost()
            return None
        recorded = self._record.roots.popleft()
        for permit in recorded.permits:
            self._tree.charge(permit, self._ledger, sub_call=False)
        if isinstance(recorded, RootFailure):
            raise recorded.error()
        sent = [*self._conversation[: recorded.kept], *recorded.messages]
        if recorded.model != model or len(sent) != len(messages):
            now, then = f"{len(messages)} messages to {model}", f"{len(sent)} to {recorded.model}"
            self._differs(f"the root is asked by {now}; recorded are {then}")
        self._conversation = sent
        messages[:] = sent
        return recorded.reply

    def failed(self, error: LimitExceeded | ProviderError, permits: Sequence[int], *, sums_up: int) -> None:
        """A call has failed. Where its run goes on nevertheless, it is to fail again."""
        if self._tree.journal is not None:
            too_long = isinstance(error, ProviderError) and error.too_long
            limit = error.limit if isinstance(error, LimitExceeded) else None
            facts = {"limit": limit, "too_long": too_long, "permits": list(permits), "sums_up": sums_up}
            self._tree.journal.note("root_failed", run=self._run, **facts)

    def replied(
        self, model: str, messages: list[Message], reply: ModelReply, permits: Sequence[int], *, sums_up: int
    ) -> None:
        """The root has replied for the first time."""
        if self._tree.journal is None:
            return
        kept = _common(self._conversation, messages)
        self._conversation = list(messages)
        self._tree.journal.note(
            "root_reply",
            run=self._run,
            model=model,
            kept=kept,
            messages=[[message.role, message.content] for message in messages[kept:]],
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=dataclasses.asdict(reply.usage),
            permits=list(permits),
            sums_up=sums_up,
        )

    def check_end(self) -> None:
        """The run is over: all that is recorded should have been said.

        Raises:
            Diverged: It was not.
        """
        if self._record.roots and self._tree.diverged is None:
            self._differs(f"the run ends, and the journal has {len(self._record.roots)} further replies of its root")
        self._tree.raise_diverged()

    def _differs(self, what: str) -> None:
        turn, cell = self._place()
        found = Divergence(run=self._run, turn=turn, cell=cell, what=what)
        self._tree.differs(found, recorded=None, asked=None)
        self._tree.raise_diverged()


def _common(before: Sequence[Message], now: Sequence[Message]) -> int:
    pairs = enumerate(zip(before, now, strict=False))
    return next((at for at, (old, new) in pairs if old != new), min(len(before), len(now)))
