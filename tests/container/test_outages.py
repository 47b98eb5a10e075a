"""Whole runs over a real socket, against a server that plays both vendors and their faults: what ends one, what not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Fail, Match, Reply, StreamFault

from orchestrator import RLM, Limits, StopReason
from orchestrator.errors import ProviderError
from orchestrator.result import RunResult
from tests.contract.vendors import ANTHROPIC, KEY, OPENAI, Interface, Vendor

QUESTION = "What do they say?"
ASK = """I ask.

```repl
said = llm_query_batched([f"question {n}" for n in range(6)])
answer = " ".join(said)
```
"""
TRY = """I try.

```repl
try:
    said = llm_query("slow")
except SubCallError as error:
    said = f"{type(error).__name__}: {error}"
answer = llm_query("again") + " | " + said
FINAL_VAR("answer")
```
"""


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=lambda vendor: vendor.name)
async def models(request: pytest.FixtureRequest, llmock: LLMock) -> AsyncIterator[tuple[Interface, Interface]]:
    """A root and a sub-model of one vendor."""
    vendor: Vendor = request.param
    made = [vendor.interface(name, base_url=llmock.base_url(vendor.name), api_key=KEY) for name in ("root", "sub")]
    yield made[0], made[1]
    for llm in made:
        await llm.aclose()


def said_by(model: str, text: str, times: int | None = 1, finish_reason: str | None = None) -> Reply:
    return Reply(text=text, finish_reason=finish_reason, times=times, match=Match(model=model))


def breaks(model: str, kind: Any, **more: Any) -> StreamFault:
    return StreamFault(kind, match=Match(model=model, stream=True), **more)


async def run(models: tuple[Interface, Interface], **limits: Any) -> RunResult:
    return await RLM(*models, limits=Limits(**limits)).arun(QUESTION, "some text")


async def test_a_run_survives_every_passing_fault(models: tuple[Interface, Interface], llmock: LLMock) -> None:
    llmock.add(
        Fail(529, retry_after=0.05, match=Match(model="root")),
        breaks("root", "truncate", after_chunks=2),
        said_by("root", ASK, times=2),
        said_by("root", "FINAL_VAR(answer)"),
        Fail(500, retry_after=0.05, match=Match(model="sub")),
        Fail(503, retry_after=0.05, match=Match(model="sub")),
        breaks("sub", "disconnect"),
        breaks("sub", "malformed"),
        said_by("sub", "so they say", times=None),
    )
    result = await run(models)
    assert result.answer == " ".join(["so they say"] * 6)
    assert (result.stop_reason, result.usage.turns) == (StopReason.ANSWERED, 2)
    assert result.usage.root_calls == 4
    assert result.usage.sub_calls == 10
    assert len(llmock.requests) == 14
    llmock.assert_resilient()


@pytest.mark.parametrize("models", [ANTHROPIC], indirect=True)
async def test_replies_without_code_are_answered_with_what_was_wrong(
    models: tuple[Interface, Interface], llmock: LLMock
) -> None:
    cut_off = "Let me begin.\n\n```repl\nanswer = 'never r"
    llmock.add(
        said_by("root", ""),
        said_by("root", cut_off, finish_reason="length"),
        said_by("root", ASK),
        said_by("root", "I can't help with that.", finish_reason="content_filter"),
        said_by("root", "FINAL_VAR(answer)"),
        said_by("sub", "", times=None, finish_reason="content_filter"),
    )
    result = await run(models)
    assert (result.answer, result.stop_reason) == (" " * 5, StopReason.ANSWERED)
    assert result.usage.turns == 5
    assert [len(turn.cells) for turn in result.turns] == [0, 1, 1, 0, 0]
    assert result.turns[1].cells[0].status == "error", "half of a string is no code"
    asked = [record.body["messages"][-1]["content"] for record in llmock.requests if record.body["model"] == "root"]
    assert "output limit" in str(asked[2])
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("models", [OPENAI], indirect=True)
async def test_a_stalled_sub_call_is_an_error_in_the_cell_and_the_run_goes_on(
    models: tuple[Interface, Interface], llmock: LLMock
) -> None:
    llmock.add(said_by("root", TRY), breaks("sub", "stall", stall_seconds=10.0), said_by("sub", "yes", times=None))
    result = await run(models, max_call_s=2)
    assert result.answer == "yes | ProviderError: the sub-model gave no answer"
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("models", [ANTHROPIC], indirect=True)
async def test_an_outage_of_the_root_ends_the_run_with_what_it_had(
    models: tuple[Interface, Interface], llmock: LLMock
) -> None:
    llmock.add(said_by("root", "I look.\n\n```repl\nlen(context)\n```"))
    rlm = RLM(*models)

    def outage(event: Any) -> None:
        if event.kind == "cell":
            llmock.fail(503, times=None, retry_after=0.02, message=f"down, said {KEY}")

    with pytest.raises(ProviderError, match="503") as caught:
        await rlm.arun(QUESTION, "some text", listeners=[outage])
    assert KEY not in str(caught.value)
    assert caught.value.result is not None
    assert caught.value.result.stop_reason is StopReason.PROVIDER_ERROR
    assert caught.value.result.usage.root_calls == 5
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("models", [OPENAI], indirect=True)
async def test_a_run_survives_the_outage_of_one_vendor(models: tuple[Interface, Interface], llmock: LLMock) -> None:
    down = Match(provider="openai")
    llmock.add(Fail(503, times=None, retry_after=0.02, match=down))
    llmock.add(said_by("other", ASK), said_by("other", "yes", times=6), said_by("other", "FINAL_VAR(answer)"))
    other = ANTHROPIC.interface("other", base_url=llmock.base_url("anthropic"), api_key=KEY)
    result = await RLM(*models, fallback=[other]).arun(QUESTION, "some text")
    await other.aclose()
    assert result.answer == " ".join(["yes"] * 6)
    asked = [record.body["model"] for record in llmock.requests]
    assert asked.count("other") == 8
    assert asked.count("root") == 4, "it was out once, and is left alone for a while"
    llmock.assert_resilient(strict=True)
