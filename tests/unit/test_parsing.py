"""The rules of `orchestrator.parsing`, each with the replies that made it necessary."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.parsing import FinalText, FinalVar, ParsedReply, missing_reason, parse_reply, reads_like_a_plan
from tests.root_scripts import as_reply

MIB = 1024 * 1024


def cells(text: str) -> tuple[str, ...]:
    return parse_reply(text).cells


@pytest.mark.parametrize(
    "tag", ["repl", "python", "Python", "PYTHON", "py", "python3", "python repl", "repl title=x", " repl "]
)
def test_tagged_blocks_are_code(tag: str) -> None:
    assert cells(f"Look:\n```{tag}\nprint(1)\n```\nDone.") == ("print(1)",)


@pytest.mark.parametrize("tag", ["", "js", "text", "json", "output", "bash", "pythonic", "{python}"])
def test_other_blocks_are_not_code(tag: str) -> None:
    parsed = parse_reply(f"```{tag}\nprint(1)\n```")
    assert parsed.cells == ()
    assert parsed.skipped == (tag,)


def test_several_blocks_keep_their_order_and_white_space() -> None:
    assert cells("a\n```repl\n\n  x = 1 \n\n```\nb\n~~~python\ny\n~~~") == ("\n  x = 1 \n", "y")


def test_a_longer_fence_holds_a_shorter_one() -> None:
    assert cells("````repl\nprint('''\n```\n''')\n```\n````") == ("print('''\n```\n''')\n```",)


def test_a_tilde_fence_is_not_closed_by_backticks() -> None:
    assert cells("~~~repl\n```\nx\n~~~~") == ("```\nx",)


def test_an_indented_fence_loses_its_indentation_only() -> None:
    assert cells("1. Look:\n   ```python\n   if x:\n       y()\n  z()\n   ```\n") == ("if x:\n    y()\nz()",)


def test_crlf_is_read_as_lf() -> None:
    parsed = parse_reply("Look\r\n```repl\r\na = 1\r\nb = 2\r\n```\r\n")
    assert parsed.cells == ("a = 1\nb = 2",)
    assert parse_reply("x\r\nFINAL(a\r\nb)\r\n").final == FinalText("a\nb")


def test_a_last_block_without_a_closing_fence_is_code_and_marked() -> None:
    parsed = parse_reply("```repl\nprint(1)\n")
    assert parsed.cells == ("print(1)\n",)
    assert parsed.unclosed
    assert not parse_reply("```repl\nprint(1)\n```").unclosed


def test_inline_code_opens_no_block() -> None:
    assert cells("Use ```python x``` here.\n```python print(1)```\n```repl\ny\n```") == ("y",)


@pytest.mark.parametrize("quote", ['"""', "'''"])
def test_a_fence_in_a_triple_quoted_string_does_not_end_the_block(quote: str) -> None:
    code = f"prompt = f{quote}Text:\n```\n{{chunk}}\n```\n{quote}\nprint(llm_query(prompt))"
    assert cells(f"```repl\n{code}\n```\nThen more.\n```repl\nz\n```") == (code, "z")


@pytest.mark.parametrize(
    "line",
    [
        "x = 'it''s'",
        "x = \"'''\"",
        'x = \'"""\'',
        'x = 1  # don\'t say """',
        "x = '\\''",
        "x = ''",
        "x = r'\\'  '''",  # ends in an open string by Python's rules too; falls back to the plain reading
        "x = '''a''' + \"\"\"b\"\"\"",
    ],
)
def test_quotes_in_code_do_not_hide_the_closing_fence(line: str) -> None:
    assert cells(f"```repl\n{line}\n```\nIt's prose.\n```repl\ny\n```") == (line, "y")


def test_an_open_triple_quote_without_an_end_falls_back_to_the_first_fence() -> None:
    assert cells('```repl\nx = """oops\n```\nprose\n```repl\ny = 1\n```') == ('x = """oops', "y = 1")


