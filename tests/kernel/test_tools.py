"""Tools in a real kernel, answered by the real host code: what cells write, what functions get, what comes back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import pytest_asyncio

from orchestrator import UNLIMITED, Limits, Tool, ToolFailed
from orchestrator.errors import ConfigError
from orchestrator.ledger import Ledger
from orchestrator.recorder import Recorder
from orchestrator.tool_calls import Toolbox, ToolCalls
from sandbox.messages import SubCallFailure
from sandbox.spec import CellLimits
from sandbox.tools import Tools
from tests.kernel.local_box import SETTINGS, LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Place:
    city: str
    floor: int = 0


got: list[Any] = []
"""What the functions were called with."""
release = threading.Event()


def lookup(name: str, kinds: list[Literal["a", "b"]] | None = None, *, limit: int = 10) -> dict[str, Any]:
    """Find a record.

    Kinds are a or b.
    """
    got.append((name, kinds, limit))
    return {"name": name, "limit": limit, "none": None, "list": [1, 2.5, True]}


async def visit(place: Place) -> str:
    """Go there."""
    await asyncio.sleep(0)
    got.append(place)
    return f"{place.city}, floor {place.floor}"


def broken(what: str) -> Any:
    match what:
        case "bug":
            raise ValueError("/etc/host/path and a key")
        case "exit":
            raise SystemExit("/etc/host/path")
        case "words":
            raise ToolFailed("no such customer")
        case "nan":
            return float("nan")
        case "object":
            return object()
        case "large":
            return "x" * 2_000
        case "lone":
            return "a\ud800b"
    return what


async def stuck() -> None:
    await asyncio.Event().wait()


def stuck_thread() -> str:
    release.wait(60)
    return "late"


def add(a: float, b: float) -> float:
    return a + b


def _tool(function: Any, **settings: Any) -> Tool:
    return Tool(function, takes_hostile_arguments=True, **settings)


TOOLS = (
    _tool(lookup, max_argument_bytes=2_000, max_calls=1_000),
    _tool(visit),
    _tool(broken, max_result_bytes=1_000),
    _tool(stuck, timeout_s=0.2),
    _tool(stuck_thread, timeout_s=0.2, concurrency=2),
    _tool(add, concurrency=8, max_calls=1_000),
)


class Host:
    """The host's side: a run's tool calls, and what its recorder was told."""

    def __init__(self, tools: tuple[Tool, ...] = TOOLS, **limits: Any) -> None:
        self.recorder = Recorder([lambda event: self.events.append(event)])
        self.events: list[Any] = []
        self.ledger = Ledger(Limits(**{"max_tool_calls": 10_000, "max_wall_s": UNLIMITED} | limits))
        self.toolbox = Toolbox(tools)
        self.calls = ToolCalls(toolbox=self.toolbox, ledger=self.ledger, recorder=self.recorder, depth=0)

    async def handle(self, name: str, raw: bytes) -> str | SubCallFailure:
        return await self.calls.handle(name, raw)

    def box(self) -> LocalBox:
        return LocalBox(replace(SETTINGS, tools=Tools(specs=self.toolbox.specs, handler=self.handle)))


host = Host()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tool_box() -> AsyncIterator[LocalBox]:
    async with await host.box().open() as box:
        assert isinstance(box, LocalBox)
        yield box


async def error_of(box: LocalBox, code: str) -> str:
    """Type and text of what a cell's call raises."""
    return await box.printed(
        f"try:\n    print(('returned', {code}))\nexcept Exception as e: print(type(e).__name__, e)"
    )


async def test_a_call_reaches_the_function_and_its_result_the_cell(tool_box: LocalBox) -> None:
    got.clear()
    found = await tool_box.value("lookup('x', kinds=['a'], limit=3)")
    assert found == {"name": "x", "limit": 3, "none": None, "list": [1, 2.5, True]}
    assert await tool_box.value("await lookup('y')") == found | {"name": "y", "limit": 10}
    assert await tool_box.value("visit({'city': 'Rome'})") == "Rome, floor 0"
    assert await tool_box.value("await visit(place={'city': 'Rome', 'floor': 2})") == "Rome, floor 2"
    assert await tool_box.value("add(1, 2.5)") == 3.5
    assert await tool_box.value("broken('lone')") == "a?b"
    assert got == [("x", ["a"], 3), ("y", None, 10), Place("Rome"), Place("Rome", 2)]


