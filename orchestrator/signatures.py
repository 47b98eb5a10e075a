"""Signatures of functions whose arguments come as JSON: what they may be, how they are shown, how faults are told."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from orchestrator.errors import ConfigError
from orchestrator.type_costs import doubles, whole_schema
from sandbox.tools import ToolParameter

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_FAULTS: Final = 1_000
"""Faults above which none is looked at: each takes memory."""
MAX_TOLD_CHARS: Final = 300
"""Of what is said of a wrong argument."""


def signature_of(tool: str, function: Callable[..., Any]) -> inspect.Signature:
    """A tool's signature, with its types.

    Raises:
        ConfigError: A parameter has no type or can't be given by name, or a type is not known.
    """
    try:
        signature = inspect.signature(function, eval_str=True)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"Tool {tool}: Python knows no signature of it; wrap it in a function with types") from error
    except Exception as error:
        raise ConfigError(
            f"Tool {tool}: a type of its signature can't be found ({error}); it must be known in the function's module"
        ) from error
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(
                f"Tool {tool}: {parameter}: each parameter must be one that can be given by name "
                "(no *args, **kwargs or /)"
            )
        if parameter.annotation is parameter.empty:
            raise ConfigError(f"Tool {tool}: {parameter.name} has no type; write {parameter.name}: str, or what it is")
    return signature


def type_of(tool: str, parameter: inspect.Parameter) -> TypeAdapter[Any]:
    """What checks a parameter's values.

    Raises:
        ConfigError: JSON can't carry its type, or to check a value of it takes time exponential to the value's depth.
    """
    from pydantic import PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(parameter.annotation)
        schema = whole_schema(adapter)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise ConfigError(
            f"Tool {tool}: {parameter.name}: {shown(parameter.annotation)} is no type that JSON can carry"
        ) from error
    if doubles(schema):
        raise ConfigError(
            f"Tool {tool}: {parameter.name}: {shown(parameter.annotation)} holds itself in a union whose alternatives "
            "are all tried at every level, so a short argument could take all memory. Let a field tell them apart: "
            'Annotated[One | Other, Field(discriminator="kind")]'
        )
    return adapter


def told(parameter: inspect.Parameter) -> ToolParameter:
    """A parameter as a kernel is told of it."""
    return ToolParameter(
        name=parameter.name,
        annotation=shown(parameter.annotation),
        default=None if parameter.default is parameter.empty else _default(parameter.default),
        keyword_only=parameter.kind is parameter.KEYWORD_ONLY,
    )


def _default(value: Any) -> str:
    """An object's own text may hold an address in memory."""
    plain = value is None or isinstance(value, bool | int | float | str | enum.Enum)
    return repr(value) if plain else "..."


def shown(annotation: Any) -> str:
    """A type as text, without the bounds of `Annotated`, which are told as a schema."""
    if annotation is inspect.Signature.empty:
        return ""
    bare = get_type_hints(SimpleNamespace(__annotations__={"it": annotation}))["it"]
    return "None" if bare is type(None) else inspect.formatannotation(bare).replace("typing.", "")


def first_fault(error: Any) -> str:
    """The first fault in pydantic's words; of a validator of the caller's only that it refused."""
    if error.error_count() > MAX_FAULTS:
        return "too much of it does not fit"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    own = first["type"] in ("value_error", "assertion_error")
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"][:8])
    words = "its check refused it" if own else first["msg"]
    return _cut(f"at {place}: {words}" if place else words)


def quoted(name: str) -> str:
    """A name that the box chose."""
    return _cut(repr(name[:MAX_TOLD_CHARS]))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TOLD_CHARS else text[:MAX_TOLD_CHARS] + "..."
