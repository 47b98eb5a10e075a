"""A trace in the formats of other programs.

``rlm`` is the JSONL that the logger of the method's authors writes (the distribution `rlms`), which their visualizer
opens: a line about the run, then one for each reply of the root. ``json`` is the whole trace as one document.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from orchestrator.errors import ConfigError
from orchestrator.traced import Event, TracedCell, TracedFile, TracedRun, TracedTurn

ExportFormat = Literal["rlm", "json"]
EXPORT_FORMATS: Final[tuple[ExportFormat, ...]] = get_args(ExportFormat)


def export_lines(file: TracedFile, form: ExportFormat) -> Iterator[str]:
    """The lines of a file in another format, without their ends. ASCII: nothing in them moves a terminal.

    Raises:
        ConfigError: ``rlm``, of a trace without text; or, while the lines are read, the trace is not as ours are.
    """
    if form == "json":
        return _written({"runs": list(map(_whole, each.runs.values()))} for each in (file,))
    if not all(run.has_text for run in file.runs.values()):
        raise ConfigError(
            "the trace holds no text, which the format rlm is made of: keep it with airlock ask --keep, or with "
            "RLM(trace_dir=..., keep_text=True)"
        )
    return _written(_Rlm(file).lines())


def _whole(run: TracedRun) -> dict[str, Any]:
    """All of a run. What each turn's root was sent stands in the turns' events, without what stood there before."""
    turns = [
        {"event": turn.event, "cells": list(map(dataclasses.asdict, turn.cells)), "other_events": turn.other_events}
        for turn in run.turns
    ]
    fields = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    return fields | {"turns": turns}


def _written(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    try:
        for line in lines:
            yield json.dumps(line)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"the trace is not as ours are, and can't be exported ({error!r:.80})") from error


class _Rlm:
    """The authors' format. Of a session's questions the replies follow each other.

    A child run stands in the call that it answered, and once: a trace that names it twice, or in itself, is no longer
    as it was written, and would grow without end.
    """

    def __init__(self, file: TracedFile) -> None:
        self._file = file
        self._children: set[tuple[Any, Any]] = set()

    def _child(self, call: Event) -> TracedRun | None:
        child = self._file.child(call)
        place = (call.get("ask", 0), call["child_run"])
        if child is None or place in self._children:
            return None
        self._children.add(place)
        return child

    def lines(self) -> Iterator[dict[str, Any]]:
        runs = self._file.first_runs
        start = runs[0].start
        yield {"type": "metadata", "timestamp": _moment(runs[0], start)} | _metadata(start)
        count = 0
        for run in runs:
            for iteration in self._iterations(run):
                count += 1
                yield iteration | {"iteration": count}

    def _iterations(self, run: TracedRun) -> Iterator[dict[str, Any]]:
        """The replies of one run; the last one has the answer."""
        answer = run.end.get("answer") if run.end is not None else None
        for turn in run.turns:
            last = turn is run.turns[-1] and run.last_chance is None
            yield self._iteration(run, turn, answer if last else None)
        if run.last_chance is not None and "response" in run.last_chance:
            asked = TracedTurn({**run.last_chance}, run.conversation)
            yield self._iteration(run, asked, answer)

    def _iteration(self, run: TracedRun, turn: TracedTurn, answer: str | None) -> dict[str, Any]:
        ends = [cell.end for cell in turn.cells if cell.end is not None]
        return {
            "type": "iteration",
            "iteration": 0,
            "timestamp": _moment(run, [turn.event, *ends][-1]),
            "prompt": turn.messages,
            "response": turn.event["response"],
            "code_blocks": [self._code_block(cell, answer) for cell in turn.cells],
            "final_answer": answer,
            "iteration_time": turn.event["wall_s"] + sum(end["wall_s"] for end in ends),
        }

    def _code_block(self, cell: TracedCell, answer: str | None) -> dict[str, Any]:
        """Our cells show one text: what was printed, on either stream, and the last value. An exception is apart."""
        end: Event = cell.end or {}
        result = {
            "stdout": end.get("output", ""),
            "stderr": end.get("error", ""),
            "locals": {},
            "execution_time": end.get("wall_s", 0.0),
            "rlm_calls": [self._call(call) for call in cell.calls],
            "final_answer": answer if end.get("answered") else None,
        }
        return {"code": cell.start["code"], "result": result}

    def _call(self, call: Event) -> dict[str, Any]:
        child = self._child(call)
        usage = call["usage"] or (_tokens_of(child) if child is not None else {})
        counts = {"input": usage.get("input_tokens", 0), "output": usage.get("output_tokens", 0)}
        of_model = {
            "total_calls": 1,
            "total_input_tokens": counts["input"],
            "total_output_tokens": counts["output"],
        }
        record: dict[str, Any] = {
            "root_model": _model(call["model"]),
            "prompt": "\n\n".join(text for text in (call.get("prompt"), call.get("data")) if text),
            "response": call.get("reply", ""),
            "usage_summary": {"model_usage_summaries": {_model(call["model"]): of_model}},
            "execution_time": call["wall_s"],
            "prompt_tokens": counts["input"],
            "completion_tokens": counts["output"],
        }
        if call["error_kind"]:
            record["error"] = f"{call['error_kind']}: {call.get('error', '')}"
        if child is not None:
            numbered = enumerate(self._iterations(child), start=1)
            iterations = [iteration | {"iteration": number} for number, iteration in numbered]
            record["metadata"] = {"run_metadata": _metadata(child.start), "iterations": iterations}
        return record


def _metadata(start: Event) -> dict[str, Any]:
    turns = start["limits"]["max_turns"]
    vendor = start["root"].partition(":")[0]
    return {
        "root_model": _model(start["root"]),
        "max_depth": start["limits"]["max_depth"],
        "max_iterations": None if turns == "unlimited" else turns,
        "backend": vendor,
        "backend_kwargs": {"model_name": _model(start["root"])},
        "environment_type": "docker",
        "environment_kwargs": {"isolation": start["isolation"]},
        "other_backends": [start["sub"].partition(":")[0]] if start["sub"] else None,
    }


def _model(name: str) -> str:
    """A model's name without its vendor."""
    return name.partition(":")[2] or name


def _tokens_of(run: TracedRun) -> dict[str, Any]:
    usage: dict[str, Any] = run.end["usage"] if run.end is not None else {}
    return usage


def _moment(run: TracedRun, event: Event) -> str:
    started = datetime.fromisoformat(run.start["started_at"])
    return (started + timedelta(seconds=event["t_s"] - run.start["t_s"])).isoformat(timespec="milliseconds")
