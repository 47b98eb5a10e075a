"""Scripted models: what a root would write for each task of the shared data, and rules that play its sub-model.

A score made with these tests the engine only. It says nothing about any language model.
"""

from __future__ import annotations

import re

RULER_CODE = {
    "niah_single_1": """\
import re
key = re.search(r"special magic \\w+ for (.+?) mentioned", question).group(1)
answer = ", ".join(re.findall(rf"for {re.escape(key)} is: ([\\w-]+)", context))
print(answer)
""",
    "vt": """\
import re
value = re.search(r"the value (\\d+)", question).group(1)
text = context[context.rindex("Memorize and track"):]
names = []
for name, other, number in re.findall(r"VAR (\\w+) = (?:VAR (\\w+)|(\\d+))", text):
    if number == value or other in names:
        names.append(name)
answer = " ".join(names)
print(answer)
""",
    "cwe": """\
import re
from collections import Counter
text = context[context.rindex("Below is a numbered list"):]
counts = Counter(re.findall(r"\\d+\\. (\\S+)", text))
answer = " ".join(word for word, _ in counts.most_common(10))
print(answer)
""",
    "fwe": """\
import re
from collections import Counter
text = context.split("coded words.", 1)[1]
counts = Counter(re.findall(r"[a-z]+", text))
answer = " ".join(word for word, _ in counts.most_common(3))
print(answer)
""",
}
RULER_CODE["niah_multikey_3"] = RULER_CODE["niah_single_1"]

BABI_CODE = """\
people = ("Daniel", "John", "Mary", "Sandra", "Fred", "Bill", "Jeff", "Julie")
facts = [line for line in context.splitlines() if line.startswith(people)]
print(len(facts), "facts in", context.count(chr(10)) + 1, "lines")
answer = llm_query(question, data="\\n".join(facts)).strip()
"""


def ruler_cell(task: str, question: str) -> str:
    """Code for the REPL that leaves the answer in the variable `answer`."""
    return f"question = {question!r}\n{RULER_CODE[task]}"


def babi_cell(question: str) -> str:
    """Code for the REPL that finds the facts in the filler and asks one sub-question; leaves `answer`."""
    return f"question = {question!r}\n{BABI_CODE}"


def as_reply(*cells: str, text: str = "I look at the context.") -> str:
    """A root's reply with these cells. Each fence is longer than any run of backticks in its cell (CommonMark)."""
    blocks = [text]
    for code in cells:
        longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
        fence = "`" * max(3, longest + 1)
        blocks.append(f"{fence}repl\n{code}\n{fence}")
    return "\n\n".join(blocks)


_MOVE = re.compile(r"^(\w+) (?:went|moved|travelled|journeyed)(?: back)? to the (\w+)\b", re.MULTILINE)
_TAKE = r"(?:got|took|grabbed|picked up) the {thing}"
_DROP = r"(?:dropped|discarded|left|put down) the {thing}"


_HOLD = re.compile(r"^(\w+) (got|took|grabbed|picked up|dropped|discarded|left|put down) the (\w+)\b")
_GIVE = re.compile(r"^(\w+) (?:gave|handed|passed) the (\w+) to (\w+)\b")
_NUMBERS = ("none", "one", "two", "three")


def babi_sub_model(prompt: str) -> str:
    """Answer a question of qa1, qa2, qa7 or qa8 by rules. `prompt` holds the facts, one a line, and the question."""
    if carried := re.search(r"What is (\w+) carrying\s*\?", prompt):
        return ",".join(_held_by(prompt, carried.group(1))) or "nothing"
    if counted := re.search(r"How many objects is (\w+) carrying\s*\?", prompt):
        return _NUMBERS[len(_held_by(prompt, counted.group(1)))]
    question = re.search(r"Where is (the )?(\w+)\s*\?", prompt)
    if question is None:
        return "unknown"
    if question.group(1):
        return _where_is_thing(prompt, question.group(2))
    places = [place for person, place in _MOVE.findall(prompt) if person == question.group(2)]
    return places[-1] if places else "unknown"


def _held_by(prompt: str, person: str) -> list[str]:
    holders: dict[str, str] = {}
    for line in prompt.splitlines():
        if given := _GIVE.match(line):
            holders[given.group(2)] = given.group(3)
        elif held := _HOLD.match(line):
            holder, verb, thing = held.groups()
            holders[thing] = holder if verb in ("got", "took", "grabbed", "picked up") else ""
    return [thing for thing, holder in holders.items() if holder == person]


def _where_is_thing(prompt: str, thing: str) -> str:
    take = re.compile(rf"^(\w+) {_TAKE.format(thing=thing)}\b")
    drop = re.compile(rf"^(\w+) {_DROP.format(thing=thing)}\b")
    places: dict[str, str] = {}
    holder, where = None, "unknown"
    for line in prompt.splitlines():
        if move := _MOVE.match(line):
            places[move.group(1)] = move.group(2)
        elif taken := take.match(line):
            holder = taken.group(1)
        elif drop.match(line):
            holder = None
        if holder is not None:
            where = places.get(holder, where)
    return where
