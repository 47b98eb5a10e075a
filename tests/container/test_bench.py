"""The benches start, measure, write their files, and leave no box when they are interrupted. No figure is asserted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.engine import Engine
from tests.bench.end_to_end.aims import AIMS
from tests.bench.end_to_end.alone import blocks
from tests.bench.end_to_end.many import many
from tests.bench.kill_latency import boxes_of
from tests.bench.main import main
from tests.bench.memory import descendants
from tests.bench.own_process import REPOSITORY, measure_apart
from tests.bench.speed.rows import ROWS

WAIT_S = 20


def test_the_bench_measures_a_box_and_an_open_kernel(tmp_path: Path) -> None:
    assert (
        main(["--rounds", "1", "--small", "--only", "airlock", "open_kernel", "--parts", "--out", str(tmp_path)]) == 0
    )
    found = json.loads((tmp_path / "bench.json").read_text())
    box, kernel = (found["subjects"][name]["samples"] for name in ("airlock", "open_kernel"))
    assert set(box) | set(kernel) == {row.name for row in ROWS}
    assert all(len(samples["cell"]) == 5 and len(samples["start"]) == 1 for samples in (box, kernel))
    page = (tmp_path / "bench.md").read_text()
    assert "| start to first cell, cold, ms |" in page
    assert found["versions"]["Engine"] in page


def test_a_point_of_each_kind_of_growth_is_measured() -> None:
    for series, size in {"lazy_context": 2_000_000, "sub_calls": 150}.items():
        figures = measure_apart("tests.bench.growth.point", {"series": series, "size": size})
        assert figures["seconds"] > 0
        assert all(value > 0 for value in figures.values())


async def test_the_blocks_of_a_runs_event_loop_are_measured() -> None:
    assert set(await blocks({"printed_chars": 100_000})) == {name for name in AIMS if "block" in name}


async def test_runs_at_once_are_measured_from_a_pool(shared_data: Path) -> None:
    figures = await many({"runs": 2, "few": 1, "latency_s": 0.01})
    assert all(value > 0 for value in figures.values())
    assert {name.split(": ")[0] for name in figures} == {
        "cells of a run alone, ms", "2 runs at once, 2 boxes ready", "2 runs at once, 1 boxes ready",
    }  # fmt: skip


def test_a_bench_without_an_engine_says_so_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none", "AIRLOCK_ENGINE": "never"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="finds the bench's processes by /proc")
async def test_an_interrupted_bench_leaves_no_box(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "--rounds",
        "50",
        "--only",
        "airlock",
        "--parts",
        "--out",
        str(tmp_path / "out"),
    ]
    engine = await Engine.connect()
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as bench:
        workers, until = [bench.pid], time.monotonic() + WAIT_S
        while not [box for pid in workers for box in await boxes_of(engine, pid)]:
            assert time.monotonic() < until, "it never started a box"
            workers = descendants(bench.pid)
        bench.send_signal(signal.SIGINT)
        _, said = bench.communicate(timeout=WAIT_S)
    assert bench.returncode == 130
    assert said.endswith("interrupted; nothing was written\n")
    assert not (tmp_path / "out").exists()
    assert [box for pid in workers for box in await boxes_of(engine, pid)] == []
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]
    await engine.aclose()
