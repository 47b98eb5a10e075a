"""`RLM` from outside: sub-calls, users' own models, where it can be called from, and what it gives back."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator import (
    RLM,
    RLM_NO_SUBCALLS_PROMPT,
    RLM_SYSTEM_PROMPT,
    RLM_SYSTEM_PROMPT_CONSERVATIVE,
    ConfigError,
    ContextError,
    Limits,
    ProviderError,
    ScriptedProvider,
    Trajectory,
)
from orchestrator.providers.base import LLMInterface, ModelRequest
from orchestrator.trace import TraceEvent
from tests.runs import boxes_left, code, run, script, shown


def echo() -> ScriptedProvider:
    return ScriptedProvider(lambda request: request.messages[-1].content)


# --- sub-calls ---


async def test_sub_calls_are_answered_and_belong_to_their_cell() -> None:
    asks = (
        "one = llm_query('first?')\n"
        "more = llm_query_batched(['second?', 'third?'], data=[None, context[:5]])\n"
        "print(one, more[0], more[1].splitlines()[1], more[1].splitlines()[-1])"
    )
    root = script(code(asks), code("llm_query_batched(queries=['fourth?'])"), "FINAL(x)")
    sub = echo()
    result = await run(root, sub=sub)
    assert result.turns[0].cells[0].output == "first? second? alpha third?"
    by_cell = [sorted(call.prompt for call in turn.sub_calls) for turn in result.turns]
    assert by_cell == [["first?", "second?", "third?"], ["fourth?"], []]
    assert (result.usage.sub_calls, result.usage.root_calls, len(sub.requests)) == (4, 3, 4)
    assert {call.data for call in result.turns[0].sub_calls} == {None, "alpha"}


async def test_the_sub_model_is_the_root_by_default() -> None:
    both = script(code("print(llm_query('x'))"), "the sub-answer", "FINAL(done)")
    result = await run(both)
    assert result.turns[0].cells[0].output == "the sub-answer"
    assert result.turns[0].sub_calls[0].model == both.name


async def test_failures_are_exceptions_that_the_roots_code_can_catch() -> None:
    asks = """
for ask in (lambda: llm_query("fail"), lambda: llm_query("x" * 101), lambda: llm_query("ok"), lambda: llm_query("ok")):
    try:
        print(ask())
    except SubCallError as error:
        print(type(error).__name__, "|", error)
"""

    def answer(request: ModelRequest) -> str:
        if request.messages[-1].content == "fail":
            raise ZeroDivisionError
        return "fine"

    root = script(code(asks), "FINAL(x)")
    result = await run(root, sub=ScriptedProvider(answer), limits=Limits(max_sub_calls=2, max_prompt_bytes=100))
    assert result.turns[0].cells[0].output.splitlines() == [
        "ProviderError | the sub-model gave no answer",
        "PromptTooLarge | a prompt of 101 bytes; at most 100 are allowed",
        "fine",
        "LimitExceeded | 2 of 2 sub-calls used",
    ]
    assert "ZeroDivisionError" in (result.turns[0].sub_calls[0].error or ""), "the caller sees the provider's own words"


async def test_a_batch_that_fails_in_part_keeps_what_it_has() -> None:
    asks = """
try:
    llm_query_batched([f"q{n}" for n in range(150)])
except BatchError as error:
    good = [r for r in error.results if isinstance(r, str)]
    bad = [r for r in error.results if isinstance(r, LimitExceeded)]
    print(len(good), len(bad), bad[0])
