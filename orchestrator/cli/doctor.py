"""`airlock doctor`: starts a box at each level that the engine has, and shows what is known of its locks."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.messages import say
from orchestrator.errors import BoxError
from orchestrator.rendering import escape_terminal
from orchestrator.sync import run_sync
from sandbox.audit.escapes import Judgement, components, judge_engine
from sandbox.audit.findings import Audit
from sandbox.errors import ControlMissing, SandboxError
from sandbox.host import Host, shared_host
from sandbox.runtimes import GVISOR
from sandbox.sandbox import Sandbox
from sandbox.spec import Isolation, KernelSettings, SandboxSpec

DESCRIPTION: Final = (
    "Starts a box at each isolation level that the engine has and compares it with what it should be: each control is "
    "held, missing or not checked. Compares the engine's versions with known container escapes."
)
EPILOG: Final = """\
exit codes: 0 nothing is missing at the default level, 2 bad usage, 4 a control of the default level is
missing, no box came up there, or, with --strict, a version is known to be vulnerable
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One isolation level on this engine.

    Attributes:
        demanded: What was asked for.
        audit: What is known of the box; None where none came up.
        error: Why none came up, or "".
    """

    demanded: Isolation
    audit: Audit | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was found. The first level is the default one."""

    versions: dict[str, str]
    levels: Sequence[Level]
    escapes: Sequence[Judgement]

    def exit_code(self, *, strict: bool) -> ExitCode:
        """What the shell gets."""
        default = self.levels[0].audit
        if default is None or default.missing:
            return ExitCode.SANDBOX
        if strict and any(judgement.verdict == "vulnerable" for judgement in self.escapes):
            return ExitCode.SANDBOX
        return ExitCode.ANSWERED


def doctor_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock doctor`."""
    parser = parser_class(
        prog="airlock doctor",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--strict", action="store_true", help="fail on a version that is known to be vulnerable")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


def doctor(options: argparse.Namespace) -> ExitCode:
    """Run the command.

    Raises:
        BoxError: There is no engine, or no image and none can be built.
    """
    try:
        report = run_sync(_examine())
    except SandboxError as error:
        raise BoxError(str(error)) from error
    if options.json:
        sys.stdout.write(json.dumps(_as_json(report)) + "\n")
    else:
        for line in _lines(report):
            sys.stdout.write(escape_terminal(line) + "\n")
    return report.exit_code(strict=options.strict)


async def _examine() -> Report:
    host = await shared_host(say)
    info, version = await host.engine.info(), await host.engine.versions()
    levels = [await _level(host, "container")]
    given = levels[0].audit.isolation if levels[0].audit else "container"
    if GVISOR in (info.get("Runtimes") or {}) and given != "gvisor":
        levels.append(await _level(host, "gvisor"))
    versions = {name: _shown(*both) for name, both in components(info, version).items()}
    versions["cgroup"] = str(info.get("CgroupVersion") or "")
    return Report(versions=versions, levels=levels, escapes=judge_engine(info, version))


def _shown(version: str, fuller: str) -> str:
    """The package's own version, where the engine says it and not a commit."""
    return f"{version} ({fuller})" if fuller.startswith(version) and fuller != version else version


async def _level(host: Host, demanded: Isolation) -> Level:
    """Start a box with this least isolation, and end it."""
    try:
        sandbox = await Sandbox.start(
            SandboxSpec(isolation=demanded),
            engine=host.engine,
            store=host.store,
            image=host.image,
            settings=KernelSettings(functions=()),
            handler=_nobody,
        )
    except ControlMissing as error:
        return Level(demanded=demanded, audit=error.audit)
    except SandboxError as error:
        return Level(demanded=demanded, audit=None, error=str(error))
    async with sandbox:
        return Level(demanded=demanded, audit=sandbox.audit)


async def _nobody(*_: object) -> str:
    raise AssertionError("a box without sub-call functions has asked")


# ----------------------------------------------------------------------------------------------------------- as a table


def _lines(report: Report) -> Iterator[str]:
    yield ", ".join(f"{name} {version or 'of unknown version'}" for name, version in report.versions.items())
    for level in report.levels:
        yield ""
        yield from _level_lines(level)
    yield ""
    yield "known escapes"
    rows = [(j.verdict, j.escape.cve, f"{j.escape.component} {j.version}", j.reason) for j in report.escapes]
    yield from _columns(rows)
    yield from (f"  {j.escape.cve}: {j.escape.what}; {j.escape.source} ({j.escape.date})" for j in report.escapes)


def _level_lines(level: Level) -> Iterator[str]:
    audit = level.audit
    if audit is None:
        yield f"isolation {level.demanded}: no box came up: {level.error}"
        return
    held = len(audit.findings) - len(audit.missing) - len(audit.not_checked)
    counts = f"{held} held, {len(audit.missing)} missing, {len(audit.not_checked)} not checked"
    yield f"isolation {audit.isolation} by {audit.runtime}: {counts}"
    yield from _columns(
        [
            (finding.status, finding.setting, finding.name, _outcome(finding.expected, finding.found, finding.reason))
            for finding in audit.findings
        ]
    )


def _outcome(expected: Any, found: Any, reason: str) -> str:
    if reason:
        return reason
    return str(found) if found == expected else f"{found}, expected {expected}"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(["", *cells, row[-1]])


# ------------------------------------------------------------------------------------------------------------- as JSON


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "versions": report.versions,
        "levels": [dataclasses.asdict(level) for level in report.levels],
        "escapes": [dataclasses.asdict(judgement) for judgement in report.escapes],
    }
