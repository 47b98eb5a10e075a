"""The options of `airlock ask`, and the limits that they stand for."""

from __future__ import annotations

import argparse
import os
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from orchestrator.limits import MIB, UNLIMITED, Limits
from orchestrator.policies.limits import DEFAULT_FLOOR_BYTES

if TYPE_CHECKING:
    from orchestrator.policies.base import Policy

LIMIT_OPTIONS: Final = {
    "--max-calls": "max_sub_calls",
    "--max-tokens": "max_tokens",
    "--max-cost": "max_cost_usd",
    "--max-seconds": "max_wall_s",
    "--max-iterations": "max_turns",
    "--max-depth": "max_depth",
}
"""Option: field of `Limits`."""

_HELP: Final = {
    "--max-calls": "sub-questions",
    "--max-tokens": "input and output tokens of all models together",
    "--max-cost": "US dollars of all models together; needs their prices",
    "--max-seconds": "seconds from start to answer",
    "--max-iterations": "replies of the root model",
    "--max-depth": "levels below the root; 0: no sub-questions; 2 and more: child runs",
}
_MAX_EGRESS_HELP: Final = (
    "most that is sent to models in all, as a multiple of the documents' size, for example 3; "
    f"{DEFAULT_FLOOR_BYTES // MIB} MiB may always be sent"
)
_PRICE_HELP: Final = (
    "the model's price in US dollars for a million tokens, or IN/CACHED/OUT; 0/0: a local model (default: a table of "
    "the vendors' prices)"
)
_SUB_MODELS_HELP: Final = (
    "another sub-model, which the code asks by this name: fast=openai:NAME, or fast=openai:NAME@URL at an address of "
    "its own; repeatable"
)
_FALLBACK_HELP: Final = "asked where a model's server is out, SPEC or SPEC@URL; repeatable, in this order"
_NUMBER: Final = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(\.\d+)?", re.ASCII)
_EPILOG: Final = """\
Keys are read from OPENAI_API_KEY and ANTHROPIC_API_KEY; they never reach the container.
exit codes: 0 answered, 2 bad usage, 3 a limit (what there is of an answer is printed),
4 sandbox, 5 model provider, 6 refused by a policy, 7 airlock resume differs from the journal,
130 Ctrl-C, 143 SIGTERM
"""


