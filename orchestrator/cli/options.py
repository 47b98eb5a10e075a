"""The options of `airlock ask`, and the limits that they stand for."""

from __future__ import annotations

import argparse
import re
from typing import Final

from orchestrator.limits import UNLIMITED, Limits

LIMIT_OPTIONS: Final = {
    "--max-calls": "max_sub_calls",
    "--max-tokens": "max_tokens",
    "--max-seconds": "max_wall_s",
    "--max-iterations": "max_turns",
    "--max-depth": "max_depth",
}
"""Option: field of `Limits`."""

_HELP: Final = {
    "--max-calls": "sub-questions",
    "--max-tokens": "input and output tokens of all models together",
    "--max-seconds": "seconds from start to answer",
    "--max-iterations": "replies of the root model",
    "--max-depth": "levels below the root; 0: no sub-questions",
}
_NUMBER: Final = re.compile(r"-?\d+(?:_\d+)*(\.\d+)?")
_EPILOG: Final = """\
Keys are read from OPENAI_API_KEY and ANTHROPIC_API_KEY; they never reach the container.
exit codes: 0 answered, 2 bad usage, 3 a limit (what there is of an answer is printed),
4 sandbox, 5 model provider, 130 Ctrl-C, 143 SIGTERM
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
    models = parser.add_argument_group("models")
    add = models.add_argument
    add("--model", metavar="SPEC", help="openai:NAME, anthropic:NAME or scripted:FILE.py (default: $AIRLOCK_MODEL)")
    add("--sub-model", metavar="SPEC", help="the model that answers sub-questions (default: the same)")
    add("--base-url", metavar="URL", help="address of a compatible server (Ollama: http://127.0.0.1:11434/v1)")
    add("--sub-base-url", metavar="URL", help="the sub-model's (default: --base-url, which then serves both)")
    add("--prompt-mode", choices=("standard", "conservative", "no_subcalls"), default="standard")
    add(
        "--observe",
        choices=("full", "typed"),
        default="full",
        help="typed: the root sees numbers, booleans and labels of its own, and no text of the document",
    )
    limits = parser.add_argument_group("limits, each a number or 'unlimited'")
    for option, field in LIMIT_OPTIONS.items():
        limits.add_argument(option, metavar="N", help=f"{_HELP[option]} (default: {getattr(Limits(), field):,})")
    box = parser.add_argument_group("box and output")
    add = box.add_argument
    add("--isolation", choices=("container", "gvisor"), default="container", help="the least isolation to accept")
    add("--json", action="store_true", help="print answer, stop reason, usage, isolation and trace path as JSON")
    add("--keep", action="store_true", help="keep all text in the trace, the document's too")
    add("--audit-anchor", metavar="FILE", help="write the trace's head there, for airlock verify --anchor")
    add("--quiet", action="store_true", help="errors only on stderr")
    return parser


def limits_from(options: argparse.Namespace) -> Limits:
    """The limits that the options name.

    Raises:
        ConfigError: One is out of range; the text names the option.
    """
    from orchestrator.errors import ConfigError

    given: dict[str, float] = {}
    for option, field in LIMIT_OPTIONS.items():
        text = getattr(options, option.removeprefix("--").replace("-", "_"))
        if text is not None:
            given[field] = _number(option, text)
    try:
        return Limits(**given)  # type: ignore[arg-type]
    except ConfigError as error:
        said = str(error)
        for option, field in LIMIT_OPTIONS.items():
            said = said.replace(f"Limits.{field}: inf", f"{option}: 'unlimited'")
            said = said.replace(f"Limits.{field}:", f"{option}:")
        raise ConfigError(said.replace("or UNLIMITED", "or 'unlimited'")) from None


def _number(option: str, text: str) -> float:
    from orchestrator.errors import ConfigError

    if text == "unlimited":
        return UNLIMITED
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ConfigError(f"{option}: {text!r} is neither a number nor 'unlimited'")
    return float(text) if match[1] else int(text)
