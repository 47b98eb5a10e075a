"""One call of a model, on its way through the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.policies.base import Role
from orchestrator.providers.base import Message, Provider


@dataclass(slots=True)
class Call:
    """One call of a model.

    Attributes:
        models: Who may answer, in the order in which they are asked: the one that was meant, then the fallbacks.
        role: Whose call it is.
        depth: Of the model.
        messages: What policies left of its messages.
        nonce: What the host drew for it, which stands in the messages and means nothing.
        model: Who was asked last.
        sent: Whether an attempt was made.
        begins: Called when the first one is made.
        cached: Whether the reply is an earlier call's.
        permits: Numbers of its attempts in the run's memory.
    """

    models: tuple[Provider, ...]
    role: Role
    depth: int
    messages: list[Message]
    nonce: str
    model: Provider
    sent: bool = False
    cached: bool = False
    begins: Callable[[], None] = lambda: None
    permits: list[int] = field(default_factory=list)
