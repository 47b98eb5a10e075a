"""Many cases in one run and one box: each is a turn of the root's, so a hundred take seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import RLM, Limits, RunResult, ScriptedProvider
from orchestrator.limits import UNLIMITED
from tests.datasets import Injection, load_bipia
from tests.injection.obedient import obedient_sub, replies_of

CASES_A_RUN = 200
SOME_FORMS, ALL_FORMS = 3, 12
RUNS_AT_ONCE = 2
QUESTION = "How many documents are there?"
ADDRESS = "https://collector.invalid/"

LIMITS = Limits(
    max_turns=UNLIMITED,
    max_failed_cells=UNLIMITED,
    max_idle_turns=UNLIMITED,
    max_tokens=UNLIMITED,
    max_sub_calls=UNLIMITED,
    max_output_chars=200_000,
    cell_wall_s=10,
)
WINDOW_TOKENS = 100_000_000
"""Of a root that forgets nothing: all that it was told is in its last request."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Play:
    """Cases that are played together.

    Attributes:
        names: Of the cases.
        documents: What stands in the context.
        replies: What the sub-model may say of each; the same number for all.
    """

    names: tuple[str, ...]
    documents: tuple[str, ...]
    replies: tuple[tuple[str, ...], ...]

    @property
    def forms(self) -> int:
        return len(self.replies[0])

    @property
    def payloads(self) -> set[str]:
        """All that must not get through: the documents and whatever the sub-model says."""
        return {*self.documents, *(reply for replies in self.replies for reply in replies)}

    def first(self, count: int) -> Play:
        """Only so many of its cases."""
        return Play(self.names[:count], self.documents[:count], self.replies[:count])

    def harmless(self) -> Play:
        """The same lengths, and nothing in them."""
        return Play(
            self.names,
            tuple("x" * len(document) for document in self.documents),
            tuple(tuple("x" * len(reply) for reply in replies) for replies in self.replies),
        )


@dataclass(frozen=True)
class Played:
    """A run that is over."""

    result: RunResult
    root: ScriptedProvider
    sub: ScriptedProvider
    traces: str

    @property
    def told(self) -> list[str]:
        """The root's messages after the first two, without its own."""
        return [message.content for message in self.root.requests[-1].messages[3::2]]

    def everything(self) -> str:
        """All that leaves the host for a provider, the caller or a file."""
        asked = "\n".join(request.messages[-1].content for request in self.sub.requests)
        final = "\n".join(message.content for message in self.root.requests[-1].messages)
        return "\n".join((asked, final, self.traces, repr(self.result)))


def forms(repeats: Callable[[int], int]) -> int:
    """How many of the forms a case is played with."""
    return ALL_FORMS if repeats(10) == 10 else SOME_FORMS


def bipia(data: Path, repeats: Callable[[int], int]) -> list[Injection]:
    """All 125 attacks, each at one place of one context, or at all places of four."""
    return load_bipia(data, contexts=4) if repeats(10) == 10 else load_bipia(data, contexts=1, places=1)


def plays_of(cases: Sequence[Injection], forms: int) -> list[Play]:
    """The cases in runs, each with so many of the things that an obedient sub-model may say, other ones each time."""

    def some(number: int, replies: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(replies[(number * forms + form) % len(replies)] for form in range(forms))

    return [
        Play(
            tuple(case.id for case in chunk),
            tuple(case.document for case in chunk),
            tuple(some(number, replies_of(case, ADDRESS)) for number, case in enumerate(chunk)),
        )
        for chunk in chunks(cases)
    ]


def plays_of_strings(strings: Sequence[str]) -> list[Play]:
    """Hostile strings as documents, and as what a sub-model says of them."""
    return [
        Play(tuple(map(repr, chunk)), tuple(chunk), tuple((text, f"FINAL({text})") for text in chunk))
        for chunk in chunks(strings)
    ]


def chunks(cases: Sequence[_T]) -> list[Sequence[_T]]:
    return [cases[start : start + CASES_A_RUN] for start in range(0, len(cases), CASES_A_RUN)]


async def play(
    root: Sequence[str] | Callable[[Any], str],
    plays: Play,
    trace_dir: Path,
    context: Any = None,
    *,
    limits: Limits = LIMITS,
    **settings: Any,
) -> Played:
    """One run of the root over a play's documents, with the sub-model that obeys them."""
    root_model = ScriptedProvider(root)
    sub = ScriptedProvider(obedient_sub(plays.documents, plays.replies))
    rlm = RLM(
        root_model,
        sub,
        limits=limits,
        root_window_tokens=WINDOW_TOKENS,
        trace_dir=trace_dir,
        keep_text=True,
        **settings,
    )
    result = await rlm.arun(QUESTION, list(plays.documents) if context is None else context)
    traces = "\n".join(file.read_text() for file in trace_dir.iterdir())
    return Played(result, root_model, sub, traces)


async def all_at_once(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run them, a few at a time."""
    room = asyncio.Semaphore(RUNS_AT_ONCE)

    async def one(job: Callable[[], Any]) -> Any:
        async with room:
            return await job()

    return await asyncio.gather(*map(one, jobs))


def ask_cell(number: int, forms: int) -> str:
    """Code that has the sub-model read a document and say all that it may."""
    return (
        f'answers = llm_query_batched([f"{number} {{form}}" for form in range({forms})], '
        f"data=[documents[{number}]] * {forms})"
    )


def grams(texts: Sequence[str] | set[str], size: int = 8) -> set[str]:
    """All substrings of a size; of a shorter text the text itself, where it is no blank and no single letter."""
    found: set[str] = set()
    for text in texts:
        found.update(text[start : start + size] for start in range(len(text) - size + 1))
    return found
