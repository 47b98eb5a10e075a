"""`airlock export`: a trace in the formats of other programs. `airlock schema`: what our own files hold."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.messages import UsageError, say
from orchestrator.errors import ConfigError
from orchestrator.export import EXPORT_FORMATS, export_lines
from orchestrator.schemas import SCHEMA_NAMES, schema_text
from orchestrator.traced import read_trace

DESCRIPTION: Final = (
    "Writes a trace in another format. rlm: the JSONL of the RLM authors' own engine, which their visualizer opens; it "
    "needs a trace with text (airlock ask --keep, or a journal). json: the trace as one JSON document."
)


def export_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock export`."""
    parser = parser_class(prog="airlock export", description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("trace", metavar="TRACE", help="the JSONL file, or the directory of a journal")
    add("--format", choices=EXPORT_FORMATS, default="rlm", help="(default: %(default)s)")
    add("-o", "--output", metavar="FILE", help="where to write it, for you alone to read; by default stdout")
    return parser


def export(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        ConfigError: The trace can't be read, or holds no text where the format needs it.
        UsageError: The file can't be written, or is there already.
    """
    lines = export_lines(read_trace(Path(options.trace)), options.format)
    if options.output is None:
        for line in lines:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
    else:
        _write(Path(options.output), lines)
        say(f"written: {options.output}")
    return ExitCode.ANSWERED


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"--output: {str(path)!r} is there already") from None
    except OSError as error:
        raise UsageError(f"--output: {str(path)!r} can't be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.writelines(line + "\n" for line in lines)
    except ConfigError:
        path.unlink(missing_ok=True)
        raise
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"{str(path)!r} can't be written: {error.strerror}") from error


def schema_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock schema`."""
    parser = parser_class(
        prog="airlock schema",
        description="Prints a JSON schema. trace: of each line of a trace. run: of what ask --json prints, and of "
        "Trajectory.to_json().",
        allow_abbrev=False,
    )
    parser.add_argument("name", choices=SCHEMA_NAMES)
    return parser


def schema(options: argparse.Namespace) -> ExitCode:
    """Run the command."""
    sys.stdout.write(schema_text(options.name))
    sys.stdout.flush()
    return ExitCode.ANSWERED
