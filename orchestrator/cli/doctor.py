"""`airlock doctor`: starts a box at each level that the engine has, and shows what is known of its locks."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.messages import say
from orchestrator.errors import BoxError
from orchestrator.rendering import escape_terminal
from orchestrator.sync import run_sync
from sandbox.audit.advice import advice_for
from sandbox.audit.changelogs import ask_changelogs
from sandbox.audit.escapes import Judgement, components, judge_engine
from sandbox.audit.findings import Audit, Finding
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
--json prints one object: "verdict", a sentence; "versions", by component; "levels", each with "demanded", "error" (why
no box came up, or "") and "audit" (null, or "isolation", "runtime", "image" and "findings": each control's "setting",
"name", "source", "status" of held, missing or "not checked", "expected", "at_most", "found", "reason", "note");
"escapes",
each with "escape", "version", "verdict" of fixed, vulnerable or unknown, and "reason".

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

    def verdict(self) -> str:
        """The whole in one sentence, the default level first."""
        verdicts = [judgement.verdict for judgement in self.escapes]
        unsure = f", {verdicts.count('unknown')} can't be told from the versions" if "unknown" in verdicts else ""
        escapes = f"of {len(verdicts)} known escapes {verdicts.count('vulnerable') or 'none'} vulnerable{unsure}"
        return "; ".join([*(_verdict_of(level) for level in self.levels), escapes])

    def exit_code(self, *, strict: bool) -> ExitCode:
        """What the shell gets."""
        default = self.levels[0].audit
        if default is None or default.missing:
            return ExitCode.SANDBOX
        if strict and any(judgement.verdict == "vulnerable" for judgement in self.escapes):
            return ExitCode.SANDBOX
        return ExitCode.ANSWERED


def _verdict_of(level: Level) -> str:
    audit = level.audit
    if audit is None:
        return f"no box comes up at level {level.demanded}"
    if not audit.missing:
        return f"a box can be locked at level {audit.isolation} ({_counts(audit)})"
    settings = ", ".join(dict.fromkeys(finding.setting for finding in audit.missing))
    return f"no run starts at level {audit.isolation}, for a box there lacks {settings}"


def doctor_parser(parser_class: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """The options of `airlock doctor`."""
    parser = parser_class(
        prog="airlock doctor",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--strict", action="store_true", help="fail on a version known to be vulnerable; one that is unknown passes"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--all", action="store_true", help="show every control, not a line for each setting")
    shown.add_argument("--json", action="store_true", help="print everything as one line of JSON")
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
        for line in _lines(report, everything=options.all):
            sys.stdout.write(escape_terminal(line) + "\n")
    return report.exit_code(strict=options.strict)


async def _examine() -> Report:
    host = await shared_host(say)
    info, version = await host.engine.info(), await host.engine.versions()
    levels = [await _level(host, "container")]
    given = levels[0].audit.isolation if levels[0].audit else "container"
    if GVISOR in (info.get("Runtimes") or {}) and given != "gvisor":
        levels.append(await _level(host, "gvisor"))
    known = components(info, version)
    versions = {name: _shown(*both) for name, both in known.items()}
    versions["cgroup"] = str(info.get("CgroupVersion") or "")
    escapes = ask_changelogs(judge_engine(info, version), info, known, local=any(map(_is_local, levels)))
    return Report(versions=versions, levels=levels, escapes=escapes)


def _is_local(level: Level) -> bool:
    """Whether the engine is on this machine: the box's process could be looked at."""
    findings = level.audit.findings if level.audit else ()
    return any(finding.source == "proc" and finding.status != "not checked" for finding in findings)


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


def _lines(report: Report, *, everything: bool) -> Iterator[str]:
    yield ", ".join(f"{name} {version or 'of unknown version'}" for name, version in report.versions.items())
    yield ""
    if everything:
        for level in report.levels:
            yield from _every_control(level)
            yield ""
    else:
        yield from _every_setting([level for level in report.levels if level.audit])
        yield ""
    for level in report.levels:
        yield from _remarks(level)
    yield "known escapes"
    for j in report.escapes:
        yield f"  {j.escape.cve}  {j.verdict}: {j.escape.component} {j.version or 'of unknown version'}, {j.reason}"
        yield f"    {j.escape.what}; {j.escape.source} ({j.escape.date})"
    yield ""
    yield f"verdict: {report.verdict()}"


def _every_control(level: Level) -> Iterator[str]:
    audit = level.audit
    if audit is not None:
        yield f"isolation {audit.isolation} by {audit.runtime}: {_counts(audit)}"
        yield from _columns([(f.status, f.setting, f.name, _with_note(f)) for f in audit.findings])


def _with_note(finding: Finding) -> str:
    return finding.outcome + (f" ({finding.note})" if finding.note else "")


def _every_setting(levels: Sequence[Level]) -> Iterator[str]:
    """A line for each setting, a column for each level."""
    audits = [level.audit for level in levels if level.audit]
    if not audits:
        return
    head = ["setting", *(f"{audit.isolation} by {audit.runtime}" for audit in audits)]
    settings = dict.fromkeys(finding.setting for audit in audits for finding in audit.findings)  # in the table's order
    yield from _columns([head, *([name, *(_outcome_of(name, audit) for audit in audits)] for name in settings)])


def _outcome_of(setting: str, audit: Audit) -> str:
    """The worst that is said of a setting."""
    statuses = [finding.status for finding in audit.findings if finding.setting == setting]
    held = statuses.count("held")
    if "missing" in statuses:
        return "MISSING"
    if held == len(statuses):
        return "held"
    return f"partly checked ({held} of {len(statuses)}: held)" if held else "not checked"


def _remarks(level: Level) -> Iterator[str]:
    """What is missing and what to do, and what could not be checked and why."""
    audit = level.audit
    if audit is None:
        yield f"{level.demanded}: no box came up: {level.error}"
        yield ""
        return
    reasons = Counter(finding.reason for finding in audit.not_checked)
    yield from (f"{audit.isolation}, missing: {finding}. {advice_for(finding.setting)}." for finding in audit.missing)
    yield from (f"{audit.isolation}, {number} not checked: {reason}" for reason, number in reasons.items())
    if audit.missing or reasons:
        yield ""


def _counts(audit: Audit) -> str:
    """How many controls hold, in words."""
    held = len(audit.findings) - len(audit.missing) - len(audit.not_checked)
    said = f"{held} of {len(audit.findings)} controls held"
    missing = f", {len(audit.missing)} missing" if audit.missing else ""
    return said + missing + (f", {len(audit.not_checked)} not checked" if audit.not_checked else "")


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(["", *cells, row[-1]])


# ------------------------------------------------------------------------------------------------------------- as JSON


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "verdict": report.verdict(),
        "versions": report.versions,
        "levels": [dataclasses.asdict(level) for level in report.levels],
        "escapes": [dataclasses.asdict(judgement) for judgement in report.escapes],
    }
