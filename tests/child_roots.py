"""Scripted models that solve a task by recursion: a root splits its context among child runs, which do the same.

The deepest runs have a sub-model read their part, piece by piece; it gives back what matters of each, as a JSON list.
A score made with these tests the engine only. It says nothing about any language model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.providers.base import ModelRequest
from tests.injection.obedient import fenced_data
from tests.root_scripts import babi_sub_model

Extract = Callable[[str], list[str]]

_LOOK_FOR = "Look for what matters. Your task: "
_SPLIT = """\
import json

def parts_of(text, count, mark={mark!r}):
    size, parts = len(text) // count + 1, []
    while text:
        cut = text.find(mark, size)
        cut = len(text) if cut < 0 else cut + len(mark)
        parts.append(text[:cut])
        text = text[cut:]
    return parts

found = []
if budget()["depth"] > 1:
    for answer in rlm_query_batched([{task!r}] * {fan}, parts_of(context, {fan})):
        found += json.loads(answer)
else:
    pieces = parts_of(context, len(context) // {piece_chars} + 1)
    for answer in llm_query_batched([{task!r}] * len(pieces), data=pieces):
        found += json.loads(answer)
"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        question: Of the first root.
        extract: What the sub-model gives back of a piece.
        finish: Code of the first root that makes `answer` of `found`.
        trim: Code of the first root that leaves what counts in `context`.
        mark: Behind which a text may be split.
        piece_chars: Of what the sub-model reads at once.
        fan: Child runs that a run at each depth starts.
    """

    question: str
    extract: Extract
    finish: str
    trim: str = ""
    mark: str = "\n"
    piece_chars: int = 8_000
    fan: tuple[int, ...]

    @property
    def children(self) -> int:
        """Child runs in all."""
        count, total = 1, 0
        for fan in self.fan:
            count *= fan
            total += count
        return total

    @property
    def max_depth(self) -> int:
        """The limit that allows just these levels, and the plain sub-calls below them."""
        return len(self.fan) + 1

    def root(self, request: ModelRequest) -> str:
        """The root of any of its runs."""
        asked = next(message.content for message in request.messages if message.role == "user")
        told = re.search(re.escape(_LOOK_FOR) + r"(\d+)", asked)
        depth = int(told.group(1)) if told else 0
        split = _SPLIT.format(
            mark=self.mark,
            task=f"{_LOOK_FOR}{depth + 1}",
            fan=self.fan[depth] if depth < len(self.fan) else 1,
            piece_chars=self.piece_chars,
        )
        if told:
            cell = f"{split}FINAL(json.dumps(found))"
        else:
            cell = f"{self.trim}\n{split}question = {self.question!r}\n{self.finish}\nFINAL(answer)"
        return f"I split it.\n\n```repl\n{cell}\n```"

    def sub(self, request: ModelRequest) -> str:
        """The sub-model, which also answers a question about the facts that were found."""
        _, data, question = fenced_data(request)
        if _LOOK_FOR in question:
            return json.dumps(self.extract(data))
        return babi_sub_model(request.messages[-1].content)


def ruler(task: str, question: str, fan: tuple[int, ...]) -> Task:
    """One of RULER's tasks."""
    if task == "vt":
        return Task(
            question=question,
            trim='context = context[context.rindex("Memorize and track"):]',
            extract=lambda text: re.findall(r"VAR (\w+ = (?:VAR )?\w+)", text),
            finish=(
                "value, names = question.split('the value ')[1].split()[0], []\n"
                "for name, given in (line.split(' = ') for line in found):\n"
                "    if given.removeprefix('VAR ') in (value, *names):\n"
                "        names.append(name)\n"
                "answer = ' '.join(names)"
            ),
            fan=fan,
        )
    if task in ("cwe", "fwe"):
        return Task(
            question=question,
            trim=(
                "context = context[context.rindex('Below is a numbered list'):].split('\\n', 1)[1]"
                if task == "cwe"
                else "context = context.split('coded words.', 1)[1]"
            ),
            extract=lambda text: [word for word in text.split() if not re.fullmatch(r"\d+\.|\.+", word)],
            finish=(
                "from collections import Counter\n"
                f"answer = ' '.join(word for word, _ in Counter(found).most_common({10 if task == 'cwe' else 3}))"
            ),
            mark=" ",
            fan=fan,
        )
    asked = re.search(r"special magic (\w+) for (.+?) mentioned", question)
    assert asked
    line = re.compile(rf"ne of the special magic {asked[1]}s for {re.escape(asked[2])} is: ([\w-]+)")
    return Task(question=question, extract=line.findall, finish="answer = ', '.join(found)", fan=fan)


def babi(question: str, fan: tuple[int, ...]) -> Task:
    """A story hidden in filler: the facts are found piece by piece, and then asked about."""
    people = ("Daniel", "John", "Mary", "Sandra", "Fred", "Bill", "Jeff", "Julie")
    return Task(
        question=question,
        extract=lambda text: [line for line in text.splitlines() if line.startswith(people)],
        finish="answer = llm_query(question, data='\\n'.join(found)).strip()",
        fan=fan,
    )


def count_labels(known: dict[str, str], fan: tuple[int, ...]) -> Task:
    """Lines whose labels the sub-model knows; the answer is the most frequent label and its count."""
    return Task(
        question="Which label is the most frequent, and how often does it occur?",
        extract=lambda text: [known[line] for line in text.splitlines()],
        finish=(
            "from collections import Counter\n((label, count),) = Counter(found).most_common(1)\n"
            "answer = f'{label} {count} of {len(found)}'"
        ),
        piece_chars=1_000,
        fan=fan,
    )