def test_blank_blocks_are_no_cells() -> None:
    parsed = parse_reply("```repl\n \n```")
    assert parsed.cells == ()
    assert missing_reason(parsed) == "the code block is empty"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("FINAL(42)", "42"),
        ("Done.\n\nFINAL(42)\n", "42"),
        ("  FINAL( 42 )  ", "42"),
        ("**FINAL(42)**", "42"),
        ("`FINAL(42)`", "42"),
        ("> FINAL(42).", "42"),
        ("### FINAL (42)", "42"),
        ("- FINAL(42)", "42"),
        ("FINAL(f(x) = (1 + (2)))", "f(x) = (1 + (2))"),
        ("FINAL(one\n\ntwo (2)\nthree)", "one\n\ntwo (2)\nthree"),
        ("FINAL(The smile :) is common.)", "The smile :) is common."),
        ("FINAL(1) one\n2) two)", "1) one\n2) two"),
        ("FINAL(a sad :( face)", "a sad :( face"),
        ('FINAL("a :( b")', "a :( b"),
        ('FINAL("a ) b")', "a ) b"),
        ("FINAL('it is')", "it is"),
        ("FINAL('it\\'s')", "it's"),
        ('FINAL("a\\nb\\\\c")', "a\nb\\c"),
        ('FINAL("""three\n"quoted" (lines)""")', 'three\n"quoted" (lines)'),
        ('FINAL("Yes," she said, "no.")', '"Yes," she said, "no."'),
        ("FINAL('tis (the) season)", "'tis (the) season"),
        ("FINAL(John's and Mary's)", "John's and Mary's"),
        ("FINAL(42)\n\n(I checked this in the cell above.)", "42"),
        ("FINAL(first)\nNo, wait.\nFINAL(second)", "second"),
        ("FINAL(good)\nFINAL_VAR(42)", "good"),
        ("FINAL(open\n\nFINAL(42)", "42"),
        ("FINAL(the text says:\nFINAL(no)\nand more)", "the text says:\nFINAL(no)\nand more"),
        ("FINAL(\u4e2d\u6587 \U0001f600)", "\u4e2d\u6587 \U0001f600"),
    ],
)
def test_final_text(text: str, answer: str) -> None:
    parsed = parse_reply(text)
    assert parsed.final == FinalText(answer)
    assert parsed.problem is None


@pytest.mark.parametrize(
    "text",
    [
        "FINAL_VAR(answer)",
        "FINAL_VAR( answer )",
        "FINAL_VAR('answer')",
        'FINAL_VAR("answer")',
        "**FINAL_VAR(`answer`)**",
    ],
)
def test_final_var(text: str) -> None:
    assert parse_reply(text).final == FinalVar("answer")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FINAL_VAR(42)", "FINAL_VAR needs the name of a variable, got '42'"),
        ("FINAL_VAR()", "FINAL_VAR needs the name of a variable, got ''"),
        ("FINAL_VAR(str(x))", "FINAL_VAR needs the name of a variable, got 'str(x'"),
        ("FINAL_VAR(a.b)", "FINAL_VAR needs the name of a variable, got 'a.b'"),
        ("FINAL_VAR(None)", "FINAL_VAR needs the name of a variable, got 'None'"),
        ("FINAL_VAR(x", "FINAL_VAR has no closing parenthesis"),
        ("FINAL_VAR(x) holds it", "text follows FINAL_VAR(...) on its line"),
        ("FINAL(", "FINAL has no closing parenthesis"),
        ("FINAL(The list (a, b) and", "FINAL has no closing parenthesis"),
        ("FINAL(x) will be called when I know it.", "FINAL has no closing parenthesis at the end of a line"),
        ("FINAL(42) is the answer (verified)", "FINAL has no closing parenthesis at the end of a line"),
        ("FINAL()", "FINAL() is empty"),
        ("FINAL('')", "FINAL() is empty"),
        ('FINAL(f"The sum is {x}")', "an f-string in FINAL is not filled in"),
        ("I will then call FINAL(x)", "FINAL must begin its own line"),
        ("The answer is FINAL(42).", "FINAL must begin its own line"),
        ("```\nFINAL(42)\n```", "FINAL stands inside a code fence"),
        ("```js\nx\n```", "a ```js block is not run; start it with ```repl"),
        ("```\nx = 1\n```", "a code block without a language is not run"),
        ("```repl x = 1```", "a code block must start with ```repl on a line of its own"),
        ("<think>so", "the reply ended inside <think>"),
        ("", "the reply is empty"),
        ("<think>so</think>", "the reply is empty"),
        ("I need more time.", "there is neither a code block nor an answer"),
    ],
)
def test_what_is_missing_is_named(text: str, reason: str) -> None:
    parsed = parse_reply(text)
    assert parsed.cells == ()
    assert parsed.final is None
    assert missing_reason(parsed).startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        'FINAL_VAR("The answer is 42.")',
        "FINAL_VAR('Paris, France')",
        "FINAL_VAR([1, 2])",
        "FINAL_VAR({'a': 1})",
        "FINAL_VAR(-1)",
        "FINAL_VAR(x + 1)",
        "FINAL_VAR(x[0])",
    ],
)
def test_a_literal_in_final_var_is_told_where_it_belongs(text: str) -> None:
    parsed = parse_reply(text)
    assert parsed.final is None
    assert "needs the name of a variable" in missing_reason(parsed)
    assert missing_reason(parsed).endswith("for the answer itself write FINAL(your answer)")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FINAL(x)\n\nFINAL_VAR(y)", FinalVar("y")),
        ("FINAL_VAR(y)\n\nFINAL(x)", FinalText("x")),
        ("FINAL_VAR(y)\n```text\nFINAL(quoted)\n```", FinalVar("y")),
        ("FINAL_VAR(y)\nI could also call FINAL(x) here.", FinalVar("y")),
        ("FINAL(an answer)\nFINAL(one that never closes", FinalText("an answer")),
        ("FINAL(FINAL_VAR(y))", FinalText("FINAL_VAR(y)")),
    ],
)
def test_of_two_answers_the_last_well_formed_one_counts(text: str, expected: object) -> None:
    assert parse_reply(text).final == expected


