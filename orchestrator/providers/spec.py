"""Models by name, as the command line writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import ConfigError
from orchestrator.providers.anthropic import AnthropicInterface
from orchestrator.providers.openai import OpenAIInterface
from orchestrator.providers.scripted import load_scripted

if TYPE_CHECKING:
    from orchestrator.providers.base import Provider


def provider_from_spec(spec: str, *, base_url: str | None = None, api_key: str | None = None) -> Provider:
    """Make the model that ``openai:NAME``, ``anthropic:NAME`` or ``scripted:FILE.py`` stands for.

    Args:
        spec: Vendor and name. A file behind ``scripted:`` is executed on the host; see `load_scripted`.
        base_url: Address of a compatible server; a script has none and ignores it.
        api_key: Key; else the vendor's environment variable.

    Raises:
        ConfigError: The vendor is unknown, the name is missing, or the model's own settings are wrong.
    """
    vendor, colon, name = spec.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"{spec!r} names no model: write openai:NAME, anthropic:NAME or scripted:FILE.py")
    if vendor == "openai":
        return OpenAIInterface(name, base_url=base_url, api_key=api_key)
    if vendor == "anthropic":
        return AnthropicInterface(name, base_url=base_url, api_key=api_key)
    if vendor == "scripted":
        return load_scripted(name)
    raise ConfigError(f"{spec!r}: the vendor {vendor!r} is unknown; known are openai, anthropic and scripted")
