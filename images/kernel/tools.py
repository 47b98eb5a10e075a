"""Tools: functions outside of the box, under the names that the host gave them.

What a tool takes and what it may cost the host decides: here arguments only get names, become JSON and are sent.
"""

import inspect
import json
from collections.abc import Callable, Generator, Mapping
from typing import Any

from answers import encode
from asking import ERRORS, Answer, Answers, ToolArgumentError


class Verbatim:
    """A type or a default that a signature shows as the host wrote it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Record(dict[str, Any]):
    """An object of JSON: a dict that can also be awaited, like the other results."""

    def __await__(self) -> Generator[None, None, dict[str, Any]]:
        yield from ()
        return self


def functions(host: Any, specs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the namespace has of these tools: a function each, and the exceptions that they raise."""
    made = {spec["name"]: tool_function(host, spec) for spec in specs}
    return {**ERRORS, **made} if made else {}


def tool_function(host: Any, spec: dict[str, Any]) -> Callable[..., Any]:
    """A function that asks the host to call the tool, and waits."""
    name, signature = spec["name"], signature_of(spec)

    def call(*args: Any, **kwargs: Any) -> Any:
        raw = argument_json(name, signature, args, kwargs)
        if len(raw) > spec["argument_bytes"]:
            raise ToolArgumentError(
                f"{name}: arguments of {len(raw):,} bytes; at most {spec['argument_bytes']:,} are allowed"
            )
        result = host.ask_one({"kind": "tool", "name": name}, [raw])
        if isinstance(result, Exception):
            raise result
        return awaitable(json.loads(result))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = spec["description"] or None
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def signature_of(spec: Mapping[str, Any]) -> inspect.Signature:
    """For `help`, and to give arguments their names."""
    parameters = [
        inspect.Parameter(
            parameter["name"],
            inspect.Parameter.KEYWORD_ONLY if parameter["keyword_only"] else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=Verbatim(parameter["annotation"]),
            default=inspect.Parameter.empty if parameter["default"] is None else Verbatim(parameter["default"]),
        )
        for parameter in spec["parameters"]
    ]
    returns = Verbatim(spec["returns"]) if spec["returns"] else inspect.Signature.empty
    return inspect.Signature(parameters, return_annotation=returns)


def argument_json(name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The arguments by name, as JSON.

    Raises:
        ToolArgumentError: They do not fit the parameters, or are no JSON.
    """
    try:
        given = signature.bind(*args, **kwargs).arguments
        return encode(json.dumps(given, allow_nan=False, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolArgumentError(f"{name}: {error}") from None


def awaitable(value: Any) -> Any:
    """A result that can also be awaited: models write `await lookup(...)`. Numbers, True, False and None can't."""
    if isinstance(value, str):
        return Answer(value)
    if isinstance(value, list):
        return Answers(value)
    return Record(value) if isinstance(value, dict) else value