async def test_help_shows_the_signature_as_the_host_wrote_it(tool_box: LocalBox) -> None:
    said = await tool_box.printed("help(lookup); import inspect; print(inspect.signature(visit))")
    signature = "(name: str, kinds: list[Literal['a', 'b']] | None = None, *, limit: int = 10) -> dict[str, Any]"
    assert f"lookup{signature}" in said
    assert "Kinds are a or b." in said
    assert host.toolbox["lookup"].tool.spec.signature == signature, "the root is told the same"
    assert "(place: tests.kernel.test_tools.Place) -> str" in said


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("lookup()", "ToolArgumentError lookup: missing a required argument: 'name'"),
        ("lookup('x', 1, 2)", "ToolArgumentError lookup: too many positional arguments"),
        ("lookup('x', more=1)", "ToolArgumentError lookup: got an unexpected keyword argument 'more'"),
        ("lookup(1)", "ToolArgumentError lookup: name: Input should be a valid string"),
        ("lookup('x', limit=True)", "ToolArgumentError lookup: limit: Input should be a valid integer"),
        ("lookup('x', limit=1.0)", "ToolArgumentError lookup: limit: Input should be a valid integer"),
        ("lookup('x', limit='1')", "ToolArgumentError lookup: limit: Input should be a valid integer"),
        ("lookup('x', limit=int('9' * 1000 + '9' * 500) * 10 ** 500)", "ToolArgumentError lookup: arguments of 2,0"),
        ("lookup('x', ['c'])", "ToolArgumentError lookup: kinds: at [0]: Input should be 'a' or 'b'"),
        ("lookup(object())", "ToolArgumentError lookup: Object of type object is not JSON serializable"),
        ("lookup({'a'})", "ToolArgumentError lookup: Object of type set is not JSON serializable"),
        ("add(float('nan'), 1)", "ToolArgumentError add: Out of range float values are not JSON compliant"),
        ("add(True, 1)", "ToolArgumentError add: a: Input should be a valid number"),
        ("lookup('x' * 3000)", "ToolArgumentError lookup: arguments of 3,012 bytes; at most 2,000 are allowed"),
        ("visit({'city': 'x', 'floor': {1: 1, '1': 2}})", "ToolArgumentError visit: the arguments can't be read"),
        ("visit({'city': 'x', 'floor': '1'})", "ToolArgumentError visit: place: at .floor: Input should be a valid"),
        ("broken('bug')", "ToolError broken: it failed: ValueError\n"),
        ("broken('exit')", "ToolError broken: it failed: SystemExit\n"),
        ("broken('words')", "ToolError broken: no such customer\n"),
        ("broken('nan')", "ToolError broken: what it returned is no JSON\n"),
        ("broken('object')", "ToolError broken: what it returned is no JSON\n"),
        ("broken('large')", "ToolError broken: its result has 2,002 bytes; at most 1,000 are allowed\n"),
        ("stuck()", "ToolError stuck: no result within 0.2 s\n"),
    ],
)
async def test_what_does_not_work_is_an_error_in_the_cell_without_words_of_the_host(
    tool_box: LocalBox, call: str, why: str
) -> None:
    got.clear()
    said = await error_of(tool_box, call)
    assert said.startswith(why)
    assert "/etc" not in said
    assert got == [], "no function was called with arguments of another type"


async def test_text_of_a_type_that_poses_as_text_is_plain_text(tool_box: LocalBox) -> None:
    got.clear()
    await tool_box.printed(
        "class S(str):\n    def __repr__(self): return 'evil'\n    def encode(self, *a): return b'evil'\n"
        "lookup(S('plain'))"
    )
    assert got == [("plain", None, 10)]
    assert type(got[0][0]) is str