@pytest.mark.parametrize(
    "text",
    [
        "I will first look at the context and then count the names.",
        "I'll search for the key.",
        "I\u2019ll search for the key.",
        "Let me look at the first chunk",
        "Let's split it into 10 chunks.",
        "First, I need to find the headings.",
        "Okay, so I should ask a sub-model.",
        "Plan: 1) read, 2) count",
        "**My plan** is to read it",
        "Step 1: look at the length of context",
        "We are going to read each chapter.",
    ],
)
def test_a_plan_is_told_from_an_answer(text: str) -> None:
    assert reads_like_a_plan(text)


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "I",
        "I Will Always Love You",
        "Iwill",
        "Plan B was chosen in March.",
        "The plan was dropped.",
        "William will sign it.",
        "First, the names differ.",
        "Step 12 failed",
        "Letters from the front",
        "It says that I will pay.",
        "No answer: the context does not say.",
        "",
    ],
)
def test_an_answer_is_no_plan(text: str) -> None:
    assert reads_like_a_plan(text) is (text == "I Will Always Love You"), "the song is asked back once, and no more"


def test_a_name_of_the_reply_is_shown_short() -> None:
    assert len(missing_reason(parse_reply(f"FINAL_VAR({'9' * 5000})"))) < 160
    assert len(missing_reason(parse_reply(f"```{'j' * 5000}\nx\n```"))) < 120


def test_final_inside_code_is_code() -> None:
    parsed = parse_reply("```repl\nx = 1\nFINAL(x)\n```")
    assert parsed == ParsedReply(cells=("x = 1\nFINAL(x)",))


def test_code_and_answer_are_both_returned() -> None:
    parsed = parse_reply("```repl\nx = 1\n```\nFINAL_VAR(x)")
    assert parsed.cells == ("x = 1",)
    assert parsed.final == FinalVar("x")


@pytest.mark.parametrize("opening", ["<think>\n", ""])
def test_thinking_is_dropped_with_its_drafts(opening: str) -> None:
    parsed = parse_reply(f"{opening}draft\n```repl\ndraft()\n```\nFINAL(draft)\n</think>\n```repl\nreal()\n```")
    assert parsed == ParsedReply(cells=("real()",))


