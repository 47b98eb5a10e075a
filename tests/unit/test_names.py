"""The names that a cell binds, read from its code."""

from __future__ import annotations

import pytest

from orchestrator.names import MAX_NAMES_CHARS, MAX_PARSED_CHARS, BoundNames, parse


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("a = 1\nb = a", "b, a"),
        ("a = 1\nb = 2\na = 3", "a, b"),
        ("a = b = 1\n(c, [d, *e]) = x", "e, d, c, b, a"),
        ("import os.path, re as r\nfrom json import loads as parse_json", "parse_json, r, os"),
        ("def f(p):\n    inner = 1\nclass C:\n    field = 1\nasync def g(): pass", "g, C, f"),
        ("for line in context:\n    n = len(line)\nwith open(p) as file: pass", "file, n, line"),
        ("if (m := 3): pass\n[x for x in range(3)]\nlambda y: y", "m"),
        ("a = b = 1\ndel a", "b"),
        ("match v:\n    case [first, *rest] as whole: pass", "whole, rest, first"),
        ("_hidden = 1\nobject.field = 2\nitems[0] = 3", ""),
        ("a = await llm()", "a"),
        ("%%bash\nx = 1", ""),
        ("not python at all (", ""),
    ],
)
def test_what_a_cell_binds_is_said_the_latest_first(code: str, said: str) -> None:
    names = BoundNames()
    names.learn(code)
    assert names.said() == said


def test_a_fresh_repl_has_none() -> None:
    names = BoundNames()
    names.learn("a = 1")
    names.forget()
    assert names.said() == ""


def test_what_is_said_is_bounded_however_much_there_is() -> None:
    names = BoundNames()
    names.learn("\n".join(f"variable_{number} = 1" for number in range(1_000)))
    names.learn("x" * 61 + " = 1")
    said = names.said()
    assert said.startswith("variable_999, variable_998")
    assert MAX_NAMES_CHARS - 20 < len(said) <= MAX_NAMES_CHARS


def test_code_that_is_too_long_is_not_parsed() -> None:
    assert parse("a = 1".ljust(MAX_PARSED_CHARS)) is not None
    assert parse("a = 1".ljust(MAX_PARSED_CHARS + 1)) is None


@pytest.mark.parametrize("code", ["x = " + "+".join(["1"] * 900), "x = a" + ".b" * 900])
def test_code_that_is_deep_costs_its_own_names_at_most(code: str) -> None:
    names = BoundNames()
    names.learn("a = 1")
    names.learn(code)
    names.learn("b = 1")
    assert names.said() in ("b, x, a", "b, a")
