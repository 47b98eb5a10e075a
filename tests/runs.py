"""Runs with a scripted root in real boxes, and what its requests held."""

from __future__ import annotations

import time
from typing import Any

from orchestrator import RLM, RunResult, ScriptedProvider
from orchestrator.providers.base import LLMInterface, Provider
from sandbox.engine import LABEL, connect
from sandbox.owner import owner_label
from tests.events import Checked

CONTEXT = "alpha\nbravo\ncharlie\n" * 50


def code(text: str, *, then: str = "") -> str:
    """A reply with one cell, and prose behind it."""
    return f"I run this.\n\n```repl\n{text}\n```\n{then}"


def script(*replies: Any, **settings: Any) -> ScriptedProvider:
    """A model that plays these replies."""
    return ScriptedProvider(replies, **settings)


async def run(
    root: LLMInterface | Provider,
    *,
    context: Any = CONTEXT,
    question: str = "What is it?",
    sub: LLMInterface | Provider | None = None,
    **settings: Any,
) -> RunResult:
    """One run in a box of its own, all of whose events are as the schema says."""
    checked = Checked()
    try:
        return await RLM(root, sub, **settings).arun(question, context, listeners=[checked])
    finally:
        assert checked.faults == []


def shown(root: ScriptedProvider, request: int = -1) -> str:
    """What the root was told last, before it gave this reply."""
    return root.requests[request].messages[-1].content


def all_shown(root: ScriptedProvider) -> str:
    """All that any of its requests held."""
    return "\n".join(message.content for request in root.requests for message in request.messages)


def boxes_of(owner: str | None = None) -> list[str]:
    """IDs of the containers that a process (by default this one) owns, running or not."""
    client = connect()
    try:
        found = client.containers(all=True, filters={"label": f"{LABEL}={owner or owner_label()}"})
        return [box["Id"] for box in found]
    finally:
        client.close()


def boxes_left(owner: str | None = None) -> list[str]:
    """The same when the engine has done what it was told: it may still be busy with a removal. Waits up to 10 s."""
    until = time.monotonic() + 10
    while (left := boxes_of(owner)) and time.monotonic() < until:
        time.sleep(0.05)
    return left
