r"""Regular expressions over a lazy text find what `re` finds in a str: each match once, at its place.

Windows here are a few characters wide. All patterns have matches of at most `MOST` characters and look at most
`AROUND` around them, as the promise says; what is beyond raises or is said to differ.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kernel.lazy_texts import CHARACTERS, lazy, sizes, small_windows

MOST, AROUND = 8, 3
PATTERNS = [
    r"a",
    r"\w{1,8}?\b",
    r"\b\w",
    r"\B.",
    r"(?<=a)b|(?<!b)a",
    r"(?<=\n)[^\n]?|(?=b)",
    r"^",
    r"$",
    r"(?m)^",
    r"(?m)$",
    r"(?m)^.{0,6}$",
    r"\A.|.\Z",
    r"a*?",
    r"a{0,3}",
    r"(?s).{3}",
    r"(?s).{0,8}",
    r"(?s)b.{7}(?=.{3})",
    r"(?s)(?<=..)(?<!b..).{0,8}(?!.b.)",
    r"(?i)[ıß\u0130ж]",
    r"(?i:ß|i)\s*?\b",
    r"(?a)\w",
    r"(?P<one>a)|(b)(\n)?",
    r"(\s)\1?",
    r"",
    r"\r?\n",
    r"[\ud800\U0001f600]+?",
    r"(?=(\w{1,3}))",
]
FLAGS = [0, re.IGNORECASE, re.MULTILINE, re.DOTALL, re.IGNORECASE | re.MULTILINE | re.DOTALL]
texts = st.one_of(st.text(CHARACTERS, max_size=80), st.text("ab\n", max_size=80), st.text("a", max_size=40))


@pytest.fixture(autouse=True, scope="module")
def windows() -> Iterator[None]:
    with small_windows(window_bytes=7, around_chars=AROUND, scan_chars=5):
        yield


def facts(match: Any) -> Any:
    """All that a match says."""
    if match is None:
        return None
    numbers = range(match.re.groups + 1)
    return (
        [match.span(number) for number in numbers],
        [match[number] for number in numbers],
        match.group(0, 0),
        match.groups("-"),
        match.groupdict(),
        (match.start(), match.end(), match.group(), match.lastindex, match.lastgroup),
    )


@given(texts, sizes, st.sampled_from(PATTERNS), st.sampled_from(FLAGS), st.integers(-2, 30), st.integers(0, 80))
@example("aaaaaaaaaaaaaaaaaaaaaaaa", 1, r"(?s).{0,8}", 0, 0, 80)
@example("a\n" * 20, 3, r"(?m)^", 0, 1, 80)
@example("aaaaa", 1, r"$", 0, 0, 80)
@example("----b" + "-" * 30, 1, r"(?s)b.{7}(?=.{3})", 0, 0, 80)
def test_it_finds_what_re_finds(text: str, block: int, pattern: str, flags: int, start: int, end: int) -> None:
    compiled, got = re.compile(pattern, flags), lazy(text, block)
    expected = [facts(match) for match in compiled.finditer(text, start, end)]
    assert [facts(match) for match in got.finditer(pattern, start, end, flags=flags, max_chars=MOST)] == expected
    assert facts(got.search(compiled, start, end, max_chars=MOST)) == facts(compiled.search(text, start, end))
    assert got.findall(compiled, start, end, max_chars=MOST) == compiled.findall(text, start, end)
    assert [facts(match) for match in got.finditer(compiled, max_chars=MOST)] == [
        facts(match) for match in compiled.finditer(text)
    ]


@given(st.text("ab ", max_size=60), sizes, st.integers(1, 12))
def test_a_longer_match_is_never_shown_cut(text: str, block: int, most: int) -> None:
    """Greedy runs: those that fit come as they are, up to the first that does not, which raises."""
    from lazy_search import MatchTooLong

    runs = list(re.finditer(r"a+", text))
    fitting = list(itertools.takewhile(lambda run: len(run[0]) <= most, runs))
    found = lazy(text, block).finditer(r"a+", max_chars=most)
    assert [next(found).span() for _ in fitting] == [run.span() for run in fitting]
    if len(fitting) == len(runs):
        assert next(found, None) is None
    else:
        with pytest.raises(
            MatchTooLong, match=f"a match at {runs[len(fitting)].start()} is longer than max_chars={most}:"
        ):
            next(found)


def test_what_it_can_not_do_is_said() -> None:
    got = lazy("some text", 4)
    for call in (
        lambda: got.finditer(re.compile(rb"a")),
        lambda: got.finditer(b"a"),
        lambda: re.search("a", got),  # type: ignore[call-overload]
    ):
        with pytest.raises(TypeError):
            call()
    for call in (lambda: got.search("a", max_chars=0), lambda: got.search(re.compile("a"), flags=re.IGNORECASE)):
        with pytest.raises(ValueError, match=r"max_chars|flags"):
            call()
    match: Any = got.search("(?P<word>t)ext")
    assert repr(match) == "<Match object; span=(5, 9), match='text'>"
    for group in (2, -1, "none"):
        with pytest.raises(IndexError, match="no such group"):
            match.group(group)
