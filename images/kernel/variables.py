"""Which variables the cells have made: names, types and sizes, never a value.

No code of a value's own runs for it: a type is named by its true name, and a size is told where it is known without
asking the value.
"""

import json
import sys
import types
from collections.abc import Mapping
from typing import Any

NAME_CHARS = 64  # the host takes no longer name or type
MAX_LISTED = 100  # and no more of them

SIZED: tuple[type, ...] = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
IMPORTABLE = (types.FunctionType, types.BuiltinFunctionType, type)


def variables(namespace: Mapping[str, Any], ours: Mapping[str, Any]) -> list[tuple[str, str, int | None]]:
    """Name, type and size of each variable, in the order in which they were made; not what was there before the first
    cell (`ours`), not modules, nor what was imported from one.
    """
    return [
        (name[:NAME_CHARS], type_name(value)[:NAME_CHARS], size(value))
        for name, value in dict(namespace).items()
        if type(name) is str
        and not name.startswith("_")
        and not (name in ours and ours[name] is value)
        and not is_imported(value)
    ]


def type_name(value: Any) -> str:
    """The true name: a class or its metaclass may have another one, or raise."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def is_imported(value: Any) -> bool:
    """Whether it is a module, or a function or class of one."""
    if type(value) is types.ModuleType:
        return True
    module = value.__module__ if type(value) in IMPORTABLE else "__main__"
    return type(module) is str and module != "__main__"


def size(value: Any) -> int | None:
    """Characters, items or rows, where that is known without running code of the value's."""
    for kind in SIZED:
        if isinstance_safely(value, kind):
            length: int = kind.__len__(value)  # type: ignore[attr-defined]  # each of them has it
            return length
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if (numpy is not None and type(value) is numpy.ndarray and value.ndim) or (
        pandas is not None and type(value) in (pandas.DataFrame, pandas.Series)
    ):
        return int(value.shape[0])
    return None


def isinstance_safely(value: Any, kind: type) -> bool:
    """`isinstance` asks the value for its `__class__`, which may be code of a cell's."""
    return kind in type.__dict__["__mro__"].__get__(type(value))


def told(namespace: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """What `SHOW_VARS()` returns."""
    found = variables(namespace, ours)
    if not found:
        return "No variables yet."
    shown = ", ".join(f"{name!r}: {words(kind, items)!r}" for name, kind, items in found[-MAX_LISTED:])
    more = f" and {len(found) - MAX_LISTED:,} earlier ones" if len(found) > MAX_LISTED else ""
    return f"Available variables: {{{shown}}}{more}"


def listing(namespace: Mapping[str, Any], ours: Mapping[str, Any]) -> bytes:
    """The last variables that were made, as the host reads them."""
    found = variables(namespace, ours)
    listed = [{"name": name, "type": kind, "size": items} for name, kind, items in found[-MAX_LISTED:]]
    return json.dumps({"count": len(found), "listed": listed}).encode()


def words(kind: str, items: int | None) -> str:
    return kind if items is None else f"{kind} ({items:,})"
