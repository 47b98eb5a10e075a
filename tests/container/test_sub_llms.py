"""Sub-models by name, kept replies and stand-ins, in runs with real boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, Limits, ProviderError, REPLEnvironment, ScriptedProvider, StopReason
from orchestrator.providers.base import ModelRequest
from orchestrator.trace import TraceEvent
from tests.attack.forge import FORGE
from tests.runs import code, run, script


def says(word: str) -> ScriptedProvider:
    return ScriptedProvider(lambda request: f"{word}: {request.messages[-1].content}", name=f"model:{word}")


ASKS = """
print(llm_query("a", model="fast"), llm_query("b"), sep="|")
print(*llm_query_batched(["c", "d"], model=["strong", None]), sep="|")
print(*llm_query_batched(["e", "f"], model="fast"), sep="|")
for name in ("model:fast", "Fast", "root", "\\u202e"):
    try:
        print(llm_query("g", model=name))
    except UnknownModel as error:
        print(error)
"""


async def test_the_roots_code_asks_models_by_name(tmp_path: Path) -> None:
    root = script(code(ASKS), "FINAL(done)")
    fast, strong, sub = says("fast"), says("strong"), says("sub")
    result = await run(root, sub=sub, sub_llms={"fast": fast, "strong": strong}, trace_dir=tmp_path)
    known = "model= is one of 'fast', 'strong', or is left out"
    assert result.turns[0].cells[0].output.splitlines() == [
        "fast: a|sub: b",
        "strong: c|sub: d",
        "fast: e|fast: f",
        f"there is no model 'model:fast'; {known}",
        f"there is no model 'Fast'; {known}",
        f"there is no model 'root'; {known}",
        rf"there is no model '\u202e'; {known}",
    ]
    assert '"fast", "strong"' in root.requests[0].messages[0].content
    assert [len(model.requests) for model in (fast, strong, sub)] == [3, 1, 2]
    assert (result.usage.sub_calls, result.usage.refusals) == (6, 4)
    (trace,) = tmp_path.iterdir()
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    asked = [(event["model"], event["name"]) for event in events if event["kind"] == "sub_call"]
    assert sorted(asked, key=str) == sorted(
        [("model:fast", "fast")] * 3 + [("model:strong", "strong")] + [("model:sub", None)] * 2, key=str
    )
    assert [model["name"] for model in events[0]["models"]] == [None, None, "fast", "strong"]


async def test_a_forged_name_is_refused_and_the_box_lives() -> None:
    """What the wire takes for a name is not yet a model: the refusal is the same as for an honest cell's."""
    forged = FORGE + "ask(query | {'models': ['openai:gpt-6-astra']}, [b'x'])"
    root = script(code(forged), code("print(llm_query('y', model='fast'))"), "FINAL(done)")
    fast = says("fast")
    result = await run(root, sub=fast, sub_llms={"fast": fast})
    assert result.stop_reason is StopReason.ANSWERED
    assert result.turns[1].cells[0].output == "fast: y"
    assert result.turns[0].sub_calls[0].error_kind == "UnknownModel"
    assert (len(fast.requests), result.usage.refusals, result.violations) == (1, 1, ())


async def test_a_child_runs_cells_have_the_same_names() -> None:
    def reply(request: ModelRequest) -> str:
        question = request.messages[1].content
        if "The child's part" in question:
            return code("FINAL(llm_query('deep', model='fast'))")
        return code("FINAL(rlm_query('The child\\'s part', context))")

    fast = says("fast")
    result = await run(ScriptedProvider(reply), sub=says("sub"), sub_llms={"fast": fast}, max_depth=2)
    assert result.answer == "fast: deep"


async def test_replies_are_kept_for_the_next_run_of_the_same_rlm() -> None:
    replies = [code("print(llm_query('What?', data=context[:5]), llm_query('What?', data=context[:5]))"), "FINAL(done)"]
    root, sub = script(*replies, *replies), says("sub")
    rlm = RLM(root, sub, cache="memory", limits=Limits(max_sub_calls=1))
    first, second = [await rlm.arun("Who?", "alpha") for _ in range(2)]
    assert [call.cached for call in first.turns[0].sub_calls] == [False, True]
    assert [call.cached for call in second.turns[0].sub_calls] == [True, True]
    assert len(sub.requests) == 1
    assert [(one.usage.sub_calls, one.usage.cache_hits) for one in (first, second)] == [(1, 1), (0, 2)]
    assert len({call.reply for one in (first, second) for call in one.turns[0].sub_calls}) == 1


async def test_a_run_survives_the_outage_of_its_models_server() -> None:
    def gone(_: ModelRequest) -> Any:
        raise ProviderError("http://10.0.0.7 is gone", provider="model:main", status=402, refused=True)

    main = ScriptedProvider(gone, name="model:main")
    spare = script(code("print(*llm_query_batched([f'{n}' for n in range(50)]))"), *["x"] * 50, "FINAL(done)")
    events: list[TraceEvent] = []
    result = await RLM(main, fallback=[spare]).arun("Who?", "alpha", listeners=[events.append])
    assert (result.answer, result.stop_reason) == ("done", StopReason.ANSWERED)
    assert len(main.requests) == 1, "a dead server is left alone"
    fallbacks = [event.facts for event in events if event.kind == "fallback"]
    assert [(fact["from"], fact["to"], fact["status"]) for fact in fallbacks] == [("model:main", spare.name, 402)]
    assert {call.model for call in result.turns[0].sub_calls} == {spare.name}


async def test_without_a_stand_in_an_outage_ends_the_run() -> None:
    def gone(_: ModelRequest) -> Any:
        raise ProviderError("gone", provider="model:main", status=402, refused=True)

    with pytest.raises(ProviderError):
        await run(ScriptedProvider(gone))


def test_a_repl_alone_has_models_by_name_too() -> None:
    with REPLEnvironment("alpha", says("sub"), sub_llms={"fast": says("fast")}) as repl:
        shown = repl.execute("print(llm_query('a'), llm_query('b', model='fast'), budget()['models'])")
    assert shown.output == "sub: a fast: b ['fast']"
