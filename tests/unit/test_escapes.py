"""Versions against known escapes: only what a number can prove."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from sandbox.audit.changelogs import ask_changelogs
from sandbox.audit.escapes import ESCAPES, UNKNOWN_BACKPORT, Escape, components, judge, judge_engine

BY_CVE = {escape.cve: escape for escape in ESCAPES}


@pytest.mark.parametrize(
    ("cve", "version", "marks", "verdict"),
    [
        ("CVE-2024-21626", "1.1.11", "", "vulnerable"),
        ("CVE-2024-21626", "1.1.11", "v1.1.11-0-g4bccb38", "vulnerable"),
        ("CVE-2024-21626", "1.1.12", "", "fixed"),
        ("CVE-2024-21626", "1.2.0", "", "fixed"),
        ("CVE-2024-21626", "1.3.6", "", "fixed"),
        ("CVE-2024-21626", "1.0.3", "", "vulnerable"),
        ("CVE-2024-21626", "0.1.1", "", "fixed"),
        ("CVE-2024-21626", "1.0.0-rc92", "", "unknown"),
        ("CVE-2024-21626", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1", "unknown"),
        ("CVE-2024-21626", "1.1.5", "1.1.5+ds1-1+deb12u1", "unknown"),
        ("CVE-2024-21626", "1.1.15+ds1", "", "fixed"),
        ("CVE-2025-31133", "1.1.15", "", "vulnerable"),
        ("CVE-2025-31133", "1.2.7", "", "vulnerable"),
        ("CVE-2025-31133", "1.2.8", "", "fixed"),
        ("CVE-2025-31133", "1.3.2", "", "vulnerable"),
        ("CVE-2025-31133", "1.3.3-0ubuntu1~24.04.2", "", "fixed"),
        ("CVE-2025-31133", "1.3.0-0ubuntu2~24.04.1", "", "unknown"),
        ("CVE-2025-52565", "1.4.0", "", "fixed"),
        ("CVE-2025-52881", "1.4.0-rc.2", "", "unknown"),
        ("CVE-2026-31431", "6.18.44-fc-v669", "", "fixed"),
        ("CVE-2026-31431", "6.18.21", "", "vulnerable"),
        ("CVE-2026-31431", "6.18.22", "", "fixed"),
        ("CVE-2026-31431", "6.1.0-42-amd64", "", "unknown"),
        ("CVE-2026-31431", "6.12.85+deb13-amd64", "", "fixed"),
        ("CVE-2026-31431", "6.8.0-117-generic", "", "unknown"),
        ("CVE-2026-31431", "6.17.9", "", "vulnerable"),
        ("CVE-2026-31431", "4.9.337", "", "fixed"),
        ("CVE-2026-31431", "7.0.0-rc5", "", "unknown"),
        ("CVE-2026-31431", "7.1", "", "fixed"),
        ("CVE-2026-31431", "", "", "unknown"),
        ("CVE-2026-31431", "latest", "", "unknown"),
        ("CVE-2026-31431", "6." + "9" * 5000, "", "unknown"),
    ],
)
def test_what_a_version_proves(cve: str, version: str, marks: str, verdict: str) -> None:
    judgement = judge(BY_CVE[cve], version, marks)
    assert (judgement.verdict, judgement.version) == (verdict, version)
    assert judgement.reason
    assert len(judgement.reason) < 200


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.cve)
def test_each_has_a_source_and_a_date(escape: Escape) -> None:
    assert escape.source.startswith("https://")
    assert len(escape.date.split("-")) == 3
    assert list(escape.fixes) == sorted(escape.fixes)
    assert all(escape.first < fix < escape.fixed_from for fix in escape.fixes)


@pytest.mark.parametrize("components", [None, [], [None], [{}], [{"Name": None, "Details": None}], ["runc"]])
def test_an_engine_that_says_nothing_is_unknown(components: Any) -> None:
    judgements = judge_engine({}, {"Components": components})
    assert {judgement.verdict for judgement in judgements} == {"unknown"}
    assert len(judgements) == len(ESCAPES)


def test_podman_with_crun_is_unknown_for_runc() -> None:
    version = {
        "Components": [{"Name": "Podman Engine", "Version": "5.4.2"}, {"Name": "OCI Runtime (crun)", "Version": "1.21"}]
    }
    verdicts = {j.escape.cve: j.verdict for j in judge_engine({"KernelVersion": "6.18.22"}, version)}
    assert verdicts == {escape.cve: "fixed" if escape.component == "kernel" else "unknown" for escape in ESCAPES}


DEBIAN = {"OperatingSystem": "Debian GNU/Linux 12 (bookworm)", "KernelVersion": "6.1.0-42-amd64"}
RUNC = {"Components": [{"Name": "runc", "Version": "1.1.5+ds1", "Details": {"GitCommit": "1.1.5+ds1-1+deb12u1"}}]}
CHANGELOG = "runc (1.1.5+ds1-1+deb12u1) bookworm-security; urgency=high\n\n  * CVE-2024-21626: leaked fds\n"


def asked(folder: Path, info: dict[str, Any] = DEBIAN, *, local: bool = True) -> dict[str, tuple[str, str]]:
    """Verdict and reason by escape."""
    known = components(info, RUNC)
    found = ask_changelogs(judge_engine(info, RUNC), info, known, local=local, doc_dir=folder)
    return {judgement.escape.cve: (judgement.verdict, judgement.reason) for judgement in found}


def test_the_changelog_of_the_installed_version_decides_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runc" / "changelog.Debian.gz"
    file.parent.mkdir()
    file.write_bytes(gzip.compress(CHANGELOG.encode()))
    found = asked(tmp_path)
    assert found["CVE-2024-21626"] == ("fixed", f"by the Debian changelog {file}")
    assert found["CVE-2025-31133"] == ("unknown", f"below the fix, and {file} of this version does not name it")
    kernel = tmp_path / "linux-image-6.1.0-42-amd64" / "changelog.Debian.gz"
    assert found["CVE-2026-31431"] == ("unknown", f"{UNKNOWN_BACKPORT}: zgrep CVE-2026-31431 {kernel}")
    assert asked(tmp_path, local=False)["CVE-2024-21626"][0] == "unknown"
    file.write_bytes(gzip.compress(CHANGELOG.replace("deb12u1", "deb12u2").encode()))
    assert asked(tmp_path)["CVE-2024-21626"][0] == "unknown", "of another version than the engine runs"


@pytest.mark.parametrize("content", [None, b"", b"no gzip", gzip.compress(CHANGELOG.encode())[:-12]])
def test_a_changelog_that_can_not_be_read_leaves_the_command(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "runc").mkdir()
        (tmp_path / "runc" / "changelog.Debian.gz").write_bytes(content)
    verdict, reason = asked(tmp_path)["CVE-2024-21626"]
    assert verdict == "unknown"
    assert reason.endswith(f": zgrep CVE-2024-21626 {tmp_path}/runc/changelog.Debian.gz")


def test_elsewhere_no_command_of_debian_is_named(tmp_path: Path) -> None:
    found = asked(tmp_path, DEBIAN | {"OperatingSystem": "Fedora Linux 42"})
    assert found["CVE-2024-21626"] == ("unknown", UNKNOWN_BACKPORT)
