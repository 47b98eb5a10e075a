"""The findings as Markdown: medians with their 95th percentiles, ratios within the run, and each aim."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.bench.findings import Verdict, missed
from tests.bench.speed.rows import AIMS, MB, ROWS, SUBJECTS, Aim, Row

REFERENCE = "open_kernel"


def median_of(findings: Mapping[str, Any], subject: str, row: str) -> float | None:
    """Of all rounds; None where it was not measured."""
    samples = findings["subjects"].get(subject, {}).get("samples", {}).get(row)
    return statistics.median(samples) if samples else None


def p95(samples: Sequence[float]) -> float:
    """The least figure that 95 of 100 do not exceed; of few figures the largest."""
    return sorted(samples)[max(0, math.ceil(0.95 * len(samples)) - 1)]


def shown(value: float, unit: str) -> str:
    """A figure with three digits that count."""
    scaled = value * 1000 if unit == "ms" else value / MB
    digits = max(0, 2 - math.floor(math.log10(scaled))) if scaled > 0 else 0
    return f"{scaled:,.{min(digits, 3)}f}"


def verdict(aim: Aim, findings: Mapping[str, Any]) -> tuple[str, bool | None]:
    """What came of an aim, in words, and whether it was met; None where it was not measured."""
    figure = median_of(findings, aim.subject, aim.row)
    against = 1.0 if aim.against is None else median_of(findings, aim.against, aim.against_row or aim.row)
    if figure is None or not against:
        return "not measured", None
    if aim.against is None:
        over = f"{shown(figure, _row(aim.row).unit)} {_row(aim.row).unit}"
    else:
        over = f"{figure / against:.3g}x"
    if figure <= aim.most * against:
        return f"{over}: met", True
    return f"{over}: {missed(figure / (aim.most * against))}", False


def how_lines(findings: Mapping[str, Any]) -> list[str]:
    """How it was measured, and who could not take part."""
    return [
        f"- boxes: {findings['rounds']} rounds, interleaved, each subject in a fresh process; medians, in brackets p95",
        f"- the context has {findings['context_bytes'] / MB:,.0f} MB",
        *(f"- {SUBJECTS[name]}: {why}" for name, why in _missing(findings)),
    ]


def tables(findings: Mapping[str, Any]) -> list[str]:
    """The figures, and their ratios within the run."""
    subjects = [name for name in SUBJECTS if findings["subjects"].get(name, {}).get("samples")]
    ratios = ["", f"Figures as multiples of {SUBJECTS[REFERENCE]}'s:", "", *_ratios(findings, subjects)]
    return [*_figures(findings, subjects), *(ratios if REFERENCE in subjects else [])]


def _row(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def _missing(findings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in SUBJECTS:
        why = findings["subjects"].get(name, {}).get("missing")
        if why:
            yield name, " ".join(str(why).split())[:300]


def _head(subjects: Sequence[str]) -> list[str]:
    return ["| | " + " | ".join(SUBJECTS[name] for name in subjects) + " |", "|" + "---|" * (len(subjects) + 1)]


def _figures(findings: Mapping[str, Any], subjects: Sequence[str]) -> list[str]:
    lines = _head(subjects)
    for row in ROWS:
        cells = []
        for name in subjects:
            samples = findings["subjects"][name]["samples"].get(row.name)
            cells.append(
                f"{shown(statistics.median(samples), row.unit)} ({shown(p95(samples), row.unit)})" if samples else "-"
            )
        lines.append(f"| {row.label}, {row.unit} | " + " | ".join(cells) + " |")
    return lines


def _ratios(findings: Mapping[str, Any], subjects: Sequence[str]) -> list[str]:
    others = [name for name in subjects if name != REFERENCE]
    lines = _head(others)
    for row in ROWS:
        reference = median_of(findings, REFERENCE, row.name)
        if not reference:
            continue
        medians = [median_of(findings, name, row.name) for name in others]
        cells = [f"{figure / reference:.3g}x" if figure is not None else "-" for figure in medians]
        lines.append(f"| {row.label} | " + " | ".join(cells) + " |")
    return lines


def verdicts(findings: Mapping[str, Any]) -> Iterator[Verdict]:
    """What came of each aim."""
    for aim in AIMS:
        words, met = verdict(aim, findings)
        row = _row(aim.row)
        if aim.against is None:
            most = f"{shown(aim.most, row.unit)} {row.unit}"
        else:
            other = f", {_row(aim.against_row).label}" if aim.against_row else ""
            most = f"{aim.most:g}x {SUBJECTS[aim.against]}{other}"
        yield Verdict(what=f"{SUBJECTS[aim.subject]}: {row.label}", most=most, result=words, met=met, why=aim.why)