kept = llm_query_batched(["late"], return_exceptions=True)
print(type(kept[0]).__name__)
"""
    root, sub = script(code(asks), "FINAL(x)"), echo()
    result = await run(root, sub=sub)
    assert result.turns[0].cells[0].output.splitlines() == ["100 50 100 of 100 sub-calls used", "LimitExceeded"]
    assert (result.usage.sub_calls, result.usage.refusals, len(sub.requests)) == (100, 51, 100)
    assert "0 sub-questions" in shown(root)


async def test_an_uncaught_failure_ends_the_cell_and_is_shown() -> None:
    root = script(code("llm_query('x')\nprint('not reached')"), "FINAL(x)")
    result = await run(root, sub=echo(), limits=Limits(max_sub_calls=0))
    assert result.turns[0].cells[0].status == "error"
    assert "LimitExceeded: 0 of 0 sub-calls used" in shown(root)
    assert "not reached" not in shown(root).split("[error")[0]


async def test_no_more_calls_at_once_than_allowed() -> None:
    busy, most = 0, 0

    async def think(_: ModelRequest) -> str:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1
        return "yes"

    root = script(code("FINAL(len(llm_query_batched(['x'] * 60)))"))
    result = await run(root, sub=ScriptedProvider(think), limits=Limits(max_concurrency=5))
    assert (result.answer, most) == ("60", 5)


# --- prompts and modes ---


@pytest.mark.parametrize(
    ("settings", "prompt"),
    [
        ({}, RLM_SYSTEM_PROMPT),
        ({"prompt_mode": "conservative"}, RLM_SYSTEM_PROMPT_CONSERVATIVE),
        ({"prompt_mode": "no_subcalls"}, RLM_NO_SUBCALLS_PROMPT),
        ({"max_depth": 0}, RLM_NO_SUBCALLS_PROMPT),
        ({"system_prompt": "Mine."}, "Mine."),
        ({"system_prompt": "", "prompt_mode": "conservative"}, ""),
    ],
)
async def test_the_system_prompt_and_the_functions_fit_the_mode(settings: dict[str, Any], prompt: str) -> None:
    root = script(code("FINAL(sorted(name for name in dir() if name.startswith('llm_')))"))
    result = await run(root, **settings)
    assert root.requests[0].messages[0].content == prompt
    without = settings.get("prompt_mode") == "no_subcalls" or settings.get("max_depth") == 0
    assert json.loads(result.answer or "") == (
        [] if without else ["llm_query", "llm_query_as_completed", "llm_query_batched"]
    )
    assert ("sub-question" in shown(root)) is not without


def test_conservative_is_standard_and_one_paragraph() -> None:
    assert RLM_SYSTEM_PROMPT_CONSERVATIVE.startswith(RLM_SYSTEM_PROMPT)
    more = RLM_SYSTEM_PROMPT_CONSERVATIVE.removeprefix(RLM_SYSTEM_PROMPT)
    assert len(more.strip().split("\n\n")) == 1
    assert "llm_query" not in RLM_NO_SUBCALLS_PROMPT


# --- users' own models ---


class Mine(LLMInterface):
    """A user's model: blocking, two methods."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[str, str | None]] = []
        self.threads: set[int] = set()

    def query(self, prompt: str, system_prompt: str | None = None) -> str:
        self.asked.append((prompt, system_prompt))
        self.threads.add(threading.get_ident())
        time.sleep(0.01)
        return self.replies.pop(0)

    def get_model_info(self) -> dict[str, Any]:
        return {"provider": "mine", "model": "tiny"}


async def test_a_users_blocking_model_is_root_and_sub() -> None:
    root, sub = Mine(code("print(llm_query('Who?', data=context[:5]))"), "FINAL(x)"), Mine("Alice")
    result = await run(root, sub=sub, question="The question?")
    assert (result.answer, result.turns[0].cells[0].output) == ("x", "Alice")
    assert result.usage.estimated_tokens == result.usage.total_tokens > 0
    assert threading.get_ident() not in root.threads | sub.threads
    assert "The question?" in root.asked[0][0]
    assert root.asked[0][1] == RLM_SYSTEM_PROMPT
    assert "Alice" in root.asked[1][0]
    assert sub.asked[0][0].endswith("Who?")
    assert result.turns[0].sub_calls[0].model == "mine:tiny"


async def test_a_users_model_that_fails_is_a_provider_error() -> None:
    with pytest.raises(ProviderError, match=r"mine:tiny: query\(\) failed: IndexError"):
        await run(Mine())


# --- where it can be called from ---


def test_query_returns_answer_and_trajectory() -> None:
    events: list[TraceEvent] = []
    root = script(code("x = llm_query('q')\nprint('shown')"), "FINAL_VAR(x)")
    answer, trajectory = RLM(root, echo()).query("What?", "context")
    assert (answer, events) == ("q", [])
    assert isinstance(trajectory, Trajectory)
    first, second = trajectory
    assert (first.response, second.response) == (root.requests[1].messages[2].content, "FINAL_VAR(x)")
    assert (first.cells[0].code, first.cells[0].output) == ("x = llm_query('q')\nprint('shown')", "shown")
    assert [call.reply for call in trajectory.sub_calls] == ["q"]
    assert trajectory.stop_reason == "answered"
    saved = json.loads(trajectory.to_json())
    assert saved == trajectory.to_dict()
    assert saved["isolation"] == "container"
    assert saved["turns"][0]["cells"][0]["sub_calls"][0]["prompt"] == "q"


