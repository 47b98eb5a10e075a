"""A hostile cell against tools: forged calls, hostile arguments, floods. No function gets what is not of its types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest
import pytest_asyncio

from orchestrator.ledger import Ledger
from orchestrator.limits import UNLIMITED, Limits
from orchestrator.recorder import Recorder
from orchestrator.tool_calls import Toolbox, ToolCalls
from orchestrator.tools import Tool
from sandbox.errors import ProtocolViolation
from sandbox.host import Host
from sandbox.messages import SubCallFailure
from sandbox.spec import CellLimits
from sandbox.tools import Tools
from tests.attack.forge import FORGE
from tests.attack.host_memory import bounded
from tests.attack.outcomes import works
from tests.boxes import SETTINGS, Box, exists

pytestmark = pytest.mark.asyncio(loop_scope="module")

got: Final[list[object]] = []
"""What the functions were called with."""
answers: Final[list[str | SubCallFailure]] = []
"""What the host said to each call."""


def take(name: str, number: int = 0) -> str:
    got.append((name, number))
    return name


async def never() -> None:
    await asyncio.Event().wait()


TOOLBOX = Toolbox([Tool(tool, takes_hostile_arguments=True, max_calls=10**9) for tool in (take, never)])
CALLS = ToolCalls(
    toolbox=TOOLBOX, ledger=Ledger(Limits(max_tool_calls=10**9, max_wall_s=UNLIMITED)), recorder=Recorder(), depth=0
)


async def _handle(name: str, raw: bytes) -> str | SubCallFailure:
    answers.append(await CALLS.handle(name, raw))
    return answers[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _box_with_tools(box_host: Host) -> AsyncIterator[Box]:
    settings = replace(SETTINGS, tools=Tools(specs=TOOLBOX.specs, handler=_handle))
    async with await Box.open(box_host, settings=settings) as box:
        assert isinstance(box, Box)
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def tool_box(_box_with_tools: Box) -> Box:
    got.clear()
    answers.clear()
    if not _box_with_tools.alive:
        await _box_with_tools.restart()
    return _box_with_tools


FORGE_TOOL: Final = FORGE + (
    "def tool(raw, name='take', **more):\n"
    "    ask({'kind': 'tool', 'id': os.urandom(16).hex(), 'name': name} | more, [raw])\n"
)

FORGERIES: Final = {
    "a tool that the host did not give": "tool(b'{}', 'eval')",
    "a dotted name": "tool(b'{}', 'os.system')",
    "the name of a function of the namespace": "tool(b'{}', 'llm_query')",
    "a name that is a number": "tool(b'{}', 7)",
    "arguments as a field": "ask({'kind': 'tool', 'id': '0' * 32, 'name': 'take', 'arguments': {'name': 'x'}}, [])",
    "arguments in two parts": "ask({'kind': 'tool', 'id': '0' * 32, 'name': 'take'}, [b'{}', b'{}'])",
    "arguments above the tool's size": "tool(b'{\"name\": \"' + b'x' * 70_000 + b'\"}')",
    "arguments of 5 MiB": "tool(b' ' * (5 << 20))",
    "an id in flight twice": "for _ in range(2): tool(b'{}', 'never', id='0' * 32)",
    "the id of a query in flight": "tool(b'{}', 'never', id='0' * 32); ask(query, [b'x'])",
}


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_call_kills_the_box_and_calls_nothing(tool_box: Box, code: str) -> None:
    container = tool_box.container
    with pytest.raises(ProtocolViolation):
        await tool_box.execute(FORGE_TOOL + code + "\ntime.sleep(600)", CellLimits(wall_s=30, cpu_s=60))
    assert got == []
    assert not await exists(tool_box.engine, container)
    await tool_box.restart()
    await works(tool_box, lost=False)


@pytest.mark.parametrize(
    "code", [FORGERIES["a tool that the host did not give"], 'tool(b\'{"name": "x"}\')'], ids=["unknown", "known"]
)
async def test_a_box_without_tools_has_none(box: Box, code: str) -> None:
    with pytest.raises(ProtocolViolation, match="a tool that the host did not give"):
        await box.execute(FORGE_TOOL + code + "\ntime.sleep(600)", CellLimits(wall_s=30, cpu_s=60))


HOSTILE: Final = {
    "no JSON": "b'{'",
    "no object": "b'[1]'",
    "no UTF-8": "b'\\xff\\xfe'",
    "NaN": 'b\'{"name": "x", "number": NaN}\'',
    "an infinity": 'b\'{"name": "x", "number": 1e999}\'',
    "60,000 digits": "b'{\"name\": \"x\", \"number\": ' + b'9' * 60_000 + b'}'",
    "a bool for an integer": 'b\'{"name": "x", "number": true}\'',
    "a name twice": 'b\'{"name": "x", "name": "y"}\'',
    "an unknown name": 'b\'{"name": "x", "__class__": "y"}\'',
    "60,000 brackets": "b'[' * 60_000",
    "a bomb of objects": "b'{\"name\":' * 7_000",
    "12,000 nulls": "b'{\"name\": [' + b'null,' * 12_000 + b'null]}'",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_arguments_of_a_legal_message_are_refused_unseen(tool_box: Box, raw: str) -> None:
    result = await tool_box.execute(FORGE_TOOL + f"tool({raw})\nprint(take('after'))")
    assert (result.status, result.stdout.text) == ("ok", "after\n")
    refusal, fine = answers
    assert isinstance(refusal, SubCallFailure)
    assert refusal.kind == "ToolArgumentError"
    assert fine == '"after"'
    assert got == [("after", 0)]


FLOODS: Final = {
    "calls that are made": 'while True: tool(b\'{"name": "x"}\')',
    "calls that are refused": "raw = b'{\"x\": \"' + b'x' * 60_000 + b'\"}'\nwhile True: tool(raw)",
    "calls that never end": "while True: tool(b'{}', 'never')",
}


@pytest.mark.parametrize(
    "name", ["calls that are made", *(pytest.param(name, marks=pytest.mark.long) for name in list(FLOODS)[1:])]
)
async def test_a_flood_of_calls_ends_and_costs_the_host_little(tool_box: Box, name: str) -> None:
    with bounded(f"container, a flood of {name}"):
        try:
            result = await tool_box.execute(FORGE_TOOL + FLOODS[name], CellLimits(wall_s=2, wait_s=1, cpu_s=4))
        except ProtocolViolation as violation:
            assert "a flood" in str(violation)  # noqa: PT017 - either end is right
        else:
            assert result.status in ("interrupted", "lost")
    if not tool_box.alive:
        await tool_box.restart()
    await works(tool_box, lost=False)
