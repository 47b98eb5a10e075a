"""Reads a journal: line by line, as JSON and nothing else, each following the one before it.

It is the user's own file, but texts in it are a document's or a model's. A last line that a kill cut in two is left
out.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from orchestrator.audit_log import MAX_LINE_BYTES, check_line, read_line
from orchestrator.errors import ConfigError
from orchestrator.providers.base import Message, ModelReply, TokenUsage
from orchestrator.recorded import (
    ALWAYS_WRITTEN,
    MAX_PROMPTS_SHOWN,
    RESUMABLE,
    Asked,
    CellCall,
    Charge,
    Place,
    Record,
    RootFailure,
    RootReply,
    event_key,
    prompt_digest,
    shown_prompt,
)
from orchestrator.regular_file import open_regular
from orchestrator.result import PolicyDecision
from sandbox.messages import SubCallFailure

_MOST: Final = 2**53
"""Of any count, amount and time, as `orchestrator.attempt` takes tokens."""


def read_record(path: Path) -> Record:
    """Read a journal.

    Raises:
        ConfigError: It can't be read, is of another format, was changed, or lacks something.
    """
    record = Record()
    for number, line in _lines(path, record):
        try:
            _take(record, line)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            kind = line["kind"]
            raise ConfigError(f"{path}: line {number} ({kind!r:.40}) is not complete: {error!r:.80}") from error
    return record


def _lines(path: Path, record: Record) -> Iterator[tuple[int, dict[str, Any]]]:
    ended = False
    try:
        with open_regular(path) as file:
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if not raw.endswith(b"\n") and len(raw) <= MAX_LINE_BYTES:
                    return  # a kill cut it in two
                line = read_line(raw)
                if problem := check_line(line, record.head, number, ended=ended):
                    raise ConfigError(f"{path}: {problem}")
                record.head = hashlib.sha256(raw[:-1]).hexdigest()
                record.size_bytes += len(raw)
                ended = line["kind"] == "run_end"
                yield number, line
    except OSError as error:
        raise ConfigError(f"the journal {str(path)!r} can't be read: {error.strerror}") from error


def _take(record: Record, line: dict[str, Any]) -> None:
    kind: str = line["kind"]
    record.wall_s = max(record.wall_s, _seconds(line["t_s"]))
    if note := _NOTES.get(kind):
        note(record, line)
        return
    if kind == "child_end" and line["stop_reason"] in RESUMABLE:
        return
    if kind == "run_end" and line["stop_reason"] in RESUMABLE:
        record.stop_reason = line["stop_reason"]
        return
    if kind not in ALWAYS_WRITTEN:
        record.events[event_key(kind, line)] += 1
    if event := _EVENTS.get(kind):
        event(record, line)


def _started(record: Record, line: dict[str, Any]) -> None:
    record.lives, record.digest_key = 1, str(line["digest_key"])


def _resumed(record: Record, line: dict[str, Any]) -> None:
    record.lives = int(line["life"])
    for run in record.runs.values():
        run.failed.clear()


def _permit(record: Record, line: dict[str, Any]) -> None:
    usage = TokenUsage(input_tokens=_count(line["tokens"]), output_tokens=0, estimated=True)
    record.charges[int(line["permit"])] = Charge(
        run=int(line["run"]),
        sub_call=bool(line["sub_call"]),
        usage=usage,
        usd=_money(line["usd"]),
        sent_bytes=_count(line["sent_bytes"]),
    )


def _settled(record: Record, line: dict[str, Any]) -> None:
    number = int(line["permit"])
    usage, usd = usage_from(line["usage"]), _money(line["usd"])
    record.charges[number] = dataclasses.replace(record.charges[number], usage=usage, usd=usd)


def _root_reply(record: Record, line: dict[str, Any]) -> None:
    reply = ModelReply(text=str(line["text"]), usage=usage_from(line["usage"]), finish_reason=line["finish_reason"])
    messages = tuple(Message(role=role, content=str(content)) for role, content in line["messages"])
    answer = RootReply(
        model=str(line["model"]),
        kept=int(line["kept"]),
        messages=messages,
        reply=reply,
        permits=tuple(map(int, line["permits"])),
        sums_up=int(line["sums_up"]),
    )
    run = record.run(int(line["run"]))
    run.roots += [*run.failed, answer]
    run.failed.clear()


def _root_failed(record: Record, line: dict[str, Any]) -> None:
    limit = None if line["limit"] is None else str(line["limit"])
    failure = RootFailure(
        limit=limit,
        too_long=bool(line["too_long"]),
        permits=tuple(map(int, line["permits"])),
        sums_up=int(line["sums_up"]),
    )
    record.run(int(line["run"])).failed.append(failure)


def _child(record: Record, line: dict[str, Any]) -> None:
    child, parent = int(line["child"]), int(line["run"])
    record.run(child).parent = parent
    cell = record.run(parent).cell(int(line["turn"]), int(line["cell"]))
    cell.calls.setdefault(_asked(line), CellCall(outcome=None, child=child))


def _call(record: Record, line: dict[str, Any]) -> None:
    """A question whose answer nobody waited for, since the run ended, is as if it had not been asked; but it was sent,
    and its permits stay.
    """
    cell = record.run(int(line["run"])).cell(int(line["turn"]), int(line["cell"]))
    failure = line["failure"]
    outcome = str(line["reply"]) if failure is None else SubCallFailure(str(failure[0]), str(failure[1]))
    cell.calls[_asked(line)] = CellCall(
        outcome=outcome,
        permits=tuple(map(int, line["permits"])),
        child=None if line["child"] is None else int(line["child"]),
        usage=None if line["usage"] is None else usage_from(line["usage"]),
        model=str(line["model"]),
    )


def _refused_more(record: Record, line: dict[str, Any]) -> None:
    record.run(int(line["run"])).refused_more = True


def _cell_ended(record: Record, line: dict[str, Any]) -> None:
    cell = record.run(int(line.get("run", 0))).cell(int(line["turn"]), int(line["cell"]))
    cell.status = str(line["status"])
    cell.output = str(line.get("output", ""))
    cell.error = None if line.get("error") is None else str(line["error"])
    cell.lost_because = None if line.get("lost_because") is None else str(line["lost_because"])


def _asked_prompt(record: Record, line: dict[str, Any]) -> None:
    run = record.run(int(line.get("run", 0)))
    cell = run.cells.get(Place(int(line["turn"]), int(line.get("cell") or 0)))
    if cell is not None and len(cell.prompts) < MAX_PROMPTS_SHOWN and "prompt" in line:
        data = line.get("data")
        cell.prompts[prompt_digest(line["prompt"], data, line.get("name") or "")] = shown_prompt(line["prompt"], data)


def _policy(record: Record, line: dict[str, Any]) -> None:
    fields = {field.name: line[field.name] for field in dataclasses.fields(PolicyDecision)}
    record.policies.append(PolicyDecision(**fields))


def _box(record: Record, line: dict[str, Any]) -> None:
    record.image = line.get("image")


def _ended(record: Record, line: dict[str, Any]) -> None:
    record.end, record.stop_reason = line, str(line["stop_reason"])


_NOTES: Final[dict[str, Callable[[Record, dict[str, Any]], None]]] = {
    "resume": _resumed,
    "permit": _permit,
    "settled": _settled,
    "root_reply": _root_reply,
    "root_failed": _root_failed,
    "child": _child,
    "call": _call,
    "refused_more": _refused_more,
}
"""Lines that are no events: what a run needs to go on."""
_EVENTS: Final[dict[str, Callable[[Record, dict[str, Any]], None]]] = {
    "run_start": _started,
    "cell": _cell_ended,
    "sub_call": _asked_prompt,
    "policy": _policy,
    "box": _box,
    "run_end": _ended,
}


def usage_from(values: dict[str, Any]) -> TokenUsage:
    """Tokens as a journal has them."""
    return TokenUsage(
        input_tokens=_count(values["input_tokens"]),
        output_tokens=_count(values["output_tokens"]),
        cached_input_tokens=_count(values["cached_input_tokens"]),
        cache_write_tokens=_count(values["cache_write_tokens"]),
        estimated=bool(values["estimated"]),
    )


def _count(value: Any) -> int:
    """Of tokens or bytes. Less than none would be given to the run on top of its limits."""
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def _seconds(value: Any) -> float:
    if not 0 <= (seconds := float(value)) <= _MOST:
        raise ValueError(f"{value!r:.40} is no time")
    return seconds


def _money(text: str | None) -> Decimal | None:
    if text is None:
        return None
    usd = Decimal(text)
    if not usd.is_finite() or not 0 <= usd <= _MOST:
        raise ValueError(f"{text!r:.40} is no amount")
    return usd


def _asked(line: dict[str, Any]) -> Asked:
    return Asked(str(line["digest"]), int(line["occurrence"]))
