"""The sets solved by recursion: runs split their context among child runs, down to depth 1, 2 and 3.

The scores say that the engine works. They say nothing about any language model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import RLM, Limits, RunResult, ScriptedProvider, StopReason
from orchestrator.limits import UNLIMITED
from tests.child_roots import Task, babi, count_labels, ruler
from tests.datasets import BABI_FILES, RULER_TASKS, hide_in_filler, load_babi, load_ruler, score_babi, score_ruler
from tests.runs import boxes_left

pytestmark = pytest.mark.timeout(1800)

FANS = {1: (2,), 2: (2, 1), 3: (2, 1, 1)}
"""Child runs that each run starts, by the depth of the deepest."""


def cases(names: tuple[str, ...], short: dict[str, int]) -> list[object]:
    """Every name at every depth; those that are not in `short` are for the long form."""
    return [
        pytest.param(name, depth, marks=() if short.get(name) == depth else pytest.mark.long)
        for name in names
        for depth in FANS
    ]


async def solve(task: Task, context: str) -> RunResult:
    """One tree of runs; it has all the children that it should, as deep as it should, and leaves no box."""
    limits = Limits(max_depth=task.max_depth, max_boxes=2, max_sub_calls=1000, max_tokens=UNLIMITED)
    rlm = RLM(ScriptedProvider(task.root), ScriptedProvider(task.sub), limits=limits)
    result = await rlm.arun(task.question, context)
    assert result.stop_reason is StopReason.ANSWERED
    depths = [depth for depth, _ in below(result)]
    assert max(depths, default=0) == len(task.fan)
    assert len(depths) == task.children
    assert result.usage.root_calls == 1
    assert boxes_left() == []
    return result


def below(result: RunResult, depth: int = 1) -> Iterator[tuple[int, RunResult]]:
    """All child runs of a run, each with its depth."""
    for call in (call for turn in result.turns for call in turn.sub_calls if call.child):
        assert call.child
        yield depth, call.child
        yield from below(call.child, depth + 1)


@pytest.mark.parametrize("fan", [(), (3,), (2, 2), (2, 1, 2)], ids=lambda fan: f"depth {len(fan)}")
async def test_a_thousand_labelled_lines_are_counted(fan: tuple[int, ...]) -> None:
    labels = ("person", "place", "number", "animal")
    rng = random.Random(7)
    known = {f"User {rng.randrange(10**6)} asks: question {n}": rng.choice(labels) for n in range(1000)}
    task = count_labels(known, fan)
    result = await solve(task, "\n".join(known))
    counts = {label: list(known.values()).count(label) for label in labels}
    most = max(labels, key=counts.__getitem__)
    assert result.answer == f"{most} {counts[most]} of 1000"
    pieces = result.usage.sub_calls - task.children
    assert pieces >= 30, "the children's roots are sub-calls too, the rest are the sub-model's"


@pytest.mark.parametrize(("name", "depth"), cases(RULER_TASKS, {"cwe": 1, "vt": 2, "niah_multikey_3": 3}))
async def test_ruler(shared_data: Path, name: str, depth: int, repeats: Callable[[int], int]) -> None:
    samples = [load_ruler(shared_data, "64k", name)[number] for number in range(0, 15, 15 // repeats(5))]
    if repeats(10) == 10:
        samples += load_ruler(shared_data, "512k", name)[:1]
    for sample in samples:
        result = await solve(ruler(name, sample.question, FANS[depth]), sample.context)
        assert score_ruler(sample, result.answer or "") == 1.0, sample.id


@pytest.mark.parametrize(("name", "depth"), cases(tuple(BABI_FILES), {"qa8": 1, "qa7": 2, "qa2": 3}))
async def test_babi(shared_data: Path, name: str, depth: int, repeats: Callable[[int], int]) -> None:
    questions = load_babi(shared_data, name)
    for number in range(0, 1000, 1000 // repeats(10)):
        question = questions[number]
        context = hide_in_filler(question.facts, lines=2_000, seed=number)
        result = await solve(babi(question.question, FANS[depth]), context)
        assert score_babi(question, result.answer or "") == 1.0, number
