"""Scripted roots for ``observe="typed"``: each decides on the numbers and labels it is shown, and sees nothing else.

A score made with these tests the engine only. It says nothing about any language model.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any

from orchestrator.providers.base import ModelRequest
from tests.root_scripts import as_reply

Values = dict[str, Any]
Steps = Generator[str, Values, None]

PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
NUMBERS = ("none", "one", "two", "three")
THINGS = ("apple", "football", "milk", "nothing")


def thinking(steps: Steps) -> Callable[[ModelRequest], str]:
    """A root whose steps are each told the values that the last one reported."""

    def reply(request: ModelRequest) -> str:
        if len(request.messages) == 2:
            return next(steps)
        return steps.send(values_of(request.messages[-1].content))

    return reply


def values_of(message: str) -> Values:
    """The values in a message to a root in quarantine."""
    found = re.findall(r"^(\w+) = (.+)$", message, re.MULTILINE)
    return {name: ast.literal_eval(value) for name, value in found}


def _do(*lines: str) -> str:
    return as_reply("\n".join(lines), text="I go on.")


def ruler(task: str, question: str) -> Steps:
    """The steps for one of RULER's tasks."""
    return {"vt": _chains, "cwe": _common, "fwe": _frequent}.get(task, _needle)(question)


def _needle(question: str) -> Steps:
    asked = re.search(r"special magic (\w+) for (.+?) mentioned", question)
    assert asked
    kind, key = asked.groups()
    line = f"ne of the special magic {kind}s for {key} is: "
    seen = yield _do(f"report(needles=context.count('special magic {kind}s'), ours=context.count({line!r}))")
    assert seen["needles"] >= seen["ours"] == 1
    seen = yield _do(
        "import re",
        f"found = re.findall({re.escape(line)!r} + r'([\\w-]+)', context)",
        "answer = ', '.join(found)",
        "report(found=len(found), length=len(answer))",
    )
    assert seen["found"] == 1
    yield "FINAL_VAR(answer)"


def _chains(question: str) -> Steps:
    asked = re.search(r"the value (\d+)", question)
    assert asked
    seen = yield _do("report(examples=context.count('Memorize and track') - 1)")
    assert seen["examples"] == 1
    seen = yield _do(
        "import re",
        "text = context[context.rindex('Memorize and track'):]",
        f"names = re.findall(r'VAR (\\w+) = {asked.group(1)}\\b', text)",
        "links = re.findall(r'VAR (\\w+) = VAR (\\w+)', text)",
        "report(found=len(names), links=len(links))",
    )
    while seen["found"] < 5:
        before = seen["found"]
        seen = yield _do(
            "names += [name for name, other in links if other in names and name not in names]",
            "report(found=len(names))",
        )
        assert seen["found"] > before
    yield _do("FINAL(' '.join(names))")


def _common(_: str) -> Steps:
    seen = yield _do("report(lists=context.count('Below is a numbered list'))")
    assert seen["lists"] == 2
    seen = yield _do(
        "import re",
        "from collections import Counter",
        "counts = Counter(re.findall(r'\\d+\\. (\\S+)', context[context.rindex('Below is a numbered list'):]))",
        "report(highest=[n for _, n in counts.most_common(20)])",
    )
    falls = [high - low for high, low in pairwise(seen["highest"])]
    top = falls.index(max(falls)) + 1
    yield _do(f"answer = ' '.join(word for word, _ in counts.most_common({top}))", "report(n=len(answer))")
    yield "FINAL_VAR(answer)"


def _frequent(_: str) -> Steps:
    seen = yield _do(
        "import re",
        "from collections import Counter",
        "words = context.split('coded words.', 1)[1].split()",
        "counts = Counter(word for word in words if set(word) != {'.'})",
        "report(words=len(words), noise=len(words) - sum(counts.values()), most=[n for _, n in counts.most_common(4)])",
    )
    assert seen["most"][2] > seen["most"][3]
    yield _do("answer = ' '.join(word for word, _ in counts.most_common(3))", "len(answer)")
    yield "FINAL_VAR(answer)"


def babi(question: str) -> Steps:
    """Find the facts, ask once, and answer with labels: words of the root's own, so it may write them down."""
    labels = NUMBERS if question.startswith("How many") else THINGS if question.startswith("What") else PLACES
    seen = yield _do(
        "people = ('Daniel', 'John', 'Mary', 'Sandra', 'Fred', 'Bill', 'Jeff', 'Julie')",
        "facts = [line for line in context.splitlines() if line.startswith(people)]",
        "report(facts=len(facts))",
    )
    assert seen["facts"] > 0
    seen = yield _do(
        f"declare_labels{labels!r}",
        f"answer = llm_query({question!r}, data='\\n'.join(facts)).strip()",
        f"words = [word if word in {labels!r} else None for word in answer.split(',')]",
        "report(words=words)",
    )
    assert None not in seen["words"]
    yield f"FINAL({','.join(seen['words'])})"


def count_labels(labels: tuple[str, ...]) -> Steps:
    """Have each line labelled, 25 a sub-question, and answer with the most frequent label and its count."""
    seen = yield _do("lines = context.splitlines()", "report(lines=len(lines), longest=max(map(len, lines)))")
    assert seen["lines"] > 100
    seen = yield _do(
        f"declare_labels{(*labels, 'other')!r}",
        "chunks = ['\\n'.join(lines[at : at + 25]) for at in range(0, len(lines), 25)]",
        f"ask = 'Label each line with one word, one a line: {', '.join(labels)}.'",
        "answers = llm_query_batched([ask] * len(chunks), data=chunks)",
        "given = [word.strip() for answer in answers for word in answer.splitlines()]",
        f"counts = {{label: given.count(label) for label in {labels!r}}}",
        "counts['other'] = len(given) - sum(counts.values())",
        "report(counts=counts, given=len(given))",
    )
    assert sum(seen["counts"].values()) == seen["given"]
    most = max(labels, key=seen["counts"].__getitem__)
    yield f"FINAL({most} {seen['counts'][most]}, other {seen['counts']['other']})"
