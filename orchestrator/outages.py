"""Which models are out: what did not serve is left alone for a while, so that not every call waits out its retries."""

from __future__ import annotations

import time
from typing import Final

from orchestrator.providers.base import Provider

PAUSE_S: Final = 30.0
"""Seconds for which a model that was out is not asked where another one can be."""


class Outages:
    """The outages that one recursion tree has seen.

    Args:
        pause_s: Seconds for which a model is left alone.
    """

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._until: dict[int, float] = {}

    def up(self, models: tuple[Provider, ...]) -> tuple[Provider, ...]:
        """Those of the models that are not out, in their order; all of them where all are."""
        now = time.monotonic()
        return tuple(model for model in models if self._until.get(id(model), 0.0) <= now) or models

    def asks(self, model: Provider) -> None:
        """A model is asked now. Where its pause is just over, it is by this call alone, until that has ended."""
        if id(model) in self._until:
            self.failed(model)

    def failed(self, model: Provider) -> None:
        """It did not serve."""
        self._until[id(model)] = time.monotonic() + self._pause_s

    def answered(self, model: Provider) -> None:
        """It is there."""
        self._until.pop(id(model), None)
