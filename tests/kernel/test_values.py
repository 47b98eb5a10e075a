"""Values that leave the box as JSON or as answer text, and strings that hurt on every way through it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import ValueUnavailable
from sandbox.kernel import MAX_BYTES_PER_CELL
from sandbox.messages import Asked
from tests.datasets import load_naughty_strings
from tests.kernel.local_box import PROMPT_BYTES, VALUE_BYTES, LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("x = None", None),
        ("x = [True, 1, -2.5, 'text', {'k': []}]", [True, 1, -2.5, "text", {"k": []}]),
        ("x = (1, (2,))", [1, [2]]),
        ("x = {1: 'a', None: 'b'}", {"1": "a", "null": "b"}),
        ("x = 10 ** 300", 10**300),
        ("x = 'a\\ud800\\x00\\u2028\"\\\\'", 'a\ud800\x00\u2028"\\'),
        ("import enum\nclass E(enum.IntEnum): A = 3\nx = E.A", 3),
    ],
)
async def test_a_json_value_comes_back(box: LocalBox, code: str, value: Any) -> None:
    await box.execute(code)
    assert await box.json_value("x") == value
    assert await box.has_value("x")


UNAVAILABLE = [
    ("del_me = 1; del del_me", "NameError"),
    ("del_me = {1, 2}", "TypeError"),
    ("del_me = object()", "TypeError"),
    ("del_me = b'bytes'", "TypeError"),
    ("del_me = lambda: 0", "TypeError"),
    ("del_me = {(1, 2): 3}", "TypeError"),
    ("del_me = float('nan')", "ValueError"),
    ("del_me = [1, float('inf')]", "ValueError"),
    ("del_me = []; del_me.append(del_me)", "ValueError"),
    ("del_me = []\nfor _ in range(100_000): del_me = [del_me]", "RecursionError"),
    (f"del_me = 'x' * {VALUE_BYTES}", "TooLarge"),
    ("del_me = 10 ** 5000", "ValueError"),
    ("class D(dict):\n    def items(self): raise OSError('a \\ud800 surrogate')\ndel_me = D(a=1)", "OSError"),
    (
        (
            "class Mute(Exception):\n    def __str__(self): raise OSError\n"
            "class D(dict):\n    def items(self): raise Mute\ndel_me = D(a=1)"
        ),
        "Mute",
    ),
    ("class D(dict):\n    def items(self): import sys; sys.exit()\ndel_me = D(a=1)", "SystemExit"),
]


@pytest.mark.parametrize(("code", "name"), UNAVAILABLE)
async def test_what_is_no_json_is_a_typed_error(box: LocalBox, code: str, name: str) -> None:
    await box.execute(code)
    with pytest.raises(ValueUnavailable, match=name) as caught:
        await box.json_value("del_me")
    assert caught.value.undefined is (name == "NameError")
    assert await box.has_value("del_me") is (name != "NameError")
    assert (await box.execute("1")).result.text == "1"


async def test_what_an_unbound_guest_makes_harms_no_host(box: LocalBox) -> None:
    """A cell may raise Python's own bounds; those of the host stand."""
    raised = "import sys\nsys.setrecursionlimit(10**6); sys.set_int_max_str_digits(0)\n"
    for code in ("x = 10 ** 5000", "x = []\nfor _ in range(5_000): x = [x]"):
        await box.execute(raised + code)
        with pytest.raises(ValueUnavailable, match="too deep or too long a number"):
            await box.json_value("x")
    await box.execute("sys.setrecursionlimit(3000); sys.set_int_max_str_digits(4300)")
    assert (await box.execute("1")).result.text == "1"


async def test_answer_text_takes_every_value(box: LocalBox) -> None:
    await box.execute("a = 'te\\ud800xt'; b = [1, 'é']; c = {1}; d = float('nan')")
    assert [await box.answer_text(name) for name in "abcd"] == ["te\ufffdxt", '[1, "é"]', "{1}", "nan"]
    with pytest.raises(ValueUnavailable) as caught:
        await box.answer_text("no such name")
    assert caught.value.undefined


async def test_hundreds_of_large_values_are_no_flood(fresh_box: LocalBox) -> None:
    """The host's budget of bytes is one request's, not that of all since the last cell."""
    await fresh_box.execute(f"x = 'x' * {VALUE_BYTES - 2}")
    fresh_box.kernel._bytes = MAX_BYTES_PER_CELL - 1  # as after many of them
    for _ in range(10):
        assert len(await fresh_box.json_value("x")) == VALUE_BYTES - 2


async def test_hostile_strings_come_through_unchanged(box: LocalBox, shared_data: Path) -> None:
    strings = load_naughty_strings(shared_data)
    assert len(strings) == 515
    await box.load_value("context", strings)
    assert await box.json_value("context") == strings
    await box.execute(f"copy = {strings!r}")
    assert await box.json_value("copy") == strings


async def test_hostile_strings_are_printed_and_returned_unchanged(box: LocalBox, shared_data: Path) -> None:
    for text in load_naughty_strings(shared_data):
        result = await box.execute(f"print({text!r}, end='')\n{text!r}")
        assert result.stdout.text == text
        assert result.result.text == repr(text)


SURROGATES = ["\ud800", "a\udc80b", "\udfff\ud800 x", "\ud83d" * 3000]


@pytest.mark.parametrize("text", SURROGATES, ids=ascii)
async def test_lone_surrogates_go_every_way_without_a_violation(box: LocalBox, text: str) -> None:
    async def mirror(asked: Asked) -> str:
        return text

    box.handler = mirror
    replaced = re.sub("[\ud800-\udfff]", "\ufffd", text)
    result = await box.execute(
        f"import sys\nx = {text!r}\nprint(x, end='')\nprint(x, file=sys.stderr, end='')\ndisplay(x)"
    )
    kept = min(len(replaced), 1000)
    assert result.stdout.text.startswith(replaced[:kept])
    assert result.stderr.text.startswith(replaced[:kept])
    assert await box.json_value("x") == text
    assert await box.answer_text("x") == replaced
    assert (await box.execute("llm_query(x, data=x) is None")).result.text == "False"
    assert box.prompts[-1] == (replaced, replaced)
    assert (await box.execute("raise ValueError(x)")).error is not None
    assert (await box.execute("type('E', (Exception,), {'__str__': lambda _: x})()")).status == "ok"
    assert (await box.execute("FINAL(x)")).answer == replaced
    assert (await box.execute("x[:10] + x[-10:]")).status == "ok"


async def test_hostile_strings_are_asked_and_answered_unchanged(box: LocalBox, shared_data: Path) -> None:
    async def mirror(asked: Asked) -> str:
        assert asked.data == asked.prompt
        return asked.prompt

    strings = load_naughty_strings(shared_data)
    box.handler = mirror
    await box.load_value("context", strings)
    await box.execute("batched = llm_query_batched(context, data=context)")
    code = "(batched == context, [llm_query(c, data=c) for c in context] == context)"
    assert (await box.execute(code)).result.text == "(True, True)"
    assert [prompt for prompt, _ in box.prompts] == strings * 2
    assert max(map(len, strings)) < PROMPT_BYTES
