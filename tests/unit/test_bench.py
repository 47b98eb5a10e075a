"""The bench's own arithmetic: what its tables say of figures, and when it calls a growth worse than linear."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.bench.end_to_end.aims import AIMS as AIMS_OF_RUNS
from tests.bench.end_to_end.main import markdown as markdown_of_runs
from tests.bench.growth.fit import growth_of
from tests.bench.main import markdown
from tests.bench.memory import cgroup_of, cgroup_pids, descendants, pss_bytes
from tests.bench.own_process import Failed, measure_apart
from tests.bench.speed.figures import MIB, calls_code, context_text, seconds_printed
from tests.bench.speed.rows import AIMS, ROWS, SUBJECTS, Aim
from tests.bench.speed.table import p95, shown, verdict

MACHINE = {
    "date": "2026-01-02T03:04:05+00:00", "cpu": "a CPU", "cores": 2, "memory_bytes": 8 << 30,
    "system": "Linux", "kernel": "6.1", "load_at_start": 0.1,
}  # fmt: skip


def findings(**subjects: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "machine": MACHINE,
        "versions": {"Python": "3.13.0"},
        "rounds": 2,
        "context_bytes": 50_000_000,
        "parts": {},
        "notes": [],
        "subjects": {name: {"samples": samples, "missing": ""} for name, samples in subjects.items()},
    }


def test_a_table_has_medians_p95_ratios_and_what_is_missing() -> None:
    found = findings(
        airlock={"cell": [0.001, 0.002, 0.009], "pss_bytes": [50e6]},
        open_kernel={"cell": [0.004]},
    )
    found["subjects"]["rlms"] = {"samples": {}, "missing": "not\ninstalled"}
    page = markdown(found)
    assert "| one cell, ms | 2.00 (9.00) | 4.00 (4.00) |" in page
    assert "| one cell | 0.5x |" in page
    assert "| memory of a ready box, PSS, MB | 50.0 (50.0) | - |" in page
    assert "| Airlock, runc: memory of a ready box, PSS | 45.0 MB | 50.0 MB: missed by 11% |" in page
    assert "- rlms, Docker: not installed" in page
    assert "not looked into yet" in page  # why it is missed
    assert page.count("not measured") == len(AIMS) - 2


@pytest.mark.parametrize(
    ("figure", "words", "met"),
    [
        (0.002, "0.5x: met", True),
        (0.0024, "0.6x: met", True),
        (0.003, "0.75x: missed by 25%", False),
        (0.012, "3x: missed, 5 times the aim", False),
    ],
)
def test_an_aim_is_held_against_another_figure_of_the_same_run(figure: float, words: str, met: bool) -> None:
    found = findings(airlock={"cell": [figure]}, open_kernel={"cell": [0.004]})
    assert verdict(Aim("cell", 0.6, "open_kernel"), found) == (words, met)
    assert verdict(Aim("cell", 0.6, "rlms"), found) == ("not measured", None)


def test_every_aim_speaks_of_a_row_and_subjects_that_there_are() -> None:
    rows = {row.name for row in ROWS}
    for aim in AIMS:
        assert {aim.row, aim.against_row or aim.row} <= rows
        assert {aim.subject, aim.against or aim.subject} <= set(SUBJECTS)


def test_figures_are_shown_with_three_digits() -> None:
    assert [shown(seconds, "ms") for seconds in (0, 0.00001234, 0.001234, 0.1234, 12.34)] == [
        "0", "0.012", "1.23", "123", "12,340",
    ]  # fmt: skip
    assert [p95([float(n) for n in range(1, count + 1)]) for count in (1, 3, 20, 100)] == [1, 3, 19, 95]


@pytest.mark.parametrize(
    ("cost", "exponent", "worse"),
    [
        (lambda size: 0.4 + 0.001 * size, 1.0, False),
        (lambda size: 0.4 + 0.00001 * size**2, 2.0, True),
        (lambda size: 0.4 + 0.001 * size + 0.000002 * size**2, 1.6, True),
        (lambda size: 0.4 + 0.01 * size**0.5, 0.5, False),
    ],
)
def test_growth_beside_a_fixed_cost_is_recognised(cost: Any, exponent: float, worse: bool) -> None:
    growth = growth_of({size: cost(size) for size in (1, 10, 100, 1000, 10_000)})
    assert growth.exponent == pytest.approx(exponent, abs=0.35)
    assert growth.worse is worse


def test_noise_about_a_fixed_cost_is_no_growth() -> None:
    assert growth_of({1: 1.0, 10: 1.05, 100: 0.97, 1000: 1.02}).told == "hardly grows"
    assert growth_of({1: 1.0, 10: 0.9, 100: 3.0}).exponent is None
    assert growth_of({1: 1.0}).told == "hardly grows"


def test_a_cell_of_calls_tells_each_and_refuses_a_wrong_reply(capsys: pytest.CaptureFixture[str]) -> None:
    exec(calls_code("ask('?')", 3, reply_chars=1), {"ask": lambda prompt: prompt})
    assert len(seconds_printed(capsys.readouterr().out)) == 3
    with pytest.raises(AssertionError, match="Error: no host"):
        exec(calls_code("ask('?')", 3, reply_chars=1), {"ask": lambda prompt: "Error: no host"})


def test_contexts_are_of_their_size_and_never_the_same() -> None:
    assert len(context_text(MIB)) == MIB
    assert context_text(100) != context_text(100)


def test_memory_is_that_of_a_process_and_its_children() -> None:
    code = "import sys; kept = b'x' * 30_000_000; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        pss = pss_bytes([child.pid])
        assert child.pid in descendants(child.pid)
        cgroup = cgroup_of(child.pid)
        assert cgroup is None or child.pid in cgroup_pids(cgroup)
        child.stdin.close()
    if pss is None:
        pytest.skip("this kernel or user can't read smaps_rollup")
    assert 30e6 < pss < 100e6
    assert pss_bytes([child.pid]) is None


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(Failed, match=r"(?s)ended with 1: .*KeyError: 'counts'"):
        measure_apart("tests.bench.speed.workers.pipe", {})


def test_the_floor_is_measured_in_a_process_of_its_own() -> None:
    counts = {"cells": 2, "calls": 3, "values": 1, "context_bytes": 1000}
    samples = measure_apart("tests.bench.speed.workers.pipe", {"counts": counts})["samples"]
    assert len(samples["cell"]) == len(samples["cell_with_context"]) == 2
    assert len(samples["host_call"]) == 3
    assert set(samples) <= {row.name for row in ROWS}
    assert all(value > 0 for values in samples.values() for value in values)


def test_the_starts_of_the_command_are_measured() -> None:
    figures = measure_apart("tests.bench.end_to_end", {"part": "starts", "starts": 1})
    assert set(figures) - set(AIMS_OF_RUNS) == {"python -c pass, ms"}
    found = {"machine": MACHINE, "versions": {}, "rounds": 1, "notes": ["many: no\ndata"]}
    page = markdown_of_runs({**found, "parts": {"starts": {"import orchestrator, ms": [300.0, 200.0, 320.0]}}})
    assert "| import orchestrator, ms | 150 | 300: missed by 100% |" in page
    assert "| import orchestrator, ms | 300 | 320 |" in page
    assert "0 of 1 aims are met" in page
    assert "- many: no data" in page
    json.dumps(found)
