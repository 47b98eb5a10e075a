"""How a model is asked, as the vendors' interfaces take it: each setting checked, with its name, value and range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from orchestrator.errors import ConfigError

_MOST_OUTPUT_TOKENS: Final = 10_000_000


def checked_max_tokens(owner: object, value: object) -> int:
    """Most output tokens of one reply.

    Raises:
        ConfigError: It is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_OUTPUT_TOKENS:
        raise ConfigError(
            f"{type(owner).__name__}.max_tokens: {value!r} is not an integer from 1 to {_MOST_OUTPUT_TOKENS:,}"
        )
    return value


def checked_sampling(owner: object, given: Mapping[str, object]) -> dict[str, Any]:
    """Sampling arguments by their names, those that are None left out.

    Raises:
        ConfigError: One is out of its range.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        fits, what = _SAMPLING[name]
        if not fits(value):
            raise ConfigError(f"{type(owner).__name__}.{name}: {value!r:.80} is not {what}, or None")
        found[name] = float(value) if name == "temperature" and isinstance(value, int) else value
    return found


def _is_temperature(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier() and len(value) <= 32


_SAMPLING: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "temperature": (_is_temperature, "a number from 0 to 2"),
    "top_p": (_is_share, "a number above 0, up to 1"),
    "seed": (_is_seed, "an integer of 64 bits"),
    "reasoning_effort": (_is_word, "a word"),
}
