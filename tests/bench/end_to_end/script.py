"""The bAbI task as both sides are given it: contexts, questions, and a model that is played by rules.

Of the standard library alone: peers' Pythons import it. The same replies work in the peer's REPL and in ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.datasets import hide_in_filler, load_babi
from tests.root_scripts import as_reply, babi_sub_model

CALLS = 3
"""Of a model in each run: the root twice, and the sub-model once."""
CELLS = 2
LINES = 20_000
_QUESTION = re.compile(r"Where is \w+\s*\?")
_FIND = """\
people = ("Daniel", "John", "Mary", "Sandra")
facts = [line for line in context.splitlines() if line.startswith(people)]
found = llm_query("\\n".join(facts) + "\\n{question}").strip()
print(len(facts), "facts say:", found)
"""
_ANSWER = 'answer["content"] = found\nanswer["ready"] = True'


@dataclass(frozen=True)
class Task:
    """One run's."""

    question: str
    context: str
    gold: str


def data_folder() -> Path:
    """The folder of the test data."""
    beside = Path(__file__).resolve().parents[4] / "shared"
    return Path(os.environ.get("AIRLOCK_SHARED") or beside) / "data"


def tasks(count: int) -> list[Task]:
    """So many different questions, each of a story that is hidden in some 0.7 MB of filler.

    Raises:
        FileNotFoundError: The test data is not there.
    """
    questions = load_babi(data_folder(), "qa1")
    step = max(1, len(questions) // count)
    chosen = [questions[number * step % len(questions)] for number in range(count)]
    return [
        Task(one.question, hide_in_filler(one.facts, lines=LINES, seed=number), one.answer)
        for number, one in enumerate(chosen)
    ]


def reply(messages: Sequence[dict[str, str]]) -> str:
    """What the model says: the root's two turns, or a sub-question's answer. Only a root is told of a REPL."""
    if "REPL" not in messages[0]["content"]:
        return babi_sub_model(messages[-1]["content"])
    if any(message["role"] == "assistant" for message in messages):
        return as_reply(_ANSWER, text="That is it.")
    asked = next(found for message in messages[1:] if (found := _QUESTION.search(message["content"])))
    return as_reply(_FIND.format(question=asked[0]))
