"""Versions against known escapes: only what a number can prove."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.audit.escapes import ESCAPES, Escape, judge, judge_engine

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