def test_a_closing_think_tag_in_code_drops_nothing() -> None:
    code = "x = '''\n</think>\n'''"
    assert cells(f"```repl\na\n```\n```repl\n{code}\n```") == ("a", code)


PLAIN = st.text(st.characters(exclude_characters="\r"), min_size=1, max_size=300)
MARKS = st.text("`~\"'#\\\n fFINALrepl()_VAR", max_size=120)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.one_of(PLAIN, MARKS))
def test_any_code_comes_back_as_it_was(code: str) -> None:
    expected = (code,) if code.strip() else ()
    assert cells(as_reply(code)) == expected


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=300), MARKS))
def test_any_reply_is_parsed_to_one_of_the_three_outcomes(text: str) -> None:
    parsed = parse_reply(text)
    assert not (parsed.final and parsed.problem)
    assert all(code.strip() for code in parsed.cells)
    if not parsed.cells and not parsed.final:
        assert missing_reason(parsed)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_characters="()\r", exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_an_answer_without_parentheses_comes_back(answer: str) -> None:
    # The text before it keeps the answer from being taken for one quoted string or an f-string.
    expected = f"Answer: {answer}".strip()
    fenced = any(
        line.lstrip(" \t").startswith(("```", "~~~")) or line.strip() == "</think>" for line in answer.split("\n")
    )
    if not fenced:
        assert parse_reply(f"FINAL({expected})").final == FinalText(expected)


HOSTILE: dict[str, Callable[[int], str]] = {
    "open answers": lambda n: "FINAL(\n" * (n // 7),
    "half-open answers": lambda n: "FINAL((x)\n" * (n // 10),
    "answers with text behind": lambda n: "FINAL(x) y\n" * (n // 11),
    "open variables": lambda n: "FINAL_VAR(\n" * (n // 11),
    "quoted openings": lambda n: "FINAL(\"x)\nFINAL('y)\nFINAL('''z)\n" * (n // 33),
    "parentheses": lambda n: "FINAL(" + "(" * (n // 2) + ")" * (n // 2) + "x",
    "closing parentheses": lambda n: "FINAL(" + ")" * n + "x",
    "marks at a line's start": lambda n: "*_`#>- " * (n // 7),
    "marks at a line's end": lambda n: "FINAL(" + ")******" * (n // 7) + "x",
    "backticks": lambda n: "`" * n,
    "fences": lambda n: "```\n" * (n // 4),
    "open code fences": lambda n: "```repl\n" * (n // 8),
    "open strings in blocks": lambda n: "```repl\n\"\"\"\n```\n'''\n" * (n // 20),
    "strings that are open at every fence": lambda n: "```repl\n# '''\n'''\n```\n" * (n // 21),
    "quotes": lambda n: "```repl\n" + "'\"" * (n // 2),
    "backslashes": lambda n: "```repl\n'" + "\\" * n,
    "white space": lambda n: "FINAL(" + " \n" * (n // 2),
    "answers that begin like plans": lambda n: "FINAL(" + "first, " * (n // 7) + ")",
    "tabs before a fence": lambda n: ("\t" * 50 + "``\n") * (n // 53),
    "thinking": lambda n: "<think>" * (n // 7),
    "closed thinking": lambda n: "x\n</think>\n" * (n // 11),
}


def work(text: str) -> int:
    """Lines of Python executed to parse `text`, plus the characters that the slices and searches could touch at most
    once a line: counted, not timed, so that a busy machine changes nothing."""
    count = 0

    def trace(frame: object, event: str, arg: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        parse_reply(text)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("shape", HOSTILE)
def test_work_grows_with_the_reply_and_no_faster(shape: str) -> None:
    small, large = HOSTILE[shape](4_000), HOSTILE[shape](16_000)
    assert work(large) <= 6 * work(small) + 1_000, "four times the text takes more than six times the steps"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("shape", HOSTILE)
def test_a_hostile_reply_of_the_largest_size_ends(shape: str) -> None:
    """Regular expressions do their work out of the counter's sight; quadratic they would need hours here."""
    parse_reply(HOSTILE[shape](4 * MIB))
