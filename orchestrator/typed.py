"""Quarantine (``observe="typed"``): no text from the box reaches the root.

The root sees how each cell ended, an error's type and line from a fixed list, and the values that its code reported
with ``report(name=value)`` and that pass `TypedReport` here: booleans, numbers, labels, and flat lists and dicts of
them. A label is a string that the root itself has written before, as a literal in a call of ``declare_labels(...)``
in code of its own: the host reads it from the root's reply, never from the box. Names of reported values must be
identifiers of the root's code for the same reason.

What this gives: an injection in the document can't talk to the model that writes the code in words. What it does not
give: values can still be wrong, and a sub-model that reads the text can still be talked into a wrong label.

The channel that is left carries numbers and the root's own words, in an order of the box's choosing. As long as only
the root's code runs, it carries what that code computes. Code of the document's that came to run in the box (through
``exec``, ``pickle``, a bug) could use all of it, each turn:

* `MAX_VALUES` values, each an integer of `MAX_DIGITS` digits (51 bits) under one of the root's identifiers (8 bits
  where it has used 256): 2,950 bits;
* how each of 16 cells ended: whether it printed (1 bit), how much late output there was (29 bits); for the last one the
  error's type (7 bits) and a line of its code, or a signal (6 bits): 500 bits;
* what is left of the budget, which a cell can spend as it likes: tokens, sub-questions, seconds: 40 bits;
* how many values were withheld, and whether ``FINAL_VAR`` found its variable and a text that is not too long: 15 bits.

Together about 3,500 bits or 440 bytes a turn, in digits that the root is told are numbers. With an output schema come
5 faults of an answer that does not fit, each a kind and a path of up to 8 of the schema's names: 350 bits where it has
256 names. Labels add nothing to it,
but they are words: whoever declares an alphabet lets the box spell with it, `MAX_VALUES` letters a turn.
"""

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.names import parse
from orchestrator.rendering import OUTCOMES, CellView

MAX_DIGITS: Final = 15
"""Digits of a reported integer: more than any count or length needs, too few for a sentence in code points."""
MAX_VALUES: Final = 50
"""Values a turn may report, list items and dict entries included."""
MAX_LABELS: Final = 200
MAX_LABEL_CHARS: Final = 40

UNREAD: Final = "A block could not be read for labels and names: it is no plain Python, or too long."
NO_LABEL: Final = (
    f"An argument of declare_labels is no label: each is a literal string in the call, of at most {MAX_LABEL_CHARS} "
    f"characters, and there are at most {MAX_LABELS}."
)
WITHHELD: Final = "no number, boolean or declared label, a name that is not in your code, or too much"

ERROR_TYPES: Final = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
) | {"SubCallError", "LimitExceeded", "PromptTooLarge", "ProviderError", "PolicyRefused", "NoCellRunning", "BatchError"}
"""Types of errors whose name the root is told; any other one is an ``Exception``."""


@dataclass(slots=True)
class Vocabulary:
    """What the root has written so far: its labels, and the identifiers of its code."""

    labels: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    _complaints: list[str] = field(default_factory=list)

    def learn(self, code: str) -> None:
        """Take over the labels and identifiers of a cell. Only ever give it code that the root wrote."""
        tree = parse(code)
        if tree is None:
            self._complaints.append(UNREAD)
            return
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name) | ast.keyword(arg=str(name)):
                    self.names.add(name)
                case ast.Call(func=ast.Name(id="declare_labels"), args=args):
                    self._declare(args)
                case _:
                    pass

    def _declare(self, args: list[ast.expr]) -> None:
        for arg in args:
            items = arg.elts if isinstance(arg, ast.List | ast.Tuple | ast.Set) else [arg]
            for item in items:
                is_label = isinstance(item, ast.Constant) and isinstance(item.value, str)
                if is_label and len(item.value) <= MAX_LABEL_CHARS and len(self.labels) < MAX_LABELS:  # type: ignore[attr-defined]
                    self.labels.add(item.value)  # type: ignore[attr-defined]
                else:
                    self._complaints.append(NO_LABEL)

    def complaints(self) -> list[str]:
        """What was wrong with the code learned since the last call, once each, in words of the host."""
        found, self._complaints = list(dict.fromkeys(self._complaints)), []
        return found


@dataclass(slots=True)
class TypedReport:
    """The values of one turn that may be shown, and how many may not."""

    shown: list[tuple[str, Any]] = field(default_factory=list)
    withheld: int = 0
    _room: int = MAX_VALUES

    def add(self, values: dict[str, Any], vocabulary: Vocabulary) -> None:
        """Check what the box reported. What fails is counted and its text goes nowhere."""
        for name, value in values.items():
            size = _size(value)
            if name in vocabulary.names and size <= self._room and _is_legal(value, vocabulary):
                self._room -= size
                self.shown.append((name, value))
            else:
                self.withheld += 1

    def lines(self) -> list[str]:
        """For the root."""
        lines = [f"{name} = {_show(value)}" for name, value in self.shown]
        if self.withheld:
            lines.append(f"{self.withheld} of the reported values withheld: {WITHHELD}.")
        return lines


def _size(value: Any) -> int:
    return 1 + len(value) if isinstance(value, list | dict) else 1


def _is_legal(value: Any, vocabulary: Vocabulary) -> bool:
    if isinstance(value, list):
        return all(_is_scalar(item, vocabulary) for item in value)
    if isinstance(value, dict):
        return all(key in vocabulary.labels and _is_scalar(item, vocabulary) for key, item in value.items())
    return _is_scalar(value, vocabulary)


def _is_scalar(value: Any, vocabulary: Vocabulary) -> bool:
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return abs(value) < 10**MAX_DIGITS
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) < 10.0**MAX_DIGITS
    return isinstance(value, str) and value in vocabulary.labels


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "[" + ", ".join(_show(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_show(item)}" for key, item in value.items()) + "}"
    return repr(value)


def error_type(name: str) -> str:
    """The name of an error's type as the root may see it."""
    return name if name in ERROR_TYPES else "Exception"


def render_typed(cells: Sequence[CellView], vocabulary: Vocabulary) -> str:
    """What the root is shown of a turn's cells in quarantine: nothing that a document could have written.

    Args:
        cells: In the order they ran; notes are the host's own words.
        vocabulary: What the root has written so far.
    """
    parts = []
    for number, view in enumerate(cells, start=1):
        parts.append(_headline(view, number, len(cells)))
        parts += [f"Note: {note}" for note in view.notes]
    return "\n".join([*parts, *vocabulary.complaints(), *typed_report(cells, vocabulary).lines()])


def typed_report(cells: Sequence[CellView], vocabulary: Vocabulary) -> TypedReport:
    """The values of a turn's cells that may be shown."""
    report = TypedReport()
    for view in cells:
        for values in view.cell.reports:
            report.add(values, vocabulary)
    return report


def _headline(view: CellView, number: int, total: int) -> str:
    cell = view.cell
    which = f"Cell {number} of {total}" if total > 1 else "The cell"
    printed = cell.stdout.true_chars + cell.stderr.true_chars + cell.result.true_chars
    unseen = " You are not shown what it printed." if printed else ""
    if cell.error is None:
        return f"{which} {OUTCOMES[cell.status]}.{unseen}"
    line = f" in its line {cell.error.line}" if 1 <= cell.error.line <= view.lines else ""
    return f"{which} was ended by {error_type(cell.error.name)}{line}.{unseen}"
