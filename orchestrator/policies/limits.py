"""Policies that bound what is sent: to which models, how much at once, how much in all."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

from orchestrator.errors import ConfigError
from orchestrator.limits import MIB
from orchestrator.policies.base import Allow, Decision, OutgoingRequest, Policy, Refuse

DEFAULT_TIMES: Final = 3.0
"""One reading of the document by sub-calls, a second one with overlaps, and the root's conversation and retries."""
DEFAULT_FLOOR_BYTES: Final = 4 * MIB
"""Each turn sends the root's conversation again: 30 turns that each add 8,000 bytes send 4 MB about no document."""


class ModelAllowList(Policy):
    """Only these models are called.

    Example:
        >>> ModelAllowList({0: ["openai:gpt-5.5"], 1: ["openai:gpt-5.4-mini"]}).name
        'ModelAllowList'

    Args:
        models: Names as providers have them (``openai:gpt-5.5``), for all depths; or a mapping of depth to names, where
            a depth that is not named allows none.

    Raises:
        ConfigError: It is no list of names, or no mapping of such.
    """

    def __init__(self, models: Collection[str] | Mapping[int, Collection[str]]) -> None:
        by_depth = models if isinstance(models, Mapping) else {None: models}
        for depth, names in by_depth.items():
            where = "models" if depth is None else f"models[{depth!r}]"
            if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
                raise ConfigError(f"ModelAllowList.{where}: {names!r:.80} is no list of models' names")
            if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
                raise ConfigError(f"ModelAllowList.models: {depth!r:.80} is no depth, which is an integer from 0")
        self._by_depth = {depth: frozenset(names) for depth, names in by_depth.items()}

    def on_request(self, request: OutgoingRequest) -> Decision:
        """Refuse a model that is not listed."""
        depth = None if None in self._by_depth else request.depth
        if request.model in self._by_depth.get(depth, ()):
            return Allow()
        return Refuse(f"the model {request.model!r} is not allowed at depth {request.depth}")


class MaxPrompt(Policy):
    """No single request is larger.

    Example:
        >>> MaxPrompt(100_000).name
        'MaxPrompt'

    Args:
        max_bytes: UTF-8 bytes of all messages of one request, the system's included, 1 and more. The root's requests
            hold all turns so far and grow; ``Limits.max_prompt_bytes`` bounds a sub-call's prompt and data alone.

    Raises:
        ConfigError: It is no integer from 1.
    """

    def __init__(self, max_bytes: int) -> None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise ConfigError(f"MaxPrompt.max_bytes: {max_bytes!r} is not an integer from 1")
        self._max_bytes = max_bytes

    def on_request(self, request: OutgoingRequest) -> Decision:
        """Refuse a request that is larger."""
        if request.size_bytes <= self._max_bytes:
            return Allow()
        return Refuse(f"a request of {request.size_bytes:,} bytes; at most {self._max_bytes:,} are allowed")


class EgressLimit(Policy):
    """A run sends its providers no more than so many times the document's size.

    It counts the text of every request of the run and its whole recursion tree: the root's conversation, which each
    turn sends again, sub-calls, and each retry, whether or not it arrived. It bounds how much can leave, not what it
    says.

    Example:
        >>> EgressLimit(times=1.5, floor_bytes=0).name
        'EgressLimit'

    Args:
        times: Multiple of the document's UTF-8 bytes (of a list or dict: of its JSON), above 0.
        floor_bytes: What may be sent however small the document is, 0 and more.

    Raises:
        ConfigError: A value is out of its range.
    """

    def __init__(self, times: float = DEFAULT_TIMES, *, floor_bytes: int = DEFAULT_FLOOR_BYTES) -> None:
        if isinstance(times, bool) or not isinstance(times, int | float) or not 0 < times < math.inf:
            raise ConfigError(f"EgressLimit.times: {times!r} is not a number above 0")
        if isinstance(floor_bytes, bool) or not isinstance(floor_bytes, int) or floor_bytes < 0:
            raise ConfigError(f"EgressLimit.floor_bytes: {floor_bytes!r} is not an integer from 0")
        self._times = times
        self._floor_bytes = floor_bytes

    def summary(self, document_bytes: int) -> str:
        """The limit in bytes, and which of the two numbers it is."""
        times = f"{self._times:,g} x {document_bytes:,} bytes"
        by = times if self._most(document_bytes) > self._floor_bytes else f"the floor; {times} is no more"
        return f"{self.name} of {self._most(document_bytes):,} bytes ({by})"

    def _most(self, document_bytes: int) -> int:
        return max(self._floor_bytes, int(self._times * document_bytes))

    def on_request(self, request: OutgoingRequest) -> Decision:
        """Refuse what would exceed the limit."""
        most = self._most(request.document_bytes)
        if request.sent_bytes + request.size_bytes <= most:
            return Allow()
        return Refuse(
            f"{request.sent_bytes:,} of {most:,} bytes have been sent to providers; this request has "
            f"{request.size_bytes:,} more"
        )
