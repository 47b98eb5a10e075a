"""What events say of calls and conversations: facts without text, and the texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.providers.base import Message
from orchestrator.result import SubCall


def call_facts(call: SubCall) -> dict[str, Any]:
    """Of a sub-call: no text of it."""
    return {
        "call": call.number or None,
        "child_run": call.child.run if call.child else None,
        "model": call.model,
        "name": call.name,
        "cached": call.cached,
        "depth": call.depth,
        "error_kind": call.error_kind,
        "usage": call.usage.as_dict() if call.usage else None,
        "wall_s": round(call.wall_s, 6),
    }


def call_texts(call: SubCall) -> dict[str, str | None]:
    """What a sub-call said, and what came of it."""
    return {"prompt": call.prompt, "data": call.data, "reply": call.reply, "error": call.error}


def same_messages(before: Sequence[Message], now: Sequence[Message]) -> int:
    """How many messages at the start are the same in both."""
    pairs = enumerate(zip(before, now, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(before), len(now)))
