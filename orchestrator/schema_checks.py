"""The checks behind `orchestrator.schema`: by pydantic for types, by jsonschema for schemas."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from orchestrator.errors import ConfigError
from sandbox.value_size import is_within

MAX_FAULTS: Final = 5
"""Faults of one answer that are told; each is a line."""
MAX_COLLECTED: Final = 1_000
"""Faults above which none is looked at: each takes memory."""
MAX_TYPED_VALUES: Final = 50_000
"""Items and entries of an answer that pydantic is shown: it keeps some 0.5 kB for each one that does not fit, times the
members of a union, before it tells of any."""
MAX_TYPED_DEPTH: Final = 100
MAX_WORDS_CHARS: Final = 300

_DATA_KEYWORDS: Final = frozenset({"const", "enum", "default", "examples"})
_OTHER_FAULT: Final = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that does not fit.

    Attributes:
        kind: The library's or the schema's word for it, for example ``type`` or ``missing``.
        path: Keys and indexes from the top to the place; keys may be the box's.
        expected: What the schema wants there, in the schema's own words, or "".
        words: The library's, which may quote the answer.
    """

    kind: str
    path: tuple[str | int, ...] = ()
    expected: str = ""
    words: str = ""


NOT_JSON: Final = (Fault(kind="not JSON", words="the answer is not JSON"),)


class Unfit(Exception):
    """A value does not fit; `faults` are the first few reasons."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        super().__init__("the answer does not fit")
        self.faults = tuple(itertools.islice(faults, MAX_FAULTS))


def short(words: str) -> str:
    """The first `MAX_WORDS_CHARS` characters."""
    return words if len(words) <= MAX_WORDS_CHARS else words[:MAX_WORDS_CHARS] + "..."


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """All dicts of a schema but those in its examples and constants."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key not in _DATA_KEYWORDS:
                yield from parts(value)
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from parts(item)


# ------------------------------------------------------------------------------------------- model classes, dataclasses


def typed_validator(given: type) -> tuple[dict[str, Any], Callable[[Any, str], Any]]:
    """The JSON schema of a model class or dataclass, and a function that makes one of it, given its JSON text.

    The function raises `Unfit`, or whatever a validator of the caller's raises.

    Raises:
        ConfigError: The type has no JSON schema.
    """
    from pydantic import PydanticUserError, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUndefinedAnnotation

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(given)
        schema = adapter.json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        first = str(error).partition("\n")[0]
        raise ConfigError(f"output_schema: {given.__name__} has no JSON schema: {short(first)}") from error

    def validate(value: Any, text: str) -> Any:
        if not is_within(value, depth=MAX_TYPED_DEPTH, values=MAX_TYPED_VALUES):
            raise Unfit([Fault(kind=f"more than {MAX_TYPED_VALUES:,} values, or more than {MAX_TYPED_DEPTH} deep")])
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            if error.error_count() > MAX_COLLECTED:
                raise Unfit([Fault(kind="too many faults to tell")]) from None
            told = error.errors(include_url=False, include_context=False, include_input=False)
            raise Unfit(
                Fault(kind=_known(item["type"]), path=item["loc"], words=item["msg"]) for item in told
            ) from None

    return schema, validate


def _known(kind: str) -> str:
    """A kind of pydantic's own; one of a caller's validator may be made of the answer."""
    from pydantic_core.core_schema import ErrorType

    return kind if kind in get_args(ErrorType) else _OTHER_FAULT


# --------------------------------------------------------------------------------------------------------- JSON schemas


