"""Child runs in real boxes: depth, the shared account, boxes that wait for each other, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, Limits, ScriptedProvider
from orchestrator.providers.base import ModelRequest
from orchestrator.result import RunResult, StopReason
from orchestrator.trace import TraceEvent
from sandbox.engine import LABEL, Engine
from sandbox.host import shared_host
from sandbox.owner import owner_label
from sandbox.store import state_dir

Reply = Callable[[str, int], str]
"""The root's reply to a question, given how many it has given before."""


def root(*rules: tuple[str, str]) -> ScriptedProvider:
    """A root at every depth: the code of the first rule whose words stand in the question."""

    def reply(request: ModelRequest) -> str:
        asked = next(message.content for message in request.messages if message.role == "user")
        code = next(code for words, code in rules if words in asked)
        return f"```repl\n{code}\n```"

    return ScriptedProvider(reply)


DOWN = """
try:
    below = rlm_query("go down", context)
except SubCallError as error:
    below = type(error).__name__
FINAL("1 " + below)
"""


async def run(model: ScriptedProvider, question: str, context: Any = "a document", **more: Any) -> RunResult:
    limits = {name: more.pop(name) for name in list(more) if name.startswith("max_")}
    return await RLM(model, limits=Limits(**limits), **more).arun(question, context)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
async def test_a_tree_is_as_deep_as_it_may_be_and_ends_with_one_cell_at_a_time(depth: int) -> None:
    result = await run(root(("go down", DOWN)), "go down", max_depth=depth, max_boxes=1)
    assert result.answer == "1 " * depth + "LimitExceeded"
    assert result.usage.root_calls == 1
    assert result.usage.sub_calls == depth - 1, "to the first run, its children's roots are sub-models"


async def test_children_at_once_wait_for_their_turn_and_answer_in_order() -> None:
    code = 'FINAL(" ".join(rlm_query_batched([f"say {n}" for n in range(6)], [str(n) for n in range(6)])))'
    model = root(("many", code), ("say", "FINAL(context)"))
    result = await run(model, "many", max_depth=2, max_boxes=1)
    assert result.answer == "0 1 2 3 4 5"


CONTEXTS = {
    "a long text": "'a\\ud800é🦜\\r\\n' * 700_000",
    "an empty text": "''",
    "a list": "['a', 'b'] * 1000",
    "a dict": "{'k': [1, 2.5, None, True, {'x': 'y'}]}",
    "nothing": "None",
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS.keys())
async def test_a_context_arrives_as_it_was(context: str) -> None:
    top = (
        f"import hashlib\nvalue = {context}\nmine = hashlib.sha256(repr(value or '').encode('utf-8', 'replace'))\n"
        "FINAL(str(rlm_query('digest', value) == mine.hexdigest()))"
    )
    below = "import hashlib\nFINAL(hashlib.sha256(repr(context).encode('utf-8', 'replace')).hexdigest())"
    result = await run(root(("compare", top), ("digest", below)), "compare", max_depth=2)
    assert result.answer == "True"


@pytest.mark.parametrize("context", ["42", "{1: 2}", "[1, 2]", "{'a': float('nan')}"])
async def test_what_is_no_context_is_an_error_in_the_parents_cell(context: str) -> None:
    code = f"try:\n    rlm_query('x', {context})\nexcept (TypeError, ValueError) as e:\n    FINAL(type(e).__name__)"
    result = await run(root(("top", code)), "top", max_depth=2)
    assert result.answer in {"TypeError", "ValueError"}
    assert result.usage.sub_calls == 0


async def test_at_the_depths_limit_it_raises_or_asks_the_sub_model() -> None:
    code = "try:\n    said = rlm_query('what?', 'some data')\nexcept LimitExceeded as e: said = str(e)\nFINAL(said)"
    result = await run(root(("top", code)), "top")
    assert "max_depth" in (result.answer or "")
    sub = ScriptedProvider(lambda request: "it was asked" if "some data" in request.messages[-1].content else "?")
    rlm = RLM(root(("top", code)), sub, on_depth_limit="llm_query")
    assert (await rlm.arun("top", "x")).answer == "it was asked"


async def test_a_forged_child_is_refused_by_the_host() -> None:
    forged = (
        "import uuid\nhost = llm_query.__self__._host\nhost_says = host._ask('child', [(0, [b'go'])], uploads=[None])\n"
        "FINAL(str(list(host_says)[0][1]))"
    )
    result = await run(root(("top", forged)), "top")
    assert "max_depth is 1" in (result.answer or "")
    assert result.usage.refusals == 1


async def test_where_no_child_may_start_no_context_is_taken() -> None:
    forged = (
        "host = llm_query.__self__._host\nupload = host._upload('text', b'x' * 3_000_000)\n"
        "FINAL(str(list(host._ask('child', [(0, [b'go'])], uploads=[upload]))[0][1]))"
    )
    result = await run(root(("top", forged)), "top")
    assert result.answer == "the context never came"


