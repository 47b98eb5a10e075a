"""What tests have found out, for the end of the session. It travels with its test's report, also out of a worker."""

from __future__ import annotations

from typing import Any

TOLD: dict[str, list[Any]] = {}
"""All that was told in this session, by section. Filled where the session is reported, not where a test runs."""

_SECTION = "told "
_by_this_test: list[tuple[str, Any]] = []


def tell(section: str, fact: Any) -> None:
    """Tell something, from inside a test.

    Args:
        section: Under which it stands in `TOLD`.
        fact: Numbers, texts, and lists, tuples and dicts of them: it is sent from one process to another.
    """
    _by_this_test.append((_SECTION + section, fact))


def taken() -> list[tuple[str, Any]]:
    """What was told since the last call, as properties of a test's report."""
    facts = _by_this_test.copy()
    _by_this_test.clear()
    return facts


def keep(properties: list[tuple[str, Any]]) -> None:
    """Fill `TOLD` from the properties of a report."""
    for name, fact in properties:
        if name.startswith(_SECTION):
            TOLD.setdefault(name.removeprefix(_SECTION), []).append(fact)
