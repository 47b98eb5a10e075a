"""What the shipped schema says of events, for tests of any kind of run."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

from orchestrator.schemas import load_schema
from orchestrator.trace import TraceEvent


@functools.cache
def _validator(definition: str) -> Any:
    schema = {"$ref": f"#/$defs/{definition}", "$defs": load_schema("trace")["$defs"]}
    return jsonschema.Draft202012Validator(schema)


def faults_of(event: dict[str, Any]) -> list[str]:
    """Where an event, or a line of a file, is not as the schema says."""
    kind = event["kind"]
    if kind not in load_schema("trace")["$defs"]:
        return [f"{kind}: not in the schema"]
    return [f"{kind}: {error.json_path}: {error.message}"[:300] for error in _validator(kind).iter_errors(event)]


def faults_in(path: str | Path) -> list[str]:
    """The same of all lines of a trace."""
    return [fault for line in Path(path).read_text().splitlines() for fault in faults_of(json.loads(line))]


class Checked:
    """A listener that compares each event with the schema, transient ones too."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def __call__(self, event: TraceEvent) -> None:
        """Compare one."""
        self.faults += faults_of(json.loads(json.dumps(event.to_dict())))
