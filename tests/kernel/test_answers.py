"""`FINAL` and `FINAL_VAR` as functions of the namespace."""

from __future__ import annotations

import pytest

from tests.kernel.local_box import VALUE_BYTES, LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("FINAL('text')", "text"),
        ("FINAL('')", ""),
        ("FINAL(42)", "42"),
        ("FINAL(None)", "None"),
        ("FINAL({'a': [1, None, 'é']})", '{"a": [1, null, "é"]}'),
        ("FINAL((1, 2))", "[1, 2]"),
        ("FINAL({1: 2})", '{"1": 2}'),
        ("FINAL({1, })", "{1}"),
        ("FINAL([{1, }])", "[{1}]"),
        ("FINAL([float('nan')])", "[nan]"),
        ("x = 'of a variable'\nFINAL_VAR('x')", "of a variable"),
        ("x = ['a', 1]\nFINAL_VAR('x')", '["a", 1]'),
        ("x = 'value'\nFINAL_VAR(x)\nx = 'later'", "NameError"),
        ("FINAL_VAR(['no name'])", '["no name"]'),
        ("FINAL('first'); FINAL('last')", "last"),
        ("x = 1; FINAL('first'); FINAL_VAR('x')", "1"),
        ("class T(str): pass\nFINAL(T('a subclass'))", "a subclass"),
    ],
)
async def test_the_answer_of_a_cell_that_ends_well(box: LocalBox, code: str, answer: str) -> None:
    result = await box.execute(code)
    if answer == "NameError":
        assert result.error
        assert result.error.name == answer
        assert result.answer is None
    else:
        assert (result.status, result.answer) == ("ok", answer), result


@pytest.mark.parametrize(
    "code", ["FINAL('x')\n1/0", "FINAL('x')\nimport sys; sys.exit()", "FINAL('x'); raise KeyboardInterrupt"]
)
async def test_a_cell_that_fails_gives_no_answer(box: LocalBox, code: str) -> None:
    result = await box.execute(code)
    assert (result.status, result.answer) == ("error", None)
    assert (await box.execute("1")).answer is None


async def test_an_undefined_variable_is_named(box: LocalBox) -> None:
    error = (await box.execute("FINAL_VAR('no such name')")).error
    assert error
    assert (error.name, error.message) == ("NameError", "no variable is named 'no such name'")


async def test_an_answer_too_large_is_an_error_that_names_both_sizes(box: LocalBox) -> None:
    assert (await box.execute(f"FINAL('x' * {VALUE_BYTES})")).answer == "x" * VALUE_BYTES
    for code in (f"FINAL('x' * {VALUE_BYTES + 1})", f"FINAL('\\u20ac' * {VALUE_BYTES // 2})"):
        result = await box.execute(code)
        assert result.answer is None
        assert result.error
        assert result.error.name == "ValueError"
        assert f"at most {VALUE_BYTES:,}" in result.error.message


async def test_an_object_whose_text_fails_is_the_cells_own_error(box: LocalBox) -> None:
    result = await box.execute("class Bad:\n    def __str__(self): raise OSError('no text')\nFINAL(Bad())")
    assert result.error
    assert result.error.name == "OSError"


async def test_a_str_subclass_that_lies_is_no_way_to_stop_the_reply(box: LocalBox) -> None:
    code = "class T(str):\n    def encode(self, *a): raise OSError('no bytes')\nFINAL(T('plain'))"
    assert (await box.execute(code)).answer == "plain"


async def test_an_answer_from_a_thread_of_an_earlier_cell_counts_for_no_cell(box: LocalBox) -> None:
    await box.execute(
        "import threading\ngo = threading.Event()\n"
        "t = threading.Thread(target=lambda: (go.wait(), FINAL('late'))); t.start()\n"
    )
    result = await box.execute("go.set(); t.join()")
    assert result.answer == "late"
    assert (await box.execute("1")).answer is None
