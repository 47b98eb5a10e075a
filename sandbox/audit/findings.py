"""The audit of one live box: every control of the table, held, missing or not checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sandbox.audit.controls import CONTROLS, Control
from sandbox.audit.evidence import Evidence, Source, Value
from sandbox.audit.proc import BoxProcess, Unreadable
from sandbox.spec import Isolation

Status = Literal["held", "missing", "not checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the audit says of one control.

    Attributes:
        setting: Of `SandboxSpec`: a field, or one of those that are always on.
        name: Where it was read.
        source: ``inspect``, ``proc`` or ``runtime``.
        status: ``held``, ``missing`` or ``not checked``.
        expected: What must stand there.
        at_most: Whether less than expected also holds.
        found: What stands there; None where it was not checked.
        reason: Why it was not checked; "" where it was.
        note: Why it must be so, where the value alone does not show it.
    """

    setting: str
    name: str
    source: Source
    status: Status
    expected: Value
    at_most: bool = False
    found: Value = None
    reason: str = ""
    note: str = ""

    def __str__(self) -> str:
        if self.status == "not checked":
            return f"{self.setting} ({self.name}): not checked, {self.reason}"
        return f"{self.setting} ({self.name}): {self.outcome}"

    @property
    def outcome(self) -> str:
        """What was found, and what had to be where that is not the same; or why it was not checked."""
        if self.status == "not checked":
            return self.reason
        found, bound = _shown(self.found), "at most " if self.at_most else ""
        if self.status == "missing":
            return f"found {found}, must be {bound}{_shown(self.expected)}"
        return found if self.found == self.expected else f"{found}, {bound}{_shown(self.expected)}"


def _shown(value: Value) -> str:
    """Numbers with their thousands apart."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,}" if is_number else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is known of one box.

    Attributes:
        isolation: The level that it has: at least the one that was asked for.
        runtime: Name of its runtime.
        image: ID of its image.
        findings: One for each control of its level.
    """

    isolation: Isolation
    runtime: str
    image: str
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> tuple[Finding, ...]:
        """The controls that do not hold."""
        return tuple(finding for finding in self.findings if finding.status == "missing")

    @property
    def not_checked(self) -> tuple[Finding, ...]:
        """The controls of which nothing is known."""
        return tuple(finding for finding in self.findings if finding.status == "not checked")

    def summary(self) -> dict[str, Any]:
        """As JSON values, for a trace."""
        return {
            "isolation": self.isolation,
            "runtime": self.runtime,
            "image": self.image,
            "held": sum(finding.status == "held" for finding in self.findings),
            "missing": [finding.name for finding in self.missing],
            "not_checked": [finding.name for finding in self.not_checked],
            "controls": {finding.name: finding.status for finding in self.findings},
        }


def audit_live(evidence: Evidence, proc: Path = Path("/proc")) -> Audit:
    """Look at the process that the engine's record names, and compare. Blocks for some milliseconds.

    Args:
        evidence: All but the process.
        proc: Where proc is mounted.
    """
    state = evidence.inspect.get("State")
    pid = state.get("Pid") if isinstance(state, Mapping) else None
    try:
        number, container = pid if isinstance(pid, int) else 0, str(evidence.inspect.get("Id", ""))
        process = BoxProcess(number, container, evidence.context_dir, proc)
    except Unreadable as why:
        return audit_box(dataclasses.replace(evidence, process=why))
    with process:
        return audit_box(dataclasses.replace(evidence, process=process))


def audit_box(evidence: Evidence) -> Audit:
    """Compare a live box with its spec. Never raises for what it finds."""
    level = evidence.spec.isolation
    return Audit(
        isolation=level,
        runtime=evidence.runtime.name,
        image=evidence.image,
        findings=tuple(_look(control, evidence) for control in CONTROLS if control.only in (None, level)),
    )


def _look(control: Control, evidence: Evidence) -> Finding:
    expected = control.expected(evidence)

    def say(status: Status, found: Value = None, reason: str = "") -> Finding:
        return Finding(
            setting=control.setting,
            name=control.name,
            source=control.source,
            status=status,
            expected=expected,
            at_most=control.at_most,
            found=found,
            reason=reason,
            note=control.note,
        )

    if control.gvisor and evidence.spec.isolation == "gvisor":
        return say("not checked", reason=control.gvisor)
    if control.no_podman and evidence.runtime.podman:
        return say("not checked", reason=control.no_podman)
    try:
        found = control.found(evidence)
    except Unreadable as why:
        return say("not checked", reason=str(why))
    if control.holds(expected, found):
        return say("held", found)
    if control.podman and evidence.runtime.podman:
        return say("not checked", reason=f"Podman's API words it in a way of its own: {found!s:.60}")
    return say("missing", found)
