"""How much a model can read at once: a dated table, and what a model or its user says.

A model that nobody knows is taken to read `DEFAULT_WINDOW_TOKENS`. Servers on one's own machine are often set to less,
whatever the model could: then say so (``RLM(root_window_tokens=...)``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from orchestrator.errors import ConfigError
from orchestrator.providers.base import Provider
from orchestrator.providers.prices import undated

TABLE_DATE: Final = "2026-11-24"
"""When `WINDOWS` was last compared with what the vendors publish."""

DEFAULT_WINDOW_TOKENS: Final = 128_000
LEAST_WINDOW_TOKENS: Final = 2_000
MOST_WINDOW_TOKENS: Final = 100_000_000

WINDOWS: Final[Mapping[str, int]] = MappingProxyType(
    {
        # Source: the vendors' model pages (developers.openai.com/api/docs/models, platform.claude.com/docs/en/models).
        "openai:gpt-6-astra": 1_050_000,
        "openai:gpt-6-sol": 1_050_000,
        "openai:gpt-6.1-terra": 1_050_000,
        "openai:gpt-6-luna": 1_050_000,
        "openai:gpt-5.5": 1_050_000,
        "openai:gpt-5.4": 1_050_000,
        "openai:gpt-5.4-mini": 400_000,
        "anthropic:claude-opus-5-5": 1_000_000,
        "anthropic:claude-sonnet-5-5": 1_000_000,
        "anthropic:claude-haiku-5-5": 1_000_000,
    }
)
"""Model name: tokens of prompt and reply together. A date at the end of a model's name is left out."""


def window_of(model: Provider, own: int | None = None) -> int:
    """Tokens of prompt and reply that a model can hold.

    Args:
        model: Its provider, which may say so itself, in an attribute ``context_window_tokens``.
        own: What the user says, which goes first; checked already.

    Raises:
        ConfigError: What the provider says is no such number.
    """
    if own is not None:
        return own
    said = getattr(model, "context_window_tokens", None)
    if said is not None:
        return _checked(said, f"{model.name}.context_window_tokens")
    return WINDOWS.get(model.name) or WINDOWS.get(undated(model.name)) or DEFAULT_WINDOW_TOKENS


def check_windows(root: Provider, own: int | None, *others: Provider) -> None:
    """Check what is said of windows before anything starts; ``own`` is what the user says of the root's.

    Raises:
        ConfigError: It is no such number; names the field, the value and the range.
    """
    if own is not None:
        _checked(own, "root_window_tokens")
    for model in (root, *others):
        window_of(model)


def _checked(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not LEAST_WINDOW_TOKENS <= value <= MOST_WINDOW_TOKENS:
        raise ConfigError(
            f"{where}: {value!r} is not an integer from {LEAST_WINDOW_TOKENS:,} to {MOST_WINDOW_TOKENS:,}"
        )
    return value
