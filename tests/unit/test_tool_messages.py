"""The message by which a kernel calls a tool: what is taken of it, and what is a violation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.tools import BadArguments, Tool
from sandbox.errors import ProtocolViolation
from sandbox.messages import CALLS, DELIMITER, AskedTool, Message, Query
from sandbox.protocol import decode
from sandbox.spec import KernelSettings
from sandbox.terms import Terms
from sandbox.tools import Tools, ToolSpec

COMM = "c" * 32
CALL = "0123456789abcdef" * 2
SPECS = (ToolSpec(name="small", argument_bytes=10), ToolSpec(name="large", argument_bytes=1 << 20))
TERMS = Terms.of(COMM, KernelSettings(tools=Tools(specs=SPECS)))
NO_TOOLS = Terms.of(COMM, KernelSettings())
TOOL = {"kind": "tool", "id": CALL, "name": "small"}


def told(data: Any, *buffers: bytes, terms: Terms = TERMS) -> Message:
    header, content = {"msg_type": "comm_msg"}, {"comm_id": COMM, "data": data}
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
    return decode(CALLS, [DELIMITER, b"", *parts, *buffers], terms)


def test_a_call_is_a_name_of_the_list_and_bytes_that_nobody_has_read() -> None:
    assert told(TOOL, b'{"a": NaN}') == Query(CALL, (0,), (AskedTool("small", b'{"a": NaN}'),))
    extra = {"run": 7, "depth": 9, "budget": 10**6, "indexes": [3], "has_data": [True], "max_calls": 10**9}
    assert told(TOOL | extra, b"{}") == told(TOOL, b"{}"), "what else a message says of itself is not read"
    assert told(TOOL | {"name": "large"}, b"x" * (1 << 20))


FORGED: dict[str, Any] = {
    "a name that the host did not give": lambda: told(TOOL | {"name": "other"}, b"{}"),
    "a name in another case": lambda: told(TOOL | {"name": "Small"}, b"{}"),
    "no name": lambda: told({"kind": "tool", "id": CALL}, b"{}"),
    "a name that is a list": lambda: told(TOOL | {"name": ["small"]}, b"{}"),
    "a name of 65 characters": lambda: told(TOOL | {"name": "s" * 65}, b"{}"),
    "a name that would end a line of a terminal": lambda: told(TOOL | {"name": "small\x1b[2J"}, b"{}"),
    "no id": lambda: told({"kind": "tool", "name": "small"}, b"{}"),
    "an id that is no hex": lambda: told(TOOL | {"id": "g" * 32}, b"{}"),
    "no arguments": lambda: told(TOOL),
    "arguments in two buffers": lambda: told(TOOL, b"{", b"}"),
    "arguments that are too large for this tool": lambda: told(TOOL, b"x" * 11),
    "arguments that are too large for any": lambda: told(TOOL | {"name": "large"}, b"x" * ((1 << 20) + 1)),
    "a call where the host gave no tool": lambda: told(TOOL, b"{}", terms=NO_TOOLS),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_what_no_honest_kernel_sends_is_a_violation(forge: Any) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        forge()
    assert len(str(caught.value)) < 200
    assert "\x1b" not in str(caught.value)


def take(name: str, numbers: list[int] | None = None) -> None: ...


TOOL_TAKEN = Tool(take, takes_hostile_arguments=True)
PIECES = (*b"{}[],:-1", b'"', b'"name"', b'"numbers"', b"e9", b"true", b"NaN", b"\\u", b"\xff")
TOKENS = st.sampled_from([bytes([piece]) if isinstance(piece, int) else piece for piece in PIECES])
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
NAMED = st.dictionaries(st.sampled_from(["name", "numbers", "more"]), VALUES).map(json.dumps).map(str.encode)


@given(st.binary(max_size=40) | st.lists(TOKENS, max_size=20).map(b"".join) | NAMED)
@settings(derandomize=True, max_examples=500, deadline=None)
def test_any_bytes_are_arguments_of_the_right_types_or_refused(raw: bytes) -> None:
    try:
        given_ = TOOL_TAKEN.arguments(raw)
    except BadArguments:
        return
    assert type(given_["name"]) is str
    assert given_.keys() <= {"name", "numbers"}
    assert all(type(number) is int for number in given_.get("numbers") or [])