async def test_calls_from_threads_run_at_once_and_each_gets_its_own_result(tool_box: LocalBox) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(16) as pool: print(list(pool.map(lambda n: add(n, 1), range(100))))"
    )
    assert await tool_box.printed(code) == f"{[n + 1.0 for n in range(100)]}\n"


async def test_a_thread_that_never_returns_holds_its_place_and_no_more_are_started(tool_box: LocalBox) -> None:
    release.clear()
    before = sum(thread.name == "airlock-tool-stuck_thread" for thread in threading.enumerate())
    for _ in range(2):
        assert "no result within 0.2 s" in await error_of(tool_box, "stuck_thread()")
    assert "it is still busy with calls that ran out of time (2)" in await error_of(tool_box, "stuck_thread()")
    assert sum(thread.name == "airlock-tool-stuck_thread" for thread in threading.enumerate()) == before + 2
    release.set()
    until = time.monotonic() + 20
    while (said := await error_of(tool_box, "stuck_thread()")) != "('returned', 'late')\n":
        assert time.monotonic() < until, said


async def test_the_cells_wall_clock_stands_while_a_tool_works(tool_box: LocalBox) -> None:
    release.clear()
    threading.Timer(1.0, release.set).start()
    tool = _tool(stuck_thread, name="slow")
    slow = Host((tool,))
    async with await slow.box().open() as box:
        result = await box.execute("slow()", CellLimits(wall_s=0.5, cpu_s=60))
    assert (result.status, result.result.text) == ("ok", "'late'")


async def test_an_interrupted_cell_does_not_wait_for_its_tool(tool_box: LocalBox) -> None:
    endless = Host((_tool(stuck, name="endless", timeout_s=600),))
    async with await endless.box().open() as box:
        result = await box.execute("endless()", CellLimits(wall_s=0.3, wait_s=0.3, cpu_s=60))
        assert result.status == "interrupted"
        assert isinstance(box, LocalBox)
        assert await box.printed("print(1)") == "1\n"
    (event,) = [event for event in endless.events if event.kind == "tool_call"]
    assert event.facts["error_kind"] == "Cancelled"


async def test_names_that_a_cell_overwrites_work_again_in_the_next(tool_box: LocalBox) -> None:
    await tool_box.printed("add = 'mine'")
    assert await tool_box.value("add(1, 1)") == 2


async def test_limits_are_refused_in_the_cell_and_count_calls_that_were_made() -> None:
    few = Host((_tool(add, max_calls=3), _tool(broken)), max_tool_calls=5)
    async with await few.box().open() as box:
        assert isinstance(box, LocalBox)
        for call in ("add('x', 1)", "add()", "add(1, 1)", "add(1, 1)", "broken('bug')", "add(1, 1)"):
            await error_of(box, call)
        assert await error_of(box, "add(1, 1)") == "LimitExceeded add: 3 of 3 calls used\n"
        assert await error_of(box, "broken('x')") == "('returned', 'x')\n"
        assert await error_of(box, "broken('x')") == "LimitExceeded 5 of 5 tool calls used\n"
    usage = few.ledger.usage(turns=0, wall_s=0)
    assert (usage.tool_calls, usage.refusals) == (5, 3), "what the kernel itself refuses never came here"


async def test_no_tool_can_take_a_name_that_the_namespace_has() -> None:
    functions = (
        *("llm_query", "llm_query_batched", "llm_query_as_completed", "rlm_query", "rlm_query_batched"),
        *("report", "declare_labels"),
    )
    async with await LocalBox(replace(SETTINGS, functions=functions)).open() as box:
        assert isinstance(box, LocalBox)
        names = await box.printed("print(*[name for name in globals() if not name.startswith('_')])")
    assert {"FINAL", "llm_query", "BatchError", "SHOW_VARS"} <= set(names.split())
    for name in [*names.split(), "context", "context_3", "answer"]:
        with pytest.raises(ConfigError, match="means something else in the REPL"):
            _tool(add, name=name)
