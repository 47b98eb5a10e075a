"""The readers and scorers of the shared data give what its README counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets import (
    BABI_FILES,
    RULER_SIZES,
    RULER_TASKS,
    hide_in_filler,
    load_babi,
    load_ruler,
    load_trajectories,
    score_babi,
    score_ruler,
)
from tests.root_scripts import RULER_CODE, babi_sub_model


def test_ruler_has_all_its_samples_and_a_script_for_each_task(shared_data: Path) -> None:
    samples = [sample for size in RULER_SIZES for task in RULER_TASKS for sample in load_ruler(shared_data, size, task)]
    assert len(samples) == 105
    assert {sample.task for sample in samples} == set(RULER_TASKS) == set(RULER_CODE)
    for sample in samples:
        assert score_ruler(sample, ", ".join(sample.outputs).upper()) == 1.0
        assert score_ruler(sample, "I don't know.") == 0.0
        assert score_ruler(sample, sample.context) == 0.0, "an answer that repeats the context is refused"


def test_ruler_scores_words_of_cwe_not_parts_of_words(shared_data: Path) -> None:
    sample = load_ruler(shared_data, "64k", "cwe")[0]
    assert score_ruler(sample, " ".join(f"{word}x" for word in sample.outputs)) == 0.0
    assert score_ruler(sample, " ".join(sample.outputs[:5])) == 0.5


@pytest.mark.parametrize("task", ["qa1", "qa2", "qa7", "qa8"])
def test_babi_has_a_thousand_questions_in_200_stories(shared_data: Path, task: str) -> None:
    questions = load_babi(shared_data, task)
    assert len(questions) == 1000
    assert len({question.story for question in questions}) == 200
    assert all(score_babi(question, f" {question.answer.upper()} ") == 1.0 for question in questions)
    assert not any(score_babi(question, "nowhere") for question in questions)


def test_babi_lists_are_compared_as_sets(shared_data: Path) -> None:
    question = next(question for question in load_babi(shared_data, "qa8") if "," in question.answer)
    assert score_babi(question, ",".join(reversed(question.answer.split(",")))) == 1.0


@pytest.mark.parametrize("task", BABI_FILES)
def test_the_scripted_sub_model_knows_every_answer(shared_data: Path, task: str) -> None:
    for question in load_babi(shared_data, task):
        facts = "\n".join(question.facts)
        assert score_babi(question, babi_sub_model(f"{facts}\n\n{question.question}")) == 1.0


def test_filler_keeps_the_facts_in_order(shared_data: Path) -> None:
    facts = load_babi(shared_data, "qa2")[7].facts
    lines = hide_in_filler(facts, lines=5_000, seed=3).split("\n")
    assert len(lines) == 5_000
    assert tuple(line for line in lines if line in facts) == facts
    assert lines == hide_in_filler(facts, lines=5_000, seed=3).split("\n")
    assert lines != hide_in_filler(facts, lines=5_000, seed=4).split("\n")


def test_the_recorded_runs_have_the_events_and_cells_that_the_readme_counts(shared_data: Path) -> None:
    events = load_trajectories(shared_data)
    assert len(events) == 98
    assert sum(event.is_cell for event in events) == 77
    assert sum(event.is_cell and event.failed for event in events) == 2
    assert max(event.depth for event in events) == 3
