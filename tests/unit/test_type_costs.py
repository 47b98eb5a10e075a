"""Types of a tool's arguments whose check a hostile value could make cost the host's memory or time."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass, field, make_dataclass
from types import GenericAlias
from typing import Annotated, Any, Literal

import pydantic
import pytest

from orchestrator import ConfigError, Tool
from orchestrator.tools import BadArguments


@dataclass
class And:
    op: Literal["and"]
    inner: And | Or | int


@dataclass
class Or:
    op: Literal["or"]
    inner: And | Or | int


@dataclass
class Told:
    op: Literal["told"]
    inner: Annotated[Told | Other, pydantic.Field(discriminator="op")] | None = None


@dataclass
class Other:
    op: Literal["other"]
    inner: Annotated[Told | Other, pydantic.Field(discriminator="op")] | None = None


@dataclass
class Leaf:
    number: int


@dataclass
class Node:
    left: Node | Leaf
    right: Node | Leaf | None = None
    below: list[Node] | dict[str, Node] | None = None


@dataclass
class Dict:
    inner: Dict | dict[str, Dict] | None = None


ROW: Any = make_dataclass("Row", [(f"field_{number}", int) for number in range(100)])


@dataclass
class Pairs:
    inner: list[Pairs] | tuple[Pairs, ...] | None = None


@dataclass
class Sparse:
    name: str
    notes: dict[str, str] = field(default_factory=dict)


def of(annotation: Any) -> Tool:
    def work(value: int) -> None: ...

    work.__annotations__["value"] = annotation
    return Tool(work, takes_hostile_arguments=True, max_argument_bytes=1 << 20)


@pytest.mark.parametrize("annotation", [And | Or, And, list[Or], dict[str, And] | None, Dict, Pairs])
def test_a_type_that_doubles_the_work_at_every_level_is_refused_with_what_to_write(annotation: Any) -> None:
    with pytest.raises(ConfigError, match=r"work: value: .* holds itself in a union.*discriminator"):
        of(annotation)


@pytest.mark.parametrize("annotation", [Node, Node | Leaf, Told, list[Told], Sparse, pydantic.JsonValue, Any])
def test_a_type_that_does_not_is_taken(annotation: Any) -> None:
    of(annotation)


def list_of(item: Any) -> Any:
    return GenericAlias(list, (item,))


def deep(name: str, **more: Any) -> Any:
    value: Any = "no number"
    for _ in range(14):
        value = more | {name: value}
    return value


def wrong_rows(annotation: Any, row: Any) -> tuple[Any, Any]:
    """Many of them."""
    return annotation, [row] * 9_000


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        wrong_rows(list_of(ROW), {}),
        wrong_rows(list_of(ROW), 1),
        wrong_rows(list_of(ROW | Leaf | Sparse), {}),
        wrong_rows(list[Leaf], {}),
        wrong_rows(list[tuple[int, int, int, int, int, int, int, int]], []),
        (Told, deep("inner", op="told")),
        (Node, deep("left")),
    ],
    ids=lambda value: "" if isinstance(value, list | dict) else str(value)[-30:],
)
def test_no_wrong_argument_takes_much_memory(annotation: Any, value: Any) -> None:
    tool = of(annotation)
    raw = json.dumps({"value": value}).encode()
    with pytest.raises(BadArguments):
        tool.arguments(b'{"value": "warm"}')
    before = rss_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(BadArguments) as caught:
            tool.arguments(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 500
    assert peak < 16 << 20
    assert rss_bytes() - before < 48 << 20, "pydantic's own memory is none of Python's"


def rss_bytes() -> int:
    """The most that this process has had in memory."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_honest_rows_fit() -> None:
    row = {f"field_{number}": number for number in range(100)}
    assert len(of(list_of(ROW)).arguments(json.dumps({"value": [row] * 90}).encode())["value"]) == 90
    sparse = {"name": "x", "notes": {"a": "b"}}
    assert len(of(list[Sparse]).arguments(json.dumps({"value": [sparse] * 2_000}).encode())["value"]) == 2_000