async def test_query_works_inside_of_a_running_event_loop() -> None:
    answer, _ = RLM(script("FINAL(x)")).query("What?", "context")
    assert answer == "x"


def test_verbose_prints_to_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    RLM(script(code("print('shown')"), "FINAL(x)")).query("What?", "context", verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "turn 1" in err
    assert "answered" in err


def test_two_runs_at_once_in_threads_do_not_meet() -> None:
    def ask(name: str) -> str | None:
        root = script(code(f"mine = context\nprint(llm_query('{name}'))"), code("FINAL(mine)"))
        answer, trajectory = RLM(root, echo()).query("What?", f"the context of {name}")
        assert [call.prompt for call in trajectory.sub_calls] == [name]
        assert trajectory.usage.sub_calls == 1
        return answer

    names = ["a", "b", "c", "d"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, names)) == [f"the context of {name}" for name in names]
    assert boxes_left() == []


async def test_two_runs_at_once_may_have_the_same_document() -> None:
    begun, other_is_over = asyncio.Event(), asyncio.Event()

    async def think(request: ModelRequest) -> str:
        if len(request.messages) > 2:
            return code("FINAL(len(context))")
        begun.set()
        await other_is_over.wait()
        return code("import os\nos._exit(1)")

    first = asyncio.create_task(run(ScriptedProvider(think), context="the same document"))
    await begun.wait()
    assert (await run(script("FINAL(x)"), context="the same document")).answer == "x"
    other_is_over.set()
    assert (await first).answer == "17"


def test_one_rlm_can_be_used_again_and_again() -> None:
    rlm = RLM(ScriptedProvider(lambda request: code("FINAL(len(context))")))
    assert [rlm.query("What?", "x" * size)[0] for size in (1, 20)] == ["1", "20"]


async def test_listeners_hear_the_run() -> None:
    heard: list[str] = []
    rlm = RLM(script(code("llm_query('x')"), "FINAL(x)"), echo())
    await rlm.arun("What?", "context", listeners=[lambda event: heard.append(event.kind)])
    kinds = [kind for kind in heard if kind not in ("setup", "box", "token", "output", "budget")]
    assert kinds == [
        "run_start",
        "turn",
        "cell_start",
        "sub_call_start",
        "sub_call",
        "cell",
        "turn",
        "answer",
        "run_end",
    ]


# --- what is refused before anything starts ---


@pytest.mark.parametrize(
    ("context", "named"),
    [
        (["a", 5], r"context\[1\].* of type int"),
        (["a", None, "b"], r"context\[1\].* of type NoneType"),
        (("a", b"b"), r"context\[1\].* of type bytes"),
        (b"bytes", "decode it"),
        (5, "of type int is no string"),
        ({"a": {1, 2}}, r"context\['a'\]: of type set"),
        ({5: "a"}, "key 5 is of type int"),
        (Path("/nonexistent/document.txt"), "no such file"),
    ],
)
async def test_a_context_of_a_wrong_kind_is_refused(context: Any, named: str) -> None:
    root = script("FINAL(x)")
    with pytest.raises(ContextError, match=named) as caught:
        await run(root, context=context)
    assert caught.value.result is None
    assert root.requests == []


@pytest.mark.parametrize("question", ["", "  \n", None, 5])
async def test_a_question_is_a_text(question: Any) -> None:
    with pytest.raises(ConfigError, match="is not a question"):
        await run(script("FINAL(x)"), question=question)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"prompt_mode": "eager"}, "prompt_mode: 'eager' is none of standard, conservative, no_subcalls"),
        ({"max_iterations": 0}, r"Limits.max_turns: 0"),
        ({"max_depth": 17}, r"Limits.max_depth: 17"),
        ({"max_output_length": 10}, r"Limits.max_output_chars: 10"),
        ({"max_iterations": 3, "limits": Limits(max_turns=4)}, "contradicts"),
    ],
)
def test_a_wrong_setting_is_refused_at_construction(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        RLM(script("FINAL(x)"), **settings)


def test_a_model_is_needed() -> None:
    with pytest.raises(ConfigError, match="is not a model"):
        RLM("gpt-5.5")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is not a model"):
        RLM(script("FINAL(x)"), "gpt-5.5")  # type: ignore[arg-type]


async def test_a_question_with_lone_surrogates_is_no_reason_to_fail() -> None:
    result = await run(script("FINAL(x)"), question="What is \ud800?")
    assert result.answer == "x"
