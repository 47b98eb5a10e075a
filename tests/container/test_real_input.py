"""The main job on real input, without a language model: scripted roots, real containers.

The scores say that the engine works. They say nothing about any language model.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator import RLM, ScriptedProvider
from orchestrator.providers.base import ModelRequest
from tests.datasets import (
    RULER_SIZES,
    RULER_TASKS,
    BabiQuestion,
    hide_in_filler,
    load_babi,
    load_ruler,
    score_babi,
    score_ruler,
)
from tests.root_scripts import as_reply, babi_cell, babi_sub_model, ruler_cell
from tests.runs import all_shown, script

AT_ONCE = 4


@pytest.mark.parametrize("task", RULER_TASKS)
@pytest.mark.parametrize("size", RULER_SIZES)
async def test_ruler(shared_data: Path, size: str, task: str) -> None:
    samples = load_ruler(shared_data, size, task)
    room = asyncio.Semaphore(AT_ONCE)

    async def score(number: int) -> float:
        sample = samples[number]
        root = script(as_reply(ruler_cell(task, sample.question)), "FINAL_VAR(answer)")
        async with room:
            result = await RLM(root, prompt_mode="no_subcalls").arun(sample.question, sample.context)
        assert sample.context[:200] not in all_shown(root)
        return score_ruler(sample, result.answer or "")

    scores = await asyncio.gather(*map(score, range(len(samples))))
    assert scores == [1.0] * len(samples)


@pytest.mark.parametrize("task", ["qa1", "qa2"])
async def test_babi_in_100_000_lines_of_filler(shared_data: Path, task: str) -> None:
    questions = load_babi(shared_data, task)
    room = asyncio.Semaphore(2)

    async def score(number: int, question: BabiQuestion) -> float:
        context = hide_in_filler(question.facts, lines=100_000, seed=number)
        root = script(as_reply(babi_cell(question.question)), "FINAL_VAR(answer)")
        sub = ScriptedProvider(_answer)
        async with room:
            result = await RLM(root, sub).arun(question.question, context)
        assert result.turns[0].cells[0].output == f"{len(question.facts)} facts in 100000 lines"
        assert [call.prompt for call in result.turns[0].sub_calls] == [question.question]
        return score_babi(question, result.answer or "")

    chosen = list(enumerate(questions[::150]))
    assert await asyncio.gather(*(score(*one) for one in chosen)) == [1.0] * len(chosen)


def _answer(request: ModelRequest) -> str:
    return babi_sub_model(request.messages[-1].content)
