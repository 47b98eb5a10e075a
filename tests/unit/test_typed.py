"""Quarantine: what the box reports reaches the root only as numbers, booleans and words of the root's own."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.prompts import RLM_TYPED_PROMPT, prompt_for
from orchestrator.rendering import CellView
from orchestrator.typed import (
    MAX_DIGITS,
    MAX_LABEL_CHARS,
    MAX_VALUES,
    NO_LABEL,
    UNREAD,
    TypedReport,
    Vocabulary,
    error_type,
    render_typed,
)
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
    said = render_typed([CellView(cell=cell, lines=9)], vocabulary)
    assert said == "The cell was ended by Exception in its line 7. You are not shown what it printed."


def test_known_error_types_keep_their_name() -> None:
    assert error_type("ZeroDivisionError") == "ZeroDivisionError"
    assert error_type("LimitExceeded") == "LimitExceeded"
    assert error_type("print") == "Exception"


def test_the_prompt_names_the_bounds_and_the_ways() -> None:
    for said in (f"up to {MAX_VALUES} values", f"up to {MAX_DIGITS} digits", f"up to {MAX_LABEL_CHARS} characters"):
        assert said in RLM_TYPED_PROMPT
    for way in ("report(name=value)", "declare_labels(", "FINAL_VAR(", "llm_query_batched(prompts, data=texts)"):
        assert way in RLM_TYPED_PROMPT
    assert "[end ID]" not in RLM_TYPED_PROMPT, "it is shown no output"
    assert "sub-question" not in prompt_for("no_subcalls", "typed").lower()


TEXTS = st.text(alphabet="QXZ", min_size=4)  # letters that no word of the host's has
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
VALUES = st.one_of(SCALARS, st.lists(SCALARS), st.dictionaries(TEXTS, SCALARS))


def test_a_line_that_the_cell_does_not_have_is_not_told(vocabulary: Vocabulary) -> None:
    cell = result(error=CellError(name="KeyError", message="", traceback="", line=7))
    assert render_typed([CellView(cell=cell, lines=6)], vocabulary) == "The cell was ended by KeyError."


def test_the_root_is_told_what_was_wrong_with_its_own_declarations() -> None:
    words = Vocabulary()
    words.learn('LABELS = ["a", "b"]\ndeclare_labels(*LABELS)')
    words.learn("%time x = 1")
    said = render_typed([CellView(cell=result())], words)
    assert said == f"The cell ran.\n{NO_LABEL}\n{UNREAD}"
    assert render_typed([CellView(cell=result())], words) == "The cell ran.", "it is said once"


def test_python_s_warnings_about_the_root_s_code_stay_away_from_the_terminal() -> None:
    words = Vocabulary()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        words.learn('pattern = "\\d+"\ndeclare_labels("a")')
    assert words.labels == {"a"}
    assert warned == []


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
    assert not set("QXZ") & set(said)
