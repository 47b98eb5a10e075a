"""Tools without a box: what is refused when one is made, what hostile arguments come to, what the root is told."""

from __future__ import annotations

import functools
import json
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import RLM, ConfigError, ScriptedProvider, Tool
from orchestrator.tools import BadArguments, checked_tools, tools_note


def lookup(name: str, limit: int = 10) -> list[str]:
    """Find names."""
    return [name] * limit


def _tool(function: Callable[..., Any] = lookup, **given: Any) -> Tool:
    return Tool(function, **{"takes_hostile_arguments": True} | given)


_MISSING = object()


def _refuse(value: str) -> str:
    raise ValueError("/etc/host/path")


def untyped(name, limit: int = 10): ...  # type: ignore[no-untyped-def]


def with_args(*names: str) -> None: ...


def with_kwargs(**names: str) -> None: ...


def positional(name: str, /) -> None: ...


def of_callable(name: Callable[[], None]) -> None: ...


def of_unknown(name: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def of_connection(name: threading.Thread) -> None: ...


REFUSED = {
    "no opt-in": (lambda: Tool(lookup), "Tool lookup: .*takes_hostile_arguments=True"),
    "an opt-in that is only true-ish": (lambda: _tool(takes_hostile_arguments=1), "takes_hostile_arguments=True"),
    "no function": (
        lambda: _tool(3),  # type: ignore[arg-type]
        "3 is no function",
    ),
    "a parameter without a type": (lambda: _tool(untyped), "untyped: name has no type; write name: str"),
    "*args": (lambda: _tool(with_args), r"\*names: str: .*by name"),
    "**kwargs": (lambda: _tool(with_kwargs), r"\*\*names: str: .*by name"),
    "a positional parameter": (lambda: _tool(positional), "name: str: .*by name"),
    "a type that is no JSON": (lambda: _tool(of_callable), "of_callable: name: .*JSON"),
    "a class of another kind": (lambda: _tool(of_connection), "of_connection: name: threading.Thread is no type"),
    "a type that is not there": (lambda: _tool(of_unknown), "of_unknown: .*'Nowhere'"),
    "a lambda's name": (lambda: _tool(lambda: 1), "Tool.name: '<lambda>'"),
    "a keyword": (lambda: _tool(name="class"), "Tool.name: 'class'"),
    "a private name": (lambda: _tool(name="_x"), "Tool.name: '_x'"),
    "a name of the REPL": (lambda: _tool(name="context"), "Tool.name: 'context' means something else"),
    "a context's name": (lambda: _tool(name="context_12"), "Tool.name: 'context_12' means something else"),
    "a name of Python": (lambda: _tool(name="open"), "Tool.name: 'open' means something else"),
    "no calls": (lambda: _tool(max_calls=0), "max_calls: 0 is not an integer from 1"),
    "a bool for a number": (lambda: _tool(concurrency=True), "concurrency: True is not an integer from 1 to 64"),
    "no end": (lambda: _tool(timeout_s=float("inf")), "timeout_s: inf is not a number"),
    "arguments of 2 MiB": (lambda: _tool(max_argument_bytes=2 << 20), "max_argument_bytes: 2097152 is not"),
    "results of 5 MiB": (lambda: _tool(max_result_bytes=5 << 20), "max_result_bytes: 5242880 is not"),
    "a long description": (lambda: _tool(description="x" * 5_000), "description: 5,000 characters; at most 4,000"),
    "a bare function": (
        lambda: checked_tools([lookup]),  # type: ignore[list-item]
        r"tools\[0\]: .* is no Tool.*Tool\(lookup, takes_hos",
    ),
    "one name twice": (lambda: checked_tools([_tool(), _tool()]), r"tools\[1\]: a second tool .*'lookup'"),
    "one that is no list": (
        lambda: checked_tools(_tool()),  # type: ignore[arg-type]
        "tools: of type Tool, not a list",
    ),
    "too many": (lambda: checked_tools([_tool(name=f"t{n}") for n in range(65)]), "tools: 65; at most 64"),
}


@pytest.mark.parametrize(("make", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_tool_is_refused_with_what_to_write(make: Callable[[], Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()


def test_a_run_refuses_a_bare_function_before_anything_starts() -> None:
    model = ScriptedProvider(["FINAL(x)"])
    with pytest.raises(ConfigError, match="takes_hostile_arguments=True"):
        RLM(model, tools=[lookup])  # type: ignore[list-item]
    assert model.requests == []


class Caller:
    async def __call__(self, name: str) -> str:
        return name

    def method(self, name: str) -> str:
        return name


def test_methods_partials_and_objects_are_functions_too() -> None:
    assert _tool(Caller().method).spec.signature == "(name: str) -> str"
    assert _tool(functools.partial(lookup, limit=2), name="two").arguments(b'{"name": "x"}') == {"name": "x"}
    assert _tool(Caller(), name="caller").is_async
    assert not _tool().is_async


HOSTILE: dict[str, bytes] = {
    "no object": b"[]",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "nothing": b"",
    "NaN": b'{"name": "x", "limit": NaN}',
    "an infinity": b'{"name": "x", "limit": 1e999}',
    "an integer of a million digits": b'{"name": "x", "limit": ' + b"9" * 1_000_000 + b"}",
    "a name twice": b'{"name": "x", "name": "y"}',
    "a name twice, escaped": b'{"name": "x", "n\\u0061me": "y"}',
    "a bool for an integer": b'{"name": "x", "limit": true}',
    "a float for an integer": b'{"name": "x", "limit": 1.0}',
    "a text for an integer": b'{"name": "x", "limit": "1"}',
    "null for an integer": b'{"name": "x", "limit": null}',
    "an object for a text": b'{"name": {"__class__": "str"}}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "an unknown name": b'{"name": "x", "self": 1}',
    "a dunder": b'{"name": "x", "__class__": 1}',
    "a name of a megabyte": b'{"' + b"x" * 1_000_000 + b'": 1}',
    "nothing that is needed": b"{}",
    "100,000 brackets": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "a bomb of lists": b'{"name": ' + b"[" * 400 + b"]" * 400 + b"}",
    "a million nulls": b'{"name": [' + b"null," * 199_999 + b"null]}",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_arguments_never_reach_the_function(raw: bytes) -> None:
    tool = _tool(max_argument_bytes=1 << 20)
    tool.arguments(b'{"name": "warm"}')
    tracemalloc.start()
    try:
        with pytest.raises(BadArguments) as caught:
            tool.arguments(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 500
    assert peak < 16 << 20


@dataclass
class Node:
    left: Node | None = None
    right: Node | None = None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_what_reaches_the_function_is_of_its_type(value: Any) -> None:
    tool = _tool()
    raw = json.dumps({"name": "x", "limit": value}).encode()
    try:
        limit = tool.arguments(raw)["limit"]
    except BadArguments:
        return
    assert type(limit) is int
    assert limit == value


def test_types_that_json_writes_as_text_or_list_arrive_as_themselves() -> None:
    def take(day: date, pair: tuple[int, str], node: Node) -> None: ...

    got = _tool(take).arguments(b'{"day": "2024-02-29", "pair": [1, "a"], "node": {"left": {}}}')
    assert got == {"day": date(2024, 2, 29), "pair": (1, "a"), "node": Node(left=Node())}


def test_a_check_of_the_callers_says_that_it_refused_and_not_what() -> None:
    def take(name: Annotated[str, pydantic.AfterValidator(_refuse)]) -> None: ...

    with pytest.raises(BadArguments, match="take: name: its check refused it"):
        _tool(take).arguments(b'{"name": "x"}')


def test_the_root_is_told_signature_limit_description_and_the_shape_of_objects() -> None:
    def take(node: Node, size: Annotated[int, pydantic.Field(ge=1)] = 1, how: Any = _MISSING) -> None:
        """Take it.

        Twice.
        """

    note = tools_note([_tool(take, max_calls=3), _tool()])
    assert "- `take(node: tests.unit.test_tools.Node, size: int = 1, how: Any = ...) -> None`, at most 3 calls" in note
    assert "  Take it.\n\n  Twice.\n" in note
    assert '`node` is JSON of this schema: {"$defs"' in note
    assert '`size` is JSON of this schema: {"default": 1' in note or '"minimum": 1' in note
    assert "- `lookup(name: str, limit: int = 10) -> list[str]`, at most 100 calls\n  Find names." in note
    assert "0x" not in note, "no address of the host's memory"
    assert tools_note([]) == ""
