"""`chunk_text` covers the text; `estimate_tokens` is the method's rule of thumb."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.chunking import chunk_text, estimate_tokens
from orchestrator.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size", "overlap", "chunks"),
    [
        ("", 3, 0, []),
        ("abc", 3, 0, ["abc"]),
        ("abcd", 3, 0, ["abc", "d"]),
        ("abcdef", 3, 0, ["abc", "def"]),
        ("abcdef", 3, 1, ["abc", "cde", "ef"]),
        ("abcde", 3, 1, ["abc", "cde"]),
        ("abcd", 3, 2, ["abc", "bcd"]),
        ("ab", 5, 4, ["ab"]),
    ],
)
def test_chunks(text: str, size: int, overlap: int, chunks: list[str]) -> None:
    assert chunk_text(text, size, overlap) == chunks
    assert chunk_text(text=text, chunk_size=size, overlap=overlap) == chunks


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.text(max_size=200), st.integers(1, 50), st.data())
def test_chunks_cover_the_text_once(text: str, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    chunks = chunk_text(text, size, overlap)
    assert "".join([chunk if n == 0 else chunk[overlap:] for n, chunk in enumerate(chunks)]) == text
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(before[len(before) - overlap :] == after[:overlap] for before, after in pairwise(chunks))
    assert all(len(chunk) > overlap for chunk in chunks[1:]), "a chunk adds something new"


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (0, 0, "chunk_size: 0 "),
        (-5, 0, "chunk_size: -5 "),
        (1.5, 0, "chunk_size: 1.5 "),
        (True, 0, "chunk_size: True "),
        (5, 5, r"overlap: 5 is not an integer from 0 to 4 \(chunk_size - 1\)"),
        (5, -1, "overlap: -1 "),
        (5, None, "overlap: None "),
    ],
)
def test_sizes_out_of_range_are_named(size: object, overlap: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        chunk_text("abc", size, overlap)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("x" * 4_000, 1_000)])
def test_estimate(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens
