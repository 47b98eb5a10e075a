"""What a provider says of how it asks its model: sampling, seed, the longest reply, the server."""

from __future__ import annotations

import json
from typing import Any, Final

from orchestrator.errors import ConfigError
from orchestrator.providers.base import Provider

MAX_PARAMETERS_CHARS: Final = 16_384
"""Of their JSON."""


def parameters_of(model: Provider) -> dict[str, Any]:
    """What a provider has as its ``parameters``: a dict of JSON values, none of them a secret; {} where it has none.

    They stand in the trace, and a cached reply is given for the same ones alone.

    Raises:
        ConfigError: They are no such dict, or more than `MAX_PARAMETERS_CHARS`.
    """
    found = getattr(model, "parameters", {})
    try:
        if isinstance(found, dict) and len(raw := json.dumps(found, allow_nan=False)) <= MAX_PARAMETERS_CHARS:
            plain: dict[str, Any] = json.loads(raw)
            return plain
    except (TypeError, ValueError, RecursionError):
        pass
    raise ConfigError(f"{model.name}: parameters: no dict of JSON values, {MAX_PARAMETERS_CHARS:,} characters at most")