def copied(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as JSON carries it, out of reach of whoever goes on with the original.

    Raises:
        ConfigError: It is no JSON.
    """
    try:
        made: dict[str, Any] = json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"output_schema: it is no JSON: {short(str(error))}") from error
    return made


def json_schema_validator(schema: dict[str, Any]) -> Callable[[Any, str], Any]:
    """A function that returns a value which fits, given it and its JSON text.

    The function raises `Unfit`.

    Raises:
        ConfigError: No legal schema, or one of what is refused.
    """
    import jsonschema
    import referencing
    import referencing.jsonschema
    from jsonschema.exceptions import best_match

    if not isinstance(schema.get("$schema", ""), str):
        raise ConfigError("output_schema: $schema is no string")
    try:
        dialect = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        dialect.check_schema(schema)
    except jsonschema.SchemaError as error:
        place = "".join(f"[{key!r}]" for key in error.absolute_path)
        raise ConfigError(f"output_schema{place}: {short(error.message)}") from error
    resource = referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT202012)
    registry: Any = referencing.Registry().with_resource("", resource)
    _refuse(schema, registry.resolver_with_root(resource))
    bounded = {"pattern": _pattern, "uniqueItems": _unique_items, "anyOf": _any_of, "oneOf": _one_of}
    extended = jsonschema.validators.extend(dialect, bounded)
    validator = extended(schema, registry=registry)  # this registry fetches nothing

    def validate(value: Any, _: str) -> Any:
        found = (best_match([error]) for error in itertools.islice(validator.iter_errors(value), MAX_FAULTS))
        if faults := [_fault(error) for error in found if error is not None]:
            raise Unfit(faults)
        return value

    try:
        list(itertools.islice(validator.iter_errors(None), 1))
    except RecursionError as error:
        raise ConfigError("output_schema: its references lead in a circle") from error
    return validate


def _refuse(schema: dict[str, Any], resolver: Any) -> None:
    import referencing.exceptions

    for part in parts(schema):
        if isinstance(part.get("patternProperties"), dict):
            raise ConfigError("output_schema: patternProperties is not supported; use propertyNames with a pattern")
        if isinstance(pattern := part.get("pattern"), str):
            _matcher(pattern)
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if not isinstance(target := part.get(keyword), str):
                continue
            if not target.startswith("#"):
                raise ConfigError(f"output_schema: {keyword} {target!r:.80} leads out of the schema")
            try:
                resolver.lookup(target)
            except referencing.exceptions.Unresolvable as error:
                raise ConfigError(f"output_schema: {keyword} {target!r:.80} leads nowhere") from error


def _fault(error: Any) -> Fault:
    expected = json.dumps(error.validator_value, ensure_ascii=False, default=str)
    if error.validator == "required" and isinstance(error.validator_value, list):
        expected = json.dumps([name for name in error.validator_value if name not in error.instance])
    if error.validator not in {"type", "required", "enum", "const", "minimum", "maximum", "pattern"} | _SIZES:
        expected = ""
    path = tuple(error.absolute_path)
    return Fault(kind=str(error.validator or "false"), path=path, expected=short(expected), words=error.message)


_SIZES: Final = {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf"} | {
    "exclusiveMinimum",
    "exclusiveMaximum",
}


@functools.cache
def _matcher(pattern: str) -> Callable[[str], bool]:
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")).isinstance_python
    except SchemaError as error:
        raise ConfigError(
            f"output_schema: the pattern {pattern!r:.80} is not supported (look-around and back-references are not)"
        ) from error


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not _matcher(pattern)(instance):
        yield ValidationError(f"{instance!r:.100} does not match {pattern!r}")


def _any_of(validator: Any, schemas: Any, instance: Any, _: Any) -> Iterator[Any]:
    """As the library's, but it looks at few of the faults of a schema that does not fit."""
    from jsonschema import ValidationError

    unfit = [_some_faults(validator, schema, instance, index) for index, schema in enumerate(schemas)]
    if all(unfit):
        yield ValidationError("it fits none of the schemas", context=list(itertools.chain.from_iterable(unfit)))


def _one_of(validator: Any, schemas: Any, instance: Any, _: Any) -> Iterator[Any]:
    """Likewise."""
    from jsonschema import ValidationError

    unfit = [_some_faults(validator, schema, instance, index) for index, schema in enumerate(schemas)]
    if all(unfit):
        yield ValidationError("it fits none of the schemas", context=list(itertools.chain.from_iterable(unfit)))
    elif unfit.count([]) > 1:
        yield ValidationError("it fits more than one of the schemas")


def _some_faults(validator: Any, schema: Any, instance: Any, index: int) -> list[Any]:
    return list(itertools.islice(validator.descend(instance, schema, schema_path=index), MAX_FAULTS))


def _unique_items(_validator: Any, wanted: bool, instance: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if wanted and isinstance(instance, list):
        seen = {json.dumps(_as_schema_compares(item), sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("the items are not all different")


def _as_schema_compares(value: Any) -> Any:
    """1 and 1.0 are the same number there."""
    if isinstance(value, dict):
        return {key: _as_schema_compares(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_schema_compares(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
