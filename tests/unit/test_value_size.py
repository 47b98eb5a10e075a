"""How many values a line of JSON has, judged without parsing it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import value_size
from sandbox.value_size import has_more_values

TEXTS = st.text(alphabet='ab,[{}]":\\\n\u00e9')
VALUES = st.recursive(TEXTS | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))


def count(value: Any) -> int:
    """Lists, objects, and commas between items."""
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(0, len(value) - 1) + sum(map(count, value.values() if isinstance(value, dict) else value))


@given(VALUES)
def test_values_are_counted_and_what_stands_in_texts_is_not(value: Any) -> None:
    raw, values = json.dumps(value).encode(), count(value)
    assert not has_more_values(raw, values)
    assert not values or has_more_values(raw, values - 1)


@pytest.mark.parametrize("raw", [b'",', b'"\\', b'[",[', b"", b'{"a":"', b'\\"[['])
def test_what_is_no_json_is_judged_too(raw: bytes) -> None:
    assert not has_more_values(raw, 5)
    has_more_values(raw, 0)


def test_texts_take_no_step_of_their_own() -> None:
    """Each took a turn of a Python loop: a line of 128 MiB took 18 seconds, to be no JSON in the end."""
    raw = b'["' + b"," * 11 + b'"' + b'""' * 100_000
    assert not has_more_values(raw, 10)
    assert len(value_size._VALUE.findall(raw)) <= 3
