"""What it may cost to check a hostile value of a type, read from the type's JSON schema.

Pydantic looks for all faults of a value, and of a union's alternatives it tries each one. So few bytes may have many
faults, and each takes memory: an empty object has one for every field that it lacks, an alternative that holds itself
has its value's again, and does so at every level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Schema = Any
"""A JSON schema, or a part of one."""


def whole_schema(adapter: TypeAdapter[Any]) -> Schema:
    """A type's schema with all alternatives: of a list and a tuple, which JSON writes alike, pydantic tells one."""
    from pydantic.json_schema import GenerateJsonSchema

    class Whole(GenerateJsonSchema):
        def get_flattened_anyof(self, schemas: list[dict[str, Any]]) -> dict[str, Any]:
            return {"anyOf": schemas}

    return adapter.json_schema(schema_generator=Whole)


def most_faults(schema: Schema) -> int:
    """How many faults one list or object of a value may have, those of the values in it apart."""
    defs: dict[str, Schema] = schema.get("$defs", {})
    known: dict[str, int] = {}

    def faults(part: Schema) -> int:
        if not isinstance(part, dict):
            return max(map(faults, part), default=1) if isinstance(part, list) else 1
        if name := _name_in(part):
            if name not in known:
                known[name] = 0  # of a type that holds itself
                known[name] = faults(defs.get(name, {}))
            return known[name]
        own = len(part.get("required", ())) + len(part.get("prefixItems", ()))
        tried = sum(map(faults, part.get("anyOf", ())))
        return max(own, tried, 1, *(faults(value) for key, value in part.items() if key not in ("anyOf", "$defs")))

    return faults(schema)


def doubles(schema: Schema) -> bool:
    """Whether a type holds itself in two alternatives that the same value may be tried as."""
    defs: dict[str, Schema] = schema.get("$defs", {})
    inside = {name: set(_names(part)) for name, part in defs.items()}
    for _ in inside:
        for names in inside.values():
            names.update(*(inside.get(name, ()) for name in tuple(names)))

    def leads_to(part: Schema, name: str) -> bool:
        return any(name in (found, *inside.get(found, ())) for found in _names(part))

    def again(union: Schema, name: str) -> bool:
        kinds = Counter(_kind(branch, defs) for branch in _alternatives(union, defs, ()) if leads_to(branch, name))
        return bool(kinds) and max(kinds.values()) > 1

    return any(again(union, name) for name, part in defs.items() for union in _unions(part))


def _name_in(part: dict[str, Schema]) -> str | None:
    reference = part.get("$ref")
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else None


def _parts(schema: Schema) -> Iterator[dict[str, Schema]]:
    """All objects of a schema, but not those that it refers to."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from _parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _parts(value)


def _names(schema: Schema) -> Iterator[str]:
    return filter(None, map(_name_in, _parts(schema)))


def _unions(schema: Schema) -> Iterator[list[Schema]]:
    return (part["anyOf"] for part in _parts(schema) if isinstance(part.get("anyOf"), list))


def _alternatives(union: list[Schema], defs: dict[str, Schema], through: tuple[str, ...]) -> Iterator[Schema]:
    """Of a union, those of the unions in it too."""
    for branch in union:
        name = _name_in(branch)
        whole = defs.get(name, {}) if name else branch
        if isinstance(whole.get("anyOf"), list) and name not in through:
            yield from _alternatives(whole["anyOf"], defs, (*through, name) if name else through)
        else:
            yield branch


def _kind(branch: Schema, defs: dict[str, Schema]) -> str:
    name = _name_in(branch)
    return str((defs.get(name, {}) if name else branch).get("type"))
