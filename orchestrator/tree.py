"""What all runs of one recursion tree share: policies, calls in flight, boxes, room in the store."""

from __future__ import annotations

import asyncio
import itertools

from orchestrator.boxes import Boxes
from orchestrator.journal import Journal
from orchestrator.ledger import Ledger
from orchestrator.memory import RunMemory
from orchestrator.outages import Outages
from orchestrator.policies.chain import PolicyChain
from orchestrator.recorder import Recorder
from orchestrator.reply_cache import TreeCache
from orchestrator.result import Document, PolicyDecision
from orchestrator.settings import RunSettings
from orchestrator.tool_calls import Toolbox
from orchestrator.tree_memory import TreeMemory
from sandbox.uploads import StoreQuota


class Tree:
    """What all runs of one recursion tree share.

    Args:
        settings: Models, limits and policies.
        documents: The first run's.
        recorder: The first run's.
    """

    def __init__(self, settings: RunSettings, documents: tuple[Document, ...], recorder: Recorder) -> None:
        limits = settings.limits
        self.recorder = recorder
        """Told what the policies decide: the first run's, or that of the session's run that works now."""
        self.policies = PolicyChain(
            settings.policies,
            record=self._decided,
            document_bytes=sum(document.size_bytes for document in documents),
        )
        self.slots = asyncio.Semaphore(limits.max_concurrency)
        self.outages = Outages()
        self.cache = TreeCache(settings.cache, max_reply_bytes=limits.max_reply_bytes) if settings.cache else None
        self.boxes = Boxes(max_boxes=limits.max_boxes, max_live_boxes=limits.max_live_boxes)
        self.quota = StoreQuota(limits.max_store_bytes)
        self.tools = Toolbox(settings.tools)
        self.isolation: str | None = None
        """The least level that a box of the tree had."""
        self._runs = itertools.count(1)
        self._runs_cells_again = settings.on_kill == "replay"
        self.memory: TreeMemory | None = None

    def _decided(self, decision: PolicyDecision) -> None:
        self.recorder.policy(decision)

    def remember(self, journal: Journal | None, ledger: Ledger) -> None:
        """Let the runs of this tree remember what they were answered, where they will need it.

        Args:
            journal: Where that is kept, and what earlier lives of the first run left; None: nowhere.
            ledger: The first run's.
        """
        again = self._runs_cells_again
        if journal is None and not again:
            return
        self.memory = TreeMemory(journal, ledger, runs_cells_again=again)
        if journal is not None:
            self._runs = itertools.count(max(journal.record.runs, default=0) + 1)
            self.recorder.goes_on(journal.record.wall_s)
            for decision in journal.record.policies:
                self.recorder.policy_again(decision)

    def memory_of(self, recorder: Recorder, ledger: Ledger) -> RunMemory | None:
        """What one run of it remembers; None where nothing need be."""
        if self.memory is None:
            return None
        return RunMemory(self.memory, recorder.run, ledger, lambda: recorder.place)

    def next_run(self) -> int:
        """Number of the next child run, from 1."""
        return next(self._runs)
