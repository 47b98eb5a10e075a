"""``output_schema=``: the answer as JSON that fits a schema, checked on the host, and as a typed value.

The caller gives a pydantic model class, a dataclass, or a JSON schema as a dict. The schema is the caller's and is
trusted; the answer is not: it was written in the box or by a model. So no keyword may make the check take more than
the answer's size in time and memory:

* patterns are matched by Rust's regular expressions, in linear time (no look-around, no back-references);
* ``uniqueItems`` compares no pairs; ``anyOf`` and ``oneOf`` look at few faults of each schema;
* ``patternProperties`` and references to other documents are refused;
* ``format`` is a remark, as the standard has it, and is not checked.

A dataclass or model may run validators of the caller's own; what they cost is the caller's affair.

What does not fit is told as `Fault`: a kind, a path, and the library's words. The words may quote the answer, and a
path may hold keys of it. `Problem.plainly` has neither: kinds that the library or the schema names, names that stand in
the schema, ``[*]`` for an index and ``*`` for any other key.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.errors import ConfigError
from orchestrator.schema_checks import (
    MAX_FAULTS,
    NOT_JSON,
    Fault,
    Unfit,
    copied,
    json_schema_validator,
    parts,
    short,
    typed_validator,
)
from sandbox.errors import ProtocolViolation, ValueUnavailable
from sandbox.protocol import decode_json_text

MAX_SCHEMA_CHARS: Final = 20_000
"""The schema stands in the root's first message, whole."""
MAX_PATH: Final = 8
"""Steps of a path that are told: a schema that refers to itself takes values of any depth, of the box's choosing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An answer that fits: its JSON text, and the value of the caller's type."""

    text: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an answer does not fit.

    Attributes:
        faults: At most `MAX_FAULTS`, in the library's order.
        names: All property names of the schema.
    """

    faults: tuple[Fault, ...]
    names: frozenset[str]

    def plainly(self, *, indexes: bool = False) -> list[str]:
        """A line for each fault, without a character of the answer.

        Args:
            indexes: Name the items of lists by number; without it no number of the answer's is told either.
        """
        return [
            self._place(fault.path, indexes)
            + f": {fault.kind}"
            + (f" (expected: {fault.expected})" if fault.expected else "")
            for fault in self.faults
        ]

    def words(self) -> str:
        """The library's words, which may quote the answer."""
        return "\n".join(dict.fromkeys(short(fault.words) for fault in self.faults if fault.words))

    def _place(self, path: Sequence[str | int], indexes: bool) -> str:
        place = "$"
        for key in path[:MAX_PATH]:
            if isinstance(key, int):
                place += f"[{key}]" if indexes else "[*]"
            else:
                place += f".{key}" if key in self.names else ".*"
        return place + ("..." if len(path) > MAX_PATH else "")


class OutputSchema:
    """What an answer must fit. Make one with `of`.

    Attributes:
        text: The schema as JSON, for the root.
    """

    def __init__(self, schema: dict[str, Any], validate: Callable[[Any, str], Any]) -> None:
        self.text = json.dumps(schema, ensure_ascii=False)
        self._names = frozenset(_property_names(schema))
        self._validate = validate
        if len(self.text) > MAX_SCHEMA_CHARS:
            raise ConfigError(
                f"output_schema: {len(self.text):,} characters of JSON schema; at most {MAX_SCHEMA_CHARS:,} are allowed"
            )

    @classmethod
    def of(cls, given: Any) -> OutputSchema:
        """Take what the caller gave.

        Args:
            given: A pydantic model class, a dataclass, or a JSON schema as a dict.

        Raises:
            ConfigError: It is none of them, no legal schema, too large, or uses what is refused here.
        """
        if isinstance(given, dict):
            schema = copied(given)
            return cls(schema, json_schema_validator(schema))
        if isinstance(given, type) and (dataclasses.is_dataclass(given) or hasattr(given, "model_json_schema")):
            return cls(*typed_validator(given))
        raise ConfigError(
            f"output_schema: {given!r:.80} is neither a pydantic model class, nor a dataclass, nor a JSON schema (dict)"
        )

    def check(self, text: str) -> Checked | Problem:
        """Whether an answer fits. A text that is no JSON is tried as a string; so is one that looks like a number.

        It takes up to some tenths of a second for the largest answer; `asyncio.to_thread` is for that.
        """
        unfit: tuple[Fault, ...] = NOT_JSON
        try:
            value = decode_json_text(text)
            return self._fit(value)
        except (ProtocolViolation, ValueUnavailable):
            value = None
        except Unfit as error:
            unfit = error.faults
        if not isinstance(value, list | dict):
            try:
                return self._fit(text)
            except Unfit as error:
                unfit += error.faults if unfit is NOT_JSON else ()
        return Problem(faults=unfit[:MAX_FAULTS], names=self._names)

    def _fit(self, value: Any) -> Checked:
        try:
            text = _dumps(value)
            return Checked(text=text, value=self._validate(value, text))
        except Unfit:
            raise
        except (ValueError, RecursionError):  # an infinity, or nested too deep to be written
            raise Unfit(NOT_JSON) from None
        except Exception as error:  # a validator of the caller's: a run does not end in it
            raise Unfit([Fault(kind="a validator failed", words=type(error).__name__)]) from error


def _dumps(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() or _encodes(text) else json.dumps(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _property_names(schema: Any) -> Iterator[str]:
    for part in parts(schema):
        if isinstance(properties := part.get("properties"), dict):
            yield from properties
        if isinstance(required := part.get("required"), list):
            yield from (name for name in required if isinstance(name, str))