async def test_a_child_that_fails_is_an_error_that_names_its_reason() -> None:
    code = "try:\n    rlm_query('silent', '')\nexcept ChildRunFailed as error:\n    FINAL(str(error))"

    def reply(request: ModelRequest) -> str:
        return "hm" if "silent" in request.messages[1].content else f"```repl\n{code}\n```"

    result = await run(ScriptedProvider(reply), "top", max_depth=2)
    assert result.answer == "the child run ended without an answer: no_progress"
    (call,) = result.turns[0].sub_calls
    assert call.child is not None
    assert call.child.stop_reason is StopReason.NO_PROGRESS
    assert len(call.child.turns) == 3


async def test_children_spend_their_ancestors_budget() -> None:
    code = (
        "said = rlm_query_batched(['leaf'] * 6, return_exceptions=True)\n"
        "FINAL(' '.join(type(one).__name__ for one in said))"
    )
    result = await run(root(("top", code), ("leaf", "FINAL('x')")), "top", max_depth=2, max_sub_calls=4, max_boxes=1)
    kinds = (result.answer or "").split()
    assert kinds.count("str") == 4
    assert result.usage.sub_calls == 4


async def test_one_box_too_many_is_refused_and_does_not_wait() -> None:
    result = await run(root(("go down", DOWN)), "go down", max_depth=4, max_live_boxes=2)
    assert result.answer == "1 1 LimitExceeded"


async def test_who_can_pay_no_call_starts_no_box_and_fills_no_trace() -> None:
    events: list[TraceEvent] = []
    code = "said = rlm_query_batched(['leaf'] * 400, return_exceptions=True)\nFINAL(type(said[-1]).__name__)"
    model = root(("top", code), ("leaf", "FINAL('x')"))
    for limits in (Limits(max_depth=2, max_sub_calls=0), Limits(max_depth=2, max_live_boxes=1)):
        events.clear()
        result = await RLM(model, limits=limits).arun("top", "x", listeners=[events.append])
        assert result.answer == "LimitExceeded"
        assert result.usage.refusals == 400
        kinds = [event.kind for event in events]
        assert kinds.count("box") == 1
        assert kinds.count("child_start") == 0
        assert kinds.count("refusal") == 100


async def test_contexts_beyond_the_stores_limit_are_refused_and_leave_nothing() -> None:
    code = (
        "said = []\nfor size in (1_000_000, 3_000_000, 1_000_000):\n"
        "    try: said.append(rlm_query('leaf', 'x' * size))\n"
        "    except LimitExceeded as error: said.append('refused')\nFINAL(' '.join(said))"
    )
    model = root(("top", code), ("leaf", "FINAL(str(len(context)))"))
    result = await run(model, "top", max_depth=2, max_store_bytes=2_000_000)
    assert result.answer == "1000000 refused 1000000"
    assert await blobs() == []


async def blobs() -> list[Path]:
    """All files in this process's stores."""
    return [path for path in (state_dir() / "store").rglob("*") if path.is_file()]


async def mine(engine: Engine) -> set[str]:
    """The boxes of this process; others of the engine come and go."""
    return {box["Id"] for box in await engine.list_boxes() if box["Labels"][LABEL] == owner_label()}


async def test_cancelling_a_run_ends_its_children_and_their_boxes() -> None:
    model = root(("top", "rlm_query('sleep', 'deep' * 100)"), ("sleep", "import time\ntime.sleep(600)"))
    asleep = asyncio.Event()

    def listen(event: TraceEvent) -> None:
        if event.kind == "cell_start" and event.facts.get("run"):
            asleep.set()

    rlm = RLM(model, limits=Limits(max_depth=2))
    task = asyncio.create_task(rlm.arun("top", "x", listeners=[listen]))
    await asleep.wait()
    engine = (await shared_host(print)).engine
    before = await mine(engine)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(before - await mine(engine)) >= 2, "the run's box and its child's"
    assert await blobs() == []


async def test_a_cell_whose_time_is_over_ends_its_children() -> None:
    model = root(("top", "rlm_query('sleep', 'x')"), ("sleep", "import time\ntime.sleep(600)"))
    rlm = RLM(model, limits=Limits(max_depth=2, cell_wall_s=1, cell_wait_s=0, max_turns=3))
    result = await rlm.arun("top", "x")
    assert result.stop_reason is StopReason.TURN_LIMIT
    assert result.turns[0].cells[0].status == "interrupted"


async def test_a_quarantine_has_no_children() -> None:
    code = "report(has=('rlm_query' in globals()))\nFINAL('done')"
    result = await RLM(root(("top", code)), limits=Limits(max_depth=3), observe="typed").arun("top", "x")
    assert result.answer == "done"
    assert result.turns[0].values in ([("has", False)], [])


async def test_events_and_the_result_tell_whose_they_are() -> None:
    events: list[TraceEvent] = []
    model = root(("go down", DOWN))
    result = await RLM(model, limits=Limits(max_depth=3)).arun("go down", "x", listeners=[events.append])
    kinds = [(event.kind, event.facts.get("run"), event.facts.get("run_depth")) for event in events]
    assert [kind for kind in kinds if kind[0].startswith("child")] == [
        ("child_start", 1, 1),
        ("child_start", 2, 2),
        ("child_end", 2, 2),
        ("child_end", 1, 1),
    ]
    assert kinds[0][0] == "run_start"
    assert kinds[-1][0] == "run_end"
    child = result.turns[0].sub_calls[0].child
    assert child is not None
    assert child.turns[0].sub_calls[0].child is not None
    assert child.documents[0].size_bytes == 1
