"""What all runs of one recursion tree share: policies, calls in flight, boxes, room in the store."""

from __future__ import annotations

import asyncio
import itertools

from orchestrator.boxes import Boxes
from orchestrator.policies.chain import PolicyChain
from orchestrator.recorder import Recorder
from orchestrator.result import Document
from orchestrator.settings import RunSettings
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
        self.policies = PolicyChain(
            settings.policies,
            record=recorder.policy,
            document_bytes=sum(document.size_bytes for document in documents),
        )
        self.slots = asyncio.Semaphore(limits.max_concurrency)
        self.boxes = Boxes(max_boxes=limits.max_boxes, max_live_boxes=limits.max_live_boxes)
        self.quota = StoreQuota(limits.max_store_bytes)
        self.isolation: str | None = None
        """The least level that a box of the tree had."""
        self._runs = itertools.count(1)

    def next_run(self) -> int:
        """Number of the next child run, from 1."""
        return next(self._runs)
