"""What the start of a run says of its settings: the facts of the event ``run_start``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from orchestrator.limits import Limits
from orchestrator.models import model_facts
from orchestrator.providers.base import Provider
from orchestrator.providers.prices import Price, price_of
from orchestrator.result import Document, json_values
from orchestrator.settings import RunSettings


def start_facts(
    settings: RunSettings, *, context_info: str, documents: Sequence[Document], policy_summaries: Sequence[str]
) -> dict[str, Any]:
    """Models, limits, policies, prices and documents of a run, by size and digest; no text of a document.

    Args:
        settings: The run's.
        context_info: What the root is told of the context.
        documents: What is in it.
        policy_summaries: What each policy says of itself.
    """
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "root": settings.root.name,
        "sub": settings.sub.name if settings.sub else None,
        "models": model_facts(settings.root, settings.sub, settings.sub_llms, settings.fallback),
        "prompt_mode": settings.prompt_mode,
        "observe": settings.observe,
        "isolation": settings.spec.isolation,
        "context": context_info,
        "documents": [
            {"kind": document.kind, "size_bytes": document.size_bytes, "sha256": document.sha256}
            for document in documents
        ],
        "policies": [policy.name for policy in settings.policies],
        "policy_summaries": list(policy_summaries),
        "tools": [tool.name for tool in settings.tools],
        "limits": {
            field.name: _json_number(getattr(settings.limits, field.name)) for field in dataclasses.fields(Limits)
        },
        "prices": {model.name: _price_facts(model, settings.prices) for model in settings.models},
    }


def _json_number(value: float | Decimal) -> float | str:
    if value == float("inf"):
        return "unlimited"
    return float(value) if isinstance(value, Decimal) else value


def _price_facts(model: Provider, own: Mapping[str, Price]) -> dict[str, Any] | None:
    price = price_of(model.name, own)
    facts: dict[str, Any] | None = json_values(price)
    return facts
