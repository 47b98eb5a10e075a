"""A lazy text says what a str of the same text says."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.chunking import chunk_text
from tests.kernel.lazy_texts import CHARACTERS, bounds, lazy, result, sizes, small_windows, texts

STEPS = st.none() | st.integers(-9, 9)


@pytest.fixture(autouse=True, scope="module")
def windows() -> Iterator[None]:
    with small_windows(window_bytes=7, step_chars=5):
        yield


@given(texts, sizes, bounds, bounds, STEPS)
def test_its_characters_are_those_of_a_str(
    text: str, block: int, start: int | None, end: int | None, step: int | None
) -> None:
    got = lazy(text, block)
    assert len(got) == len(text)
    assert str(got) == text
    assert [got[at] for at in range(-len(text), len(text))] == [*text, *text]
    assert result(lambda: got[start:end:step]) == result(lambda: text[start:end:step])
    assert result(lambda: got[len(text)]) is result(lambda: got[-len(text) - 1]) is IndexError
    assert bool(got) is bool(text)


@given(texts, sizes, st.text("ab\n漢é", max_size=3) | st.text(CHARACTERS, max_size=3), bounds, bounds)
@example("aaaaaaaaaaaaaaaaa", 2, "aa", 1, None)
@example("b" + "a" * 15, 2, "aa", 0, None)
@example("abababababababababababa", 2, "abab", 0, None)
@example("", 1, "", 0, 0)
@example("abc", 1, "", 4, None)
def test_what_is_found_in_it_is_found_in_a_str(
    text: str, block: int, sub: str, start: int | None, end: int | None
) -> None:
    got = lazy(text, block)
    for name in ("find", "rfind", "index", "rindex", "count", "startswith", "endswith"):
        ours, theirs = (partial(getattr(one, name), sub, start, end) for one in (got, text))
        assert result(ours) == result(theirs), name
    assert (sub in got) is (sub in text)
    several = (sub, "b")
    assert got.startswith(several) is text.startswith(several)
    assert got.endswith(several) is text.endswith(several)


@pytest.mark.parametrize("sub", ["漢é", "aba", "aa", "\n"])
def test_a_place_is_found_wherever_windows_are_cut(sub: str) -> None:
    for before in range(30):
        text = "-" * before + sub + "-" * (30 - before)
        got = lazy(text, 3)
        assert (got.find(sub), got.rfind(sub), got.count(sub)) == (before, before, 1)


@given(texts, sizes, bounds, bounds, st.none() | st.integers(1, 3))
def test_its_lines_are_those_of_a_file(
    text: str, block: int, start: int | None, end: int | None, step: int | None
) -> None:
    got = lazy(text, block)
    lines = [line.removesuffix("\n") for line in io.StringIO(text, newline="\n")]
    assert list(got) == list(got.lines()) == list(got.splitlines()) == lines
    assert len(got.lines()) == len(lines)
    assert [got.lines()[number] for number in range(-len(lines), len(lines))] == lines * 2
    assert got.lines()[start:end:step] == lines[start:end:step]
    places = range(len(text) + 1)
    assert [got.line_number(at) for at in places] == [text[:at].count("\n") for at in places]


@given(texts, sizes, st.integers(1, 9), st.integers(0, 8))
def test_its_chunks_cover_it(text: str, block: int, size: int, overlap: int) -> None:
    got = result(lambda: list(lazy(text, block).chunks(size, overlap)))
    assert got == (ValueError if overlap >= size else chunk_text(text, size, overlap))


def test_what_it_can_not_do_is_said() -> None:
    got: Any = lazy("Some text\nin lines", 4)
    assert repr(got) == "<LazyText of 18 characters in 2 lines; slices of it are str>"
    with pytest.raises(AttributeError, match=r"no \.upper\(\); a slice is one: context\[i:j\]\.upper\(\)"):
        got.upper()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        got.nothing()
    for call in (lambda: got.find(b"x"), lambda: 5 in got, lambda: got.startswith(5), lambda: got["x"]):
        with pytest.raises(TypeError):
            call()


def test_a_str_that_does_not_fit_the_box_is_refused_before_it_is_made() -> None:
    box = (96 << 20) + 10_000
    ascii_only, mixed = lazy("a" * 20_000, 64, box), lazy("é" * 20_000, 64, box)
    assert len(ascii_only[:10_000]) == 10_000
    assert len(mixed[:2_500]) == 2_500
    for call in (
        lambda: str(ascii_only),
        lambda: ascii_only[:10_001],
        lambda: mixed[:2_501],
        lambda: list(mixed),
        lambda: next(mixed.chunks(5_000)),
    ):
        with pytest.raises(MemoryError, match=r"a str of [\d,]+ characters can take .* take smaller slices"):
            call()