def ask_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock ask`."""
    parser = parser_class(
        prog="airlock ask",
        usage='airlock ask FILE... "question" [options]\n       airlock ask FILE... -q "question" [options]',
        description="Ask one question about text files. The answer goes to stdout, all else to stderr.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("words", nargs="*", metavar="FILE", help="UTF-8 text files, - for stdin; without -q the question comes last")
    add("-q", "--question", metavar="TEXT", help="the question")
    _add_models(parser)
    _add_limits(parser)
    _add_policies(parser)
    _add_box(parser)
    _add_output(parser)
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("models").add_argument
    add("--model", metavar="SPEC", help="openai:NAME, anthropic:NAME or scripted:FILE.py (default: $AIRLOCK_MODEL)")
    add("--sub-model", metavar="SPEC", help="the model that answers sub-questions (default: the same)")
    add("--base-url", metavar="URL", help="address of a compatible server (Ollama: http://127.0.0.1:11434/v1)")
    add("--sub-base-url", metavar="URL", help="the sub-model's (default: --base-url, which then serves both)")
    add("--price", metavar="IN/OUT", help=_PRICE_HELP)
    add("--sub-price", metavar="IN/OUT", help="the sub-model's, likewise")
    add("--sub-models", metavar="NAME=SPEC", action="append", help=_SUB_MODELS_HELP)
    add("--fallback", metavar="SPEC", action="append", help=_FALLBACK_HELP)
    add("--price-of", metavar="SPEC=IN/OUT", action="append", help="the price of any other of them; repeatable")
    add("--cache", metavar="DIR", help="keep the sub-models' replies there, and pay for none of them twice")
    add("--prompt-mode", choices=("standard", "conservative", "no_subcalls"), default="standard")
    add(
        "--observe",
        choices=("full", "typed"),
        default="full",
        help="typed: the root sees numbers, booleans and labels of its own, and no text of the document",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("limits, each a number or 'unlimited'")
    for option, field in LIMIT_OPTIONS.items():
        default = getattr(Limits(), field)
        said = "unlimited" if default == UNLIMITED else f"{default:,}"
        limits.add_argument(option, metavar="N", help=f"{_HELP[option]} (default: {said})")


def _add_policies(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("policies on what leaves for a model and what comes back").add_argument
    add(
        "--allow-model",
        metavar="NAME",
        action="append",
        help="call only this model, for example openai:gpt-5.5; repeatable",
    )
    add("--max-egress", metavar="N", help=_MAX_EGRESS_HELP)
    add("--redact-prompts", action="store_true", help="replace what looks like a key or password in what is sent")
    add("--canary", action="store_true", help="put a random mark into system prompts; end the run where it comes out")


def _add_box(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("box").add_argument
    add(
        "--context-mode",
        choices=("auto", "str", "lazy"),
        default="auto",
        help="what one large document is in the box: a str, or a text read from the disk where code looks at it; "
        "auto: what fits the memory",
    )
    add("--isolation", choices=("container", "gvisor"), default="container", help="the least isolation to accept")
    add(
        "--image",
        choices=("kernel", "data"),
        default="kernel",
        help="data: with numpy and pandas; 28 MB to download at its first use",
    )
    add("--setup", metavar="FILE", help="Python code that the box runs before the first cell")
    add("--module", metavar="PATH", action="append", help="a .py file or package that cells can import; repeatable")
    add(
        "--on-kill",
        choices=("tell", "replay"),
        default="tell",
        help="replay: run the earlier cells again in the fresh box where one cost its box",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("answer and output").add_argument
    add("--schema", metavar="FILE", help="JSON schema of the answer; what is printed is JSON that fits it")
    add("--dry-run", action="store_true", help="print what would be sent first and the most it can cost; start nothing")
    add("--json", action="store_true", help="print answer, stop reason, usage, documents, decisions and trace as JSON")
    add("--keep", action="store_true", help="keep all text in the trace, the document's too")
    add("--journal", metavar="DIR", help="keep there what airlock resume needs after a kill, the document's text too")
    add(
        "--keep-days", metavar="N", help="age at which traces are removed; 0: never (default: $AIRLOCK_KEEP_DAYS or 30)"
    )
    add("--audit-anchor", metavar="FILE", help="write the trace's head there, for airlock verify --anchor")
    add(
        "-v", "--verbose", action="store_true", help="show code, questions and replies, and all output as it is printed"
    )
    add("--quiet", action="store_true", help="errors only on stderr")


def policies_from(options: argparse.Namespace) -> list[Policy]:
    """The policies that the options name.

    Raises:
        ConfigError: A value is wrong; the text names the option.
    """
    from orchestrator.errors import ConfigError
    from orchestrator.policies.canary import Canary
    from orchestrator.policies.limits import EgressLimit, ModelAllowList
    from orchestrator.policies.secrets import SecretsRedaction

    found: list[Policy] = []
    if options.allow_model:
        if bad := [name for name in options.allow_model if ":" not in name.strip(":")]:
            raise ConfigError(f"--allow-model: {bad[0]!r} names no model: write openai:NAME")
        found.append(ModelAllowList(options.allow_model))
    if options.redact_prompts:  # before what counts bytes
        found.append(SecretsRedaction(prompts=True))
    if options.canary:
        found.append(Canary())
    if options.max_egress is not None:
        times = options.max_egress.replace(",", "") if _NUMBER.fullmatch(options.max_egress) else "0"
        if float(times) <= 0:
            raise ConfigError(f"--max-egress: {options.max_egress!r} is not a number above 0")
        found.append(EgressLimit(float(times)))
    return found


def limits_from(options: argparse.Namespace) -> Limits:
    """The limits that the options name.

    Raises:
        ConfigError: One is out of range; the text names the option.
    """
    from orchestrator.errors import ConfigError

    given: dict[str, float | Decimal] = {}
    for option, field in LIMIT_OPTIONS.items():
        text = getattr(options, option.removeprefix("--").replace("-", "_"))
        if text is not None:
            given[field] = _money(option, text) if field == "max_cost_usd" else _number(option, text)
    try:
        return Limits(**given)  # type: ignore[arg-type]
    except ConfigError as error:
        said = str(error)
        for option, field in LIMIT_OPTIONS.items():
            said = said.replace(f"Limits.{field}: inf", f"{option}: 'unlimited'")
            said = said.replace(f"Limits.{field}:", f"{option}:")
        said = re.sub(r"Decimal\('([^']*)'\) is not a Decimal or an integer", r"\1 is not a number", said)
        raise ConfigError(said.replace("or UNLIMITED", "or 'unlimited'")) from None


def keep_days_from(options: argparse.Namespace) -> int:
    """The days for which traces are kept: the option, else ``AIRLOCK_KEEP_DAYS``, else `KEEP_DAYS`; 0: for ever.

    Raises:
        ConfigError: It is no such number.
    """
    from orchestrator.errors import ConfigError
    from orchestrator.kept import KEEP_DAYS, MAX_KEEP_DAYS

    name = "AIRLOCK_KEEP_DAYS" if options.keep_days is None else "--keep-days"
    text = os.environ.get(name, "") if options.keep_days is None else options.keep_days
    if not text and options.keep_days is None:
        return KEEP_DAYS
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MAX_KEEP_DAYS:
        raise ConfigError(
            f"{name}: {text!r:.40} is not a whole number from 0 (keep for ever) to {MAX_KEEP_DAYS:,} days"
        )
    return int(text)


def _money(option: str, text: str) -> Decimal | float:
    if text == "unlimited":
        return UNLIMITED
    _number(option, text)
    return Decimal(text.replace(",", ""))


def _number(option: str, text: str) -> float:
    from orchestrator.errors import ConfigError

    if text == "unlimited":
        return UNLIMITED
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ConfigError(f"{option}: {text!r} is neither a number nor 'unlimited'")
    plain = text.replace(",", "")
    return float(plain) if match[1] else int(plain)
