"""Text of strangers, and how long a server asks to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.providers.failures import MAX_TEXT_CHARS, retry_after_s, safe_text


@given(st.text(alphabet=st.characters(), max_size=1000))
def test_any_text_becomes_printable_and_short(text: str) -> None:
    shown = safe_text(text)
    assert shown == "" or shown.isprintable()
    assert len(shown) <= MAX_TEXT_CHARS


@given(st.text(max_size=50), st.text(max_size=400), st.text(max_size=50))
def test_a_key_is_never_shown(before: str, between: str, after: str) -> None:
    key = "sk-0123456789"
    assert key not in safe_text(f"{before}{key}{between}{key}{after}", secrets=[key])


def test_plain_text_stays_as_it_is() -> None:
    assert safe_text("model `grüße` not found", secrets=["", "el"]) == "model `grüße` not found"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Sat, 99 Foo 2026 99:99:99 GMT"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_as_a_date() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    found = retry_after_s({"retry-after": format_datetime(at, usegmt=True)})
    assert found is not None
    assert 3500 < found <= 3600
