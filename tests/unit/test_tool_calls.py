"""Calls of tools without a box: limits and places, a tree's one account, what is recorded, a process that ends."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import LimitExceeded, Limits, Tool
from orchestrator.ledger import Ledger
from orchestrator.recorder import Recorder
from orchestrator.tool_calls import Toolbox, ToolCalls
from orchestrator.trace import TraceEvent
from sandbox.messages import SubCallFailure
from tests.conftest import REPOSITORY


def lookup(name: str, limit: int = 10) -> list[str]:
    return [name] * limit


def _tool(function: Callable[..., Any] = lookup, **given: Any) -> Tool:
    return Tool(function, **{"takes_hostile_arguments": True} | given)


def _calls(tools: list[Tool], ledger: Ledger, events: list[TraceEvent] | None = None, depth: int = 0) -> ToolCalls:
    recorder = Recorder([(events if events is not None else []).append])
    return ToolCalls(toolbox=Toolbox(tools), ledger=ledger, recorder=recorder, depth=depth)


async def test_a_childs_calls_count_against_its_parent() -> None:
    parent = Ledger(Limits(max_tool_calls=3))
    calls = _calls([_tool()], Ledger(Limits(max_tool_calls=3), parent))
    for _ in range(2):
        assert await calls.handle("lookup", b'{"name": "x", "limit": 1}') == '["x"]'
    parent.add_tool_call()
    assert await calls.handle("lookup", b'{"name": "x"}') == SubCallFailure("LimitExceeded", "3 of 3 tool calls used")
    with pytest.raises(LimitExceeded):
        parent.check_tool_call()
    assert calls.budget() == {"tool_calls": 0}


async def test_no_number_of_calls_at_once_passes_a_limit() -> None:
    running, most, made = 0, 0, 0

    async def work(name: str) -> str:
        nonlocal running, most, made
        running, made = running + 1, made + 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return name

    ledger = Ledger(Limits(max_tool_calls=40))
    calls = _calls([_tool(work, concurrency=3, max_calls=30), _tool(work, name="other", concurrency=3)], ledger)
    names = ["work", "other"] * 100
    answers = await asyncio.gather(*(calls.handle(name, b'{"name": "x"}') for name in names))
    assert (made, most, ledger.tool_calls) == (40, 6, 40)
    assert sum(answer == '"x"' for answer in answers) == 40
    assert ledger.refusals == 160


async def test_a_run_that_is_over_calls_nothing() -> None:
    calls = _calls([_tool()], Ledger(Limits(max_wall_s=0.001)))
    await asyncio.sleep(0.01)
    answer = await calls.handle("lookup", b'{"name": "x"}')
    assert isinstance(answer, SubCallFailure)
    assert answer.kind == "LimitExceeded"


async def test_the_trace_says_sizes_and_the_caller_alone_reads_the_tools_own_words() -> None:
    def fail(name: str) -> str:
        raise KeyError("/etc/secret " + name)

    events: list[TraceEvent] = []
    calls = _calls([_tool(fail), _tool()], Ledger(Limits()), events)
    answer = await calls.handle("fail", b'{"name": "document text"}')
    assert answer == SubCallFailure("ToolError", "fail: it failed: KeyError")
    await calls.handle("lookup", b'{"name": "document text", "limit": 1}')
    await calls.handle("lookup", b"{" + b"x" * 5_000)
    failed, fine, refused = events
    assert [event.facts["error_kind"] for event in events] == ["ToolError", None, "ToolArgumentError"]
    assert [event.facts["called"] for event in events] == [True, True, False]
    assert fine.facts | {"wall_s": 0, "left": 0} == {
        "turn": 0,
        "tool": "lookup",
        "depth": 0,
        "called": True,
        "argument_bytes": 37,
        "result_bytes": 17,
        "error_kind": None,
        "wall_s": 0,
        "left": 0,
    }
    assert "document text" not in str([event.facts for event in events])
    assert fine.texts == {"arguments": '{"name": "document text", "limit": 1}', "result": '["document text"]'}
    assert "/etc/secret document text" in failed.texts["error"]
    assert (refused.facts["argument_bytes"], len(refused.texts["arguments"])) == (5_001, 200)


async def test_a_flood_of_wrong_calls_is_counted_and_little_of_it_kept() -> None:
    events: list[TraceEvent] = []
    ledger = Ledger(Limits())
    calls = _calls([_tool()], ledger, events)
    for _ in range(300):
        await calls.handle("lookup", b"{}")
    assert (len(events), ledger.refusals, ledger.tool_calls) == (100, 300, 0)


async def test_an_async_call_that_swallows_its_cancellation_holds_its_place_and_not_the_run() -> None:
    ended = asyncio.Event()

    async def deaf(name: str) -> str:
        while not ended.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ended.wait()
        return name

    calls = _calls([_tool(deaf, timeout_s=0.05, concurrency=1)], Ledger(Limits()))
    first = await calls.handle("deaf", b'{"name": "x"}')
    assert first == SubCallFailure("ToolError", "deaf: no result within 0.05 s")
    second = await calls.handle("deaf", b'{"name": "x"}')
    assert second == SubCallFailure("ToolError", "deaf: it is still busy with calls that ran out of time (1)")
    ended.set()
    while (answer := await calls.handle("deaf", b'{"name": "x"}')) != '"x"':
        assert isinstance(answer, SubCallFailure)
        await asyncio.sleep(0.01)


async def test_a_cancelled_call_is_recorded_and_gives_its_place_back() -> None:
    events: list[TraceEvent] = []
    started = asyncio.Event()

    async def work(name: str) -> str:
        started.set()
        if name == "long":
            await asyncio.Event().wait()
        return name

    calls = _calls([_tool(work, concurrency=1)], Ledger(Limits()), events)
    call = asyncio.create_task(calls.handle("work", b'{"name": "long"}'))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert events[0].facts["error_kind"] == "Cancelled"
    assert await calls.handle("work", b'{"name": "x"}') == '"x"'


STUCK = """
import asyncio, threading
from orchestrator import Limits, Tool
from orchestrator.ledger import Ledger
from orchestrator.recorder import Recorder
from orchestrator.tool_calls import Toolbox, ToolCalls

def stuck() -> None:
    threading.Event().wait()

box = Toolbox([Tool(stuck, takes_hostile_arguments=True, timeout_s=0.05)])
calls = ToolCalls(toolbox=box, ledger=Ledger(Limits()), recorder=Recorder(), depth=0)
print(asyncio.run(calls.handle("stuck", b"{}")).kind)
"""


def test_a_plain_function_that_never_returns_does_not_hold_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("ToolError\n", "")


@pytest.mark.parametrize("error", [SystemExit(2), GeneratorExit(), BaseException("a word")])
async def test_an_async_tool_that_would_end_the_process_fails_alone(error: BaseException) -> None:
    async def parse(words: str) -> str:
        raise error

    answer = await _calls([_tool(parse)], Ledger(Limits())).handle("parse", b'{"words": "--help"}')
    assert answer == SubCallFailure("ToolError", f"parse: it failed: {type(error).__name__}")
