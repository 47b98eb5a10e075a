"""`airlock ask --dry-run`: what would be sent first, and what the run could cost. Starts nothing and sends nothing."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.options import LIMIT_OPTIONS
from orchestrator.errors import ConfigError, PolicyRefused
from orchestrator.preview import MostCost, Preview, preview
from orchestrator.providers.prices import dollars
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.providers.spec import provider_from_spec
from orchestrator.rendering import escape_terminal
from orchestrator.result import json_values

if TYPE_CHECKING:
    from orchestrator.providers.base import Message, Provider
    from orchestrator.rlm import RLM

_HOW_TO_PRICE: Final = " (--price IN/OUT, --sub-price IN/OUT and --price-of SPEC=IN/OUT give one)"
_NO_KEY: Final = "no key: nothing is sent"
_OPTIONS: Final = {field: option for option, field in LIMIT_OPTIONS.items()}


def model_for_dry_run(spec: str, *, base_url: str | None) -> Provider:
    """The model by its name alone: no key is asked for, and a script is not executed.

    Raises:
        ConfigError: As `provider_from_spec`, or there is no such file.
    """
    vendor, _, name = spec.partition(":")
    if vendor != "scripted" or not name.strip():
        return provider_from_spec(spec, base_url=base_url, api_key=_NO_KEY)
    file = Path(name)
    if not file.is_file():
        raise ConfigError(f"{spec}: there is no such file")
    return ScriptedProvider([], name=spec)


def dry_run(rlm: RLM, question: str, context: Any, *, as_json: bool) -> ExitCode:
    """Print it.

    Raises:
        ContextError: The context can't be used.
    """
    try:
        seen = preview(rlm, question, context)
    except PolicyRefused as refusal:
        raise ConfigError(f"a policy would refuse the first request: {refusal}") from refusal
    if as_json:
        sys.stdout.write(json.dumps(_record(seen)) + "\n")
    else:
        for line in _lines(seen):
            sys.stdout.write((escape_terminal(line) if sys.stdout.isatty() else line) + "\n")
    sys.stdout.flush()
    return ExitCode.ANSWERED


def _record(seen: Preview) -> dict[str, Any]:
    record: dict[str, Any] = {"dry_run": True} | json_values(seen)
    record["messages"] = [dataclasses.asdict(message) | {"size_bytes": message.size_bytes} for message in seen.messages]
    return record


def _lines(seen: Preview) -> list[str]:
    lines = []
    for message in seen.messages:
        lines += [f"--- {message.role}: {_size(message)}", message.content]
    sub = f"sub-questions to {', '.join([seen.sub, *_named(seen)])}" if seen.sub else "no sub-questions"
    sub += f"; where one is out: {', '.join(seen.fallback)}" if seen.fallback else ""
    most = "" if seen.most_usd is None else f", {dollars(seen.most_usd)}"
    reserved = f"Reserved for it, with the longest reply: {seen.most_tokens:,} tokens{most}."
    return [
        *lines,
        "---",
        f"This would be sent to {seen.root} first; {sub}. Nothing was sent and nothing was started.",
        f"First request: about {seen.estimate.tokens:,} tokens ({seen.estimate.by}). {reserved}",
        f"Most that the run can cost: {_bound(seen.run)}.",
    ]


def _named(seen: Preview) -> list[str]:
    return [f"{model} as {name!r}" for name, model in seen.sub_llms.items()]


def _size(message: Message) -> str:
    return f"{len(message.content):,} characters, {message.size_bytes:,} bytes"


def _bound(run: MostCost) -> str:
    if run.usd is None:
        return run.why + (_HOW_TO_PRICE if run.why.startswith("not known") else "")
    by = f", by {_OPTIONS[run.limit]}" if run.limit else ""
    return f"{dollars(run.usd)}{by}: {run.why}"
