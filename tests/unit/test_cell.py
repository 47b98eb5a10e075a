"""What is kept of a cell's output."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.cell import Capture, Text


@settings(derandomize=True, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=20), st.integers(1, 40))
def test_head_and_tail_of_everything_whatever_its_pieces(pieces: list[str], chars: int) -> None:
    capture = Capture(chars)
    for piece in pieces:
        capture.add(piece)
    whole = "".join(pieces)
    kept = capture.text(0)
    assert kept.true_chars == len(whole)
    assert kept.text == (whole if len(whole) <= 2 * chars else whole[:chars] + whole[-chars:])


def test_what_it_holds_is_bounded_however_much_comes() -> None:
    capture = Capture(100)
    for piece in ["x" * 1_000_000] * 5 + ["y"] * 100_000:
        capture.add(piece)
        assert sum(map(len, capture._head)) + sum(map(len, capture._tail)) <= 300
    assert len(capture._tail) <= 101
    assert capture.text(0).true_chars == 5_100_000


def test_the_boxs_count_stands_unless_more_was_seen() -> None:
    capture = Capture(10)
    capture.add("seen")
    assert capture.text(1000) == Text(text="seen", true_chars=1000)
    assert capture.text(-5) == Text(text="seen", true_chars=4)
    assert not Text()
    assert Text(text="x", true_chars=1)
