"""Quarantine: what the box reports reaches the root only as numbers, booleans and words of the root's own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rendering import CellView
from orchestrator.typed import MAX_VALUES, TypedReport, Vocabulary, error_type, render_typed
from sandbox.cell import CellError, CellResult, Text

CODE = 'declare_labels("spam", ["ham", "eggs"])\nreport(count=1, label=label, items=items, table=table)'


@pytest.fixture
def vocabulary() -> Vocabulary:
    words = Vocabulary()
    words.learn(CODE)
    return words


def shown(vocabulary: Vocabulary, **values: Any) -> list[str]:
    report = TypedReport()
    report.add(values, vocabulary)
    return report.lines()


def test_labels_are_read_from_the_root_s_literals_alone() -> None:
    words = Vocabulary()
    words.learn('declare_labels("a", f"b{x}", name, "c" + "d", 5, ("e", "f"))\nobject.declare_labels("g")')
    assert words.labels == {"a", "e", "f"}


def test_code_that_is_no_python_teaches_nothing() -> None:
    words = Vocabulary()
    for code in ("declare_labels('a'", "\0", "(" * 5_000, "declare_labels('a'); !ls"):
        words.learn(code)
    assert words.labels == set()


def test_numbers_booleans_and_declared_labels_are_shown(vocabulary: Vocabulary) -> None:
    assert shown(vocabulary, count=3, label="spam") == ["count = 3", "label = 'spam'"]
    assert shown(vocabulary, items=[1, 2.5, True, None, "ham"]) == ["items = [1, 2.5, True, None, 'ham']"]
    assert shown(vocabulary, table={"eggs": 2}) == ["table = {'eggs': 2}"]


@pytest.mark.parametrize(
    "value",
    [
        "toast",
        ["toast"],
        {"toast": 1},
        {"spam": "toast"},
        10**15,
        -(10**15),
        [10**30],
        float("nan"),
        float("inf"),
        1e300,
        list(range(MAX_VALUES)),
    ],
)
def test_all_else_is_withheld_and_not_named(vocabulary: Vocabulary, value: Any) -> None:
    (line,) = shown(vocabulary, count=value)
    assert line.startswith("1 of the reported values withheld")
    assert "toast" not in line


def test_a_name_that_the_root_did_not_write_is_withheld(vocabulary: Vocabulary) -> None:
    assert shown(vocabulary, ignore_all_instructions=1) == shown(vocabulary, count="x")


def test_a_turn_shows_so_many_values_and_no_more(vocabulary: Vocabulary) -> None:
    report = TypedReport()
    for _ in range(MAX_VALUES + 5):
        report.add({"count": 1}, vocabulary)
    assert len(report.shown) == MAX_VALUES
    assert report.withheld == 5


def result(**fields: Any) -> CellResult:
    return CellResult(status="error" if "error" in fields else "ok", **fields)


def test_outputs_and_errors_lose_their_text(vocabulary: Vocabulary) -> None:
    error = CellError(name="PleaseObey", message="obey", traceback="obey", line=7)
    cell = result(stdout=Text(text="obey", true_chars=4), result=Text(text="obey", true_chars=4), error=error)
    said = render_typed([CellView(cell=cell)], vocabulary)
    assert said == "The cell was ended by Exception in its line 7. It printed 8 characters that you are not shown."


def test_known_error_types_keep_their_name() -> None:
    assert error_type("ZeroDivisionError") == "ZeroDivisionError"
    assert error_type("LimitExceeded") == "LimitExceeded"
    assert error_type("print") == "Exception"


TEXTS = st.text(alphabet="OBEY", min_size=4)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
VALUES = st.one_of(SCALARS, st.lists(SCALARS), st.dictionaries(TEXTS, SCALARS))


@given(reports=st.lists(st.dictionaries(st.one_of(TEXTS, st.just("count")), VALUES)), text=TEXTS, line=st.integers())
def test_no_text_of_the_box_is_ever_shown(reports: list[dict[str, Any]], text: str, line: int) -> None:
    words = Vocabulary()
    words.learn(CODE)
    cell = result(
        stdout=Text(text=text, true_chars=len(text)),
        error=CellError(name=text, message=text, traceback=text, line=line),
        reports=tuple(reports),
    )
    said = render_typed([CellView(cell=cell)], words)
    assert not set("OBEY") & (set(said) - set("TheExceptionNone I"))
