"""Known ways out of a container, and what a version number says about them.

A number can prove a fix, where it is at or above the one that has it. It can seldom prove a hole: distributions put
fixes into old numbers, so a number with a distribution's mark is `unknown` below the fix. A hole in what Airlock does
not use (a console, `docker exec`, images of strangers) is listed all the same: other containers share the engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sandbox.runtimes import GVISOR

Verdict = Literal["fixed", "vulnerable", "unknown"]
Version = tuple[int, ...]

UNKNOWN_BACKPORT: Final = "below the fix, but distributions backport: ask the package's changelog"
_NUMBERS: Final = re.compile(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,5}))?(.*)", re.DOTALL)
_RC: Final = re.compile(r"-rc\.?(\d{1,3})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Escape:
    """One known escape.

    Attributes:
        cve: Its name.
        component: What has the hole: ``runc`` or ``kernel``.
        what: What it lets an attacker do, in a few words.
        first: The first version with it; everything older is free of it.
        fixes: The first version of each release line without it. A line is told by its first two numbers.
        fixed_from: Every line from here on is free of it.
        source: Where this is said.
        date: When that was published or last changed.
    """

    cve: str
    component: Literal["runc", "kernel"]
    what: str
    first: Version
    fixes: tuple[Version, ...]
    fixed_from: Version
    source: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is known of one escape on one machine.

    Attributes:
        escape: The escape.
        version: The component's version, "" where the engine does not say it.
        verdict: ``fixed``, ``vulnerable`` or ``unknown``.
        reason: Why.
    """

    escape: Escape
    version: str
    verdict: Verdict
    reason: str


_RUNC_2025: Final[Mapping[str, Any]] = {
    "component": "runc",
    "fixes": ((1, 2, 8), (1, 3, 3)),
    "fixed_from": (1, 4, 0),  # its rc.3 has the fix as well; a release candidate is judged `unknown`
    "date": "2025-11-05",
}

ESCAPES: Final = (
    Escape(
        cve="CVE-2024-21626",
        component="runc",
        what="a leaked file descriptor leads to the host's files",
        first=(1, 0, 0),
        fixes=((1, 1, 12),),
        fixed_from=(1, 2, 0),
        source="https://github.com/opencontainers/runc/security/advisories/GHSA-xr7r-f8xq-vfvv",
        date="2024-01-31",
    ),
    Escape(
        cve="CVE-2025-31133",
        what="a masked path of /proc becomes writable",
        first=(0, 0, 0),
        source="https://github.com/opencontainers/runc/security/advisories/GHSA-9493-h29p-rfm2",
        **_RUNC_2025,
    ),
    Escape(
        cve="CVE-2025-52565",
        what="the mount of /dev/console makes a path of /proc writable",
        first=(1, 0, 0),
        source="https://github.com/opencontainers/runc/security/advisories/GHSA-qw9x-cqr3-wc7r",
        **_RUNC_2025,
    ),
    Escape(
        cve="CVE-2025-52881",
        what="runc's own writes to /proc are led elsewhere",
        first=(0, 0, 0),
        source="https://github.com/opencontainers/runc/security/advisories/GHSA-cgrx-mc8f-2prm",
        **_RUNC_2025,
    ),
    Escape(
        cve="CVE-2026-31431",
        component="kernel",
        what="AF_ALG sockets write to the page cache of files that can only be read",
        first=(4, 14, 0),
        fixes=(
            *((5, 10, 254), (5, 15, 204), (6, 1, 170), (6, 6, 137)),
            *((6, 12, 85), (6, 18, 22), (6, 19, 12)),
        ),
        fixed_from=(7, 0, 0),
        source="https://www.cve.org/CVERecord?id=CVE-2026-31431",
        date="2026-08-05",
    ),
)


def judge(escape: Escape, version: str, marks: str = "") -> Judgement:
    """What a version says about an escape.

    Args:
        escape: The escape.
        version: As the component says it, such as ``1.1.15`` or ``6.1.0-42-amd64``.
        marks: A fuller form of the same version, where there is one; only its distribution's mark is looked at.
    """

    def say(verdict: Verdict, reason: str) -> Judgement:
        return Judgement(escape=escape, version=version, verdict=verdict, reason=reason)

    if not version:
        return say("unknown", f"the engine does not say its {escape.component}'s version")
    match = _NUMBERS.fullmatch(version.strip())
    if match is None:
        return say("unknown", f"not a version that can be compared: {version!r:.40}")
    number = (int(match[1]), int(match[2]), int(match[3] or 0))
    if _RC.search(match[4]):
        return say("unknown", "a release candidate")
    if number < escape.first:
        return say("fixed", f"not affected before {_dotted(escape.first)}")
    fix = next((fix for fix in escape.fixes if fix[:2] == number[:2]), escape.fixed_from)
    if number >= fix:
        return say("fixed", f"fixed in {_dotted(fix)}")
    if match[4] or _has_mark(marks):
        return say("unknown", UNKNOWN_BACKPORT)
    return say("vulnerable", f"fixed in {_dotted(fix)}")


def _has_mark(text: str) -> bool:
    """Such as ``+ds1-1+deb12u1`` or ``-0ubuntu1``. Docker's own builds say ``v1.1.15-0-gbc20cb4``: a commit."""
    match = _NUMBERS.fullmatch(text.strip())
    return match is not None and bool(match[4]) and not re.fullmatch(r"-\d+-g[0-9a-f]+", match[4])


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def judge_engine(info: Mapping[str, Any], version: Mapping[str, Any]) -> list[Judgement]:
    """All escapes, against what an engine says of itself.

    Args:
        info: Its description.
        version: Its versions.
    """
    known = components(info, version)
    return [judge(escape, *known.get(escape.component, ("", ""))) for escape in ESCAPES]


def _first_line(text: Any) -> str:
    return next(iter(str(text or "").splitlines()), "")[:80]


def components(info: Mapping[str, Any], version: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Versions by component (``engine``, ``containerd``, ``runc``, ``kernel``), each with its fuller form or ""."""
    found: dict[str, tuple[str, str]] = {}
    for component in version.get("Components") or ():
        if isinstance(component, Mapping):
            name = str(component.get("Name")).lower().removeprefix("oci runtime (").rstrip(")")
            details = component.get("Details")
            fuller = details.get("GitCommit") if isinstance(details, Mapping) else ""
            found["engine" if name in ("engine", "podman engine") else name] = (
                _first_line(component.get("Version")),
                _first_line(fuller),
            )
    if GVISOR in (info.get("Runtimes") or ()):
        found[GVISOR] = ("", "")  # no engine says its version
    found["kernel"] = (str(info.get("KernelVersion") or version.get("KernelVersion") or ""), "")
    return found
