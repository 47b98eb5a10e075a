"""The JSON schemas of what a run leaves behind: its events, and its result."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal, get_args

SchemaName = Literal["trace", "run"]
"""``trace``: one event, a line of a trace file. ``run``: `Trajectory.to_dict`, and what `airlock ask --json` prints."""

SCHEMA_NAMES: tuple[SchemaName, ...] = get_args(SchemaName)


def schema_text(name: SchemaName) -> str:
    """A schema (JSON Schema 2020-12), as it is shipped: every field with its type, its unit and what it says."""
    return files("orchestrator").joinpath(f"{name}_schema.json").read_text(encoding="utf-8")


def load_schema(name: SchemaName) -> dict[str, Any]:
    """The same, read."""
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema
