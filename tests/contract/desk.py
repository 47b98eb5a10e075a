"""A gate with its account, for one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.providers.base import Provider
from orchestrator.recorder import Recorder
from sandbox.messages import Asked, SubCallFailure


@dataclass
class Desk:
    """One run's gate: `root` and `sub` are the same model."""

    gate: Gate
    ledger: Ledger

    @classmethod
    def of(cls, llm: Provider, **limits: Any) -> Desk:
        most = Limits(**limits)
        ledger = Ledger(most)
        return cls(Gate(root=llm, sub=llm, limits=most, ledger=ledger, recorder=Recorder()), ledger)

    async def ask(self, prompt: str) -> str | SubCallFailure:
        """A cell's `llm_query`."""
        return await self.gate.handle(Asked(prompt))
