"""Draws the findings of a bench as SVG: `python -m tests.bench.plot FILE.json`. Needs matplotlib and nothing of ours.

It has a Python of its own (`make bench` makes it), so that nothing we measure or test has matplotlib in it.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot
from matplotlib.ticker import NullFormatter

from tests.bench.speed.rows import MB, ROWS, SUBJECTS

AXES = {"seconds": "seconds", "host_bytes": "MB, host process", "box_bytes": "MB, PSS of the boxes"}


def draw_speed(findings: dict[str, Any]) -> None:
    """A panel for each row, a dot for each subject, on a logarithmic scale: the figures differ by a thousand."""
    subjects = {name: found["samples"] for name, found in findings["subjects"].items() if found["samples"]}
    rows = [row for row in ROWS if any(samples.get(row.name) for samples in subjects.values())]
    lines = (len(rows) + 1) // 2
    figure, panels = pyplot.subplots(lines, 2, figsize=(13, 1.9 * lines), squeeze=False)
    for panel in panels.flat[len(rows) :]:
        panel.set_axis_off()
    for row, panel in zip(rows, panels.flat, strict=False):
        scale = 1000 if row.unit == "ms" else 1 / MB
        medians = {
            name: statistics.median(samples[row.name]) * scale
            for name, samples in subjects.items()
            if samples.get(row.name)
        }
        _draw_row(panel, medians, list(subjects))
        panel.set_title(f"{row.label.replace('`', '')}, {row.unit}", fontsize=9)
    figure.suptitle(_under(findings), fontsize=8)


def _draw_row(panel: Any, medians: dict[str, float], subjects: list[str]) -> None:
    """Dots and no bars: a logarithmic scale has no 0 for them to begin at."""
    for place, name in enumerate(subjects):
        if name in medians:
            panel.plot(medians[name], place, "o", color=f"C{list(SUBJECTS).index(name)}")
            panel.annotate(
                f"{medians[name]:,.3g}" if medians[name] < 1000 else f"{medians[name]:,.0f}",
                (medians[name], place),
                xytext=(6, -3),
                textcoords="offset points",
                fontsize=7,
            )
    panel.set_xscale("log")
    panel.set_yticks(range(len(subjects)), [SUBJECTS[name].replace("`", "") for name in subjects])
    panel.set_ylim(len(subjects) - 0.5, -0.5)
    panel.margins(x=0.15)
    panel.grid(axis="y", alpha=0.3)
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(labelsize=7)


def draw_growth(findings: dict[str, Any]) -> None:
    """Time and memory against size, both logarithmic; the dashed line is linear growth from the largest size back."""
    series = findings["series"]
    figure, panels = pyplot.subplots(len(series), 3, figsize=(13, 3 * len(series)), squeeze=False)
    for line, (name, figures) in zip(panels, series.items(), strict=True):
        for panel, (what, unit) in zip(line, AXES.items(), strict=True):
            by_size = {int(size): value for size, value in figures.get(what, {}).items()}
            if not by_size:
                panel.set_axis_off()
                continue
            scale = 1 if what == "seconds" else 1 / MB
            sizes, values = list(by_size), [value * scale for value in by_size.values()]
            panel.loglog(sizes, values, marker="o")
            panel.loglog(sizes, [values[-1] * size / sizes[-1] for size in sizes], linestyle="--", color="grey")
            panel.set_title(f"{name.replace('_', ' ')}: {unit}", fontsize=9)
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.tick_params(labelsize=7)
    figure.suptitle(_under(findings), fontsize=8)


def _under(findings: dict[str, Any]) -> str:
    on = findings["machine"]
    return f"{on['date'][:10]}, {on['cpu']}, {on['cores']} cores, {on['system']} {on['kernel']}"


def main() -> None:
    path = Path(sys.argv[1])
    findings = json.loads(path.read_text())
    (draw_growth if "series" in findings else draw_speed)(findings)
    pyplot.tight_layout(rect=(0, 0, 1, 0.98))
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none"})  # the same findings, the same small file
    pyplot.savefig(path.with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
