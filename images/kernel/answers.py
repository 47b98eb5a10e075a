"""How a cell gives the run's answer, and how any value becomes answer text.

Four ways: ``FINAL(value)``, ``FINAL_VAR("name")``, ``SUBMIT(value)`` or ``SUBMIT(field=value)``, and the dict `answer`
with its ``content`` and ``ready``. Each counts if the cell ends without an error. Like all of the namespace this is
for convenience: the host takes whatever comes as an answer, within its cap.
"""

import ast
import json
import sys
import threading
from collections.abc import Mapping
from typing import Any

ANSWER_KEYS = {"content", "ready"}


class Submitted(BaseException):
    """Ends the cell that has called SUBMIT, which is no error."""


class AnswerDict(dict[str, Any]):
    """What `answer` is bound to until a cell binds it anew."""

    def __init__(self, content: Any = "") -> None:
        super().__init__(content=content, ready=False)


class CellAnswer:
    """The answer of the cell that runs.

    Attributes:
        final: What it gave, in UTF-8; None until it has.
        submitted: Whether SUBMIT gave it, which has ended the cell.
        namespace: Where variables are looked up.
    """

    def __init__(self, answer_bytes: int) -> None:
        self._answer_bytes = answer_bytes
        self.final: bytes | None = None
        self.submitted = False
        self.namespace: dict[str, Any] = {}

    def clear(self) -> None:
        """Before each cell: no answer stands, and `answer` is there, unless a cell uses that name for its own."""
        self.final, self.submitted = None, False
        current = self.namespace.setdefault("answer", AnswerDict())
        if type(current) is AnswerDict:
            dict.__setitem__(current, "ready", False)

    def collect(self, code: str) -> None:
        """After a cell that ended well: take the content of `answer` where it is ready.

        A dict that the cell has bound to `answer` in its place counts only if the cell's own code spells out its
        ``ready``: one that was read from somewhere, such as a sub-model's JSON, must not end the run.

        Raises:
            ValueError: It is ready and holds nothing, or too much; or whatever the content's own code raises.
        """
        current = self.namespace.get("answer")
        if type(current) is dict and current.keys() == ANSWER_KEYS:
            self.namespace["answer"] = AnswerDict(current["content"])
            ready = spells_ready(code) and is_true(current["ready"])
        else:
            ready = type(current) is AnswerDict and is_true(dict.get(current, "ready"))
        if not ready or self.final is not None:
            return
        content = dict.get(self.namespace["answer"], "content")
        if is_empty(content):
            raise ValueError("answer['ready'] is True, but answer['content'] holds nothing")
        self.FINAL(content)

    def FINAL(self, answer: Any) -> None:
        """End the run with this answer, when the cell has ended without an error."""
        try:
            self.final = answer_raw(answer, self._answer_bytes)
        except TooLarge as error:
            raise ValueError(f"an answer of {error.size:,} bytes; at most {error.most:,} are allowed") from None

    def FINAL_VAR(self, name: Any) -> None:
        """End the run with the value of this variable, when the cell has ended without an error."""
        self.FINAL(lookup(self.namespace, name) if isinstance(name, str) else name)

    def SUBMIT(self, *values: Any, **fields: Any) -> None:
        """End the cell, and the run, with one value, or with fields by name, which become a JSON object."""
        if len(values) + bool(fields) != 1:
            raise TypeError("SUBMIT takes one value, or fields by name: SUBMIT(answer=..., count=...)")
        self.FINAL(json.dumps(fields, ensure_ascii=False, allow_nan=False, default=of_numpy) if fields else values[0])
        self.submitted = True
        if threading.current_thread() is threading.main_thread():
            raise Submitted


class TooLarge(Exception):
    """A text has more bytes than an answer may have. Of a very long one the characters are counted alone."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"{size} bytes of at most {most}")  # the host reads it
        self.size = size
        self.most = most


def is_empty(content: Any) -> bool:
    """Whether nothing was put into `answer`."""
    return content is None or (type(content) is str and not content)


def is_true(ready: Any) -> bool:
    """Models write True, 1, and now and then "true"."""
    return ready.strip().lower() == "true" if type(ready) is str else bool(ready)


def spells_ready(code: str) -> bool:
    """Whether code has ``{"ready": ...}`` or ``ready=...`` written in it."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    keys = [key for node in nodes if isinstance(node, ast.Dict) for key in node.keys]
    named = any(isinstance(node, ast.keyword) and node.arg == "ready" for node in nodes)
    return named or any(isinstance(key, ast.Constant) and key.value == "ready" for key in keys)


def lookup(namespace: Mapping[str, Any], name: str) -> Any:
    """A variable's value; an `answer` that no cell has filled is none.

    Raises:
        NameError: There is no such variable.
    """
    if name in namespace:
        value = namespace[name]
        if type(value) is not AnswerDict or not is_empty(dict.get(value, "content")):
            return value
    raise NameError(f"no variable is named {name!r}")


def answer_raw(value: Any, most: int) -> bytes:
    """An answer in UTF-8.

    Raises:
        TooLarge: It has more bytes than that; a str that surely has is not even copied. Else as `answer_text`.
    """
    if isinstance(value, str) and (size := str.__len__(value)) > most:
        raise TooLarge(size, most)
    raw = encode(answer_text(value))
    limit = most_bytes(raw, most)
    if len(raw) > limit:
        raise TooLarge(len(raw), limit)
    return raw


def answer_text(value: Any) -> str:
    """An answer as text: str as it is, tables whole as CSV, what JSON can carry as JSON, all else by ``str()``.

    The value's own code may run, and raise whatever it likes.
    """
    if type(value) is AnswerDict:
        value = dict.get(value, "content")
    if isinstance(value, str):
        return str.__str__(value)  # a subclass may lie later, where no cell is left to see the error
    if is_table(value):
        return str.__str__(value.to_csv(index=not has_plain_index(value)))
    if isinstance(value, list | tuple | dict) or is_numpy(value):
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False, default=of_numpy)
        except (TypeError, ValueError, RecursionError):
            pass
    return str.__str__(str(value))


def is_table(value: Any) -> bool:
    """A DataFrame or Series of pandas: its own text leaves out the middle."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series))


def has_plain_index(table: Any) -> bool:
    """Whether its rows are just numbered."""
    return isinstance(table.index, sys.modules["pandas"].RangeIndex) and table.index.name is None


def is_numpy(value: Any) -> bool:
    """An array or number of numpy's: an array's own text leaves out the middle."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def of_numpy(value: Any) -> Any:
    """For JSON.

    Raises:
        TypeError: It is none of numpy's.
    """
    if not is_numpy(value):
        raise TypeError(f"{type(value).__name__} is no JSON")
    return value.tolist()


def most_bytes(raw: bytes, most: int) -> int:
    """What the host takes of such a text: half where a character is beyond U+FFFF, which makes all take four bytes."""
    return most // 2 if len(raw) > most // 2 and max(raw) >= 0xF0 else most


def encode(text: str) -> bytes:
    """UTF-8; lone surrogates, which no provider accepts, become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def json_text(value: Any) -> str:
    """A value as JSON. ASCII only, so that lone surrogates survive the wire.

    Raises:
        TypeError, ValueError, RecursionError: It is not JSON.
    """
    return json.dumps(value, allow_nan=False)
