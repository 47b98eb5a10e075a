"""What is counted of a text is what is in it, however it is cut."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import NotUtf8
from sandbox.text_index import TextCounts, TextIndex, Utf8Check

texts = st.text("ab\n\ré漢\U0001f600\ud800", max_size=60) | st.text(max_size=30)


def first_wrong(raw: bytes) -> int | None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def pieces(raw: bytes, size: int) -> list[bytes]:
    return [raw[start : start + size] for start in range(0, len(raw), size)]


@given(texts, st.integers(1, 9), st.integers(1, 4))
def test_an_index_says_what_stands_before_each_block(text: str, block: int, blocks_a_chunk: int) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    index = TextIndex(block)
    for chunk in pieces(raw, block * blocks_a_chunk):
        index.add(chunk)
    assert index.counts == TextCounts(chars=len(text), newlines=text.count("\n"))
    numbers = array("Q", index.to_bytes()).tolist()
    assert numbers[:4] == [block, len(raw), len(text), text.count("\n")]
    starts = range(0, len(raw), block)
    ends = [len(text[:char].encode("utf-8", "surrogatepass")) for char in range(len(text))]
    assert numbers[4:] == [
        *(sum(end < start for end in ends) for start in starts),
        *(raw[:start].count(b"\n") for start in starts),
    ]


@given(texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=20), st.integers(1, 9))
def test_what_is_not_utf8_is_found_where_python_finds_it(raw: bytes, size: int) -> None:
    check = Utf8Check(offset=100)

    def read() -> None:
        for chunk in pieces(raw, size):
            check.add(chunk)
        check.finish()

    wrong = first_wrong(raw)
    if wrong is None:
        read()
        return
    with pytest.raises(NotUtf8) as raised:
        read()
    assert (raised.value.offset, raised.value.byte) == (100 + wrong, raw[wrong])
