"""`airlock clean` where it removes nothing of the engine's: other tests use it. tests/lifecycle has the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.cli.exits import ExitCode
from sandbox.engine import connect
from sandbox.image import ensure_image
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.alone  # it looks at all images, and at what runs from them

TRACE = "20260101T000000Z-01234567.jsonl"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / TRACE).write_text("{}\n")
    (tmp_path / "traces" / "notes.jsonl").write_text("the user's")
    return tmp_path


def airlock(state: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"AIRLOCK_STATE": str(state), "TMPDIR": str(state), "PYTHONPATH": str(REPOSITORY), **environment}
    command = [sys.executable, "-m", "orchestrator.cli.main", *words]
    return subprocess.run(
        command, env=os.environ | own, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_a_dry_run_names_everything_of_ours_and_removes_nothing(state: Path, image_id: str) -> None:
    done = airlock(state, "clean", "--all", "--force", "--dry-run", "--json")
    assert done.returncode == ExitCode.ANSWERED, done.stderr
    found = json.loads(done.stdout)["leftovers"]
    assert {"kind": "trace", "name": str(state / "traces" / TRACE), "goes": True, "why": found[-1]["why"]} in found
    assert {item["goes"] for item in found if item["kind"] == "image"} == {True}
    kept = airlock(state, "clean", "--dry-run")
    assert "would leave image airlock-kernel:" in kept.stdout
    assert TRACE not in kept.stdout
    assert (state / "traces" / TRACE).exists()
    assert ensure_image(pytest.fail) == image_id


def test_an_image_that_a_box_runs_from_stays_and_nothing_fails(state: Path, image_id: str) -> None:
    client = connect()
    box = client.create_container(image_id, entrypoint=["true"])["Id"]
    try:
        done = airlock(state, "clean", "--all", "--force", "--dry-run", "--json")
        client.remove_container(box)
        box = ""
        after = airlock(state, "clean", "--all", "--force", "--dry-run", "--json")
    finally:
        if box:
            client.remove_container(box)
        client.close()
    assert done.returncode == ExitCode.ANSWERED, done.stderr

    def left(printed: str) -> list[str]:
        return [
            item["why"] for item in json.loads(printed)["leftovers"] if item["kind"] == "image" and not item["goes"]
        ]

    assert left(done.stdout)
    assert set(left(done.stdout)) == {"a box runs from it"}
    assert left(after.stdout) == []


def test_all_asks_and_where_nobody_can_answer_it_says_what_to_give(state: Path) -> None:
    done = airlock(state, "clean", "--all")
    assert done.returncode == ExitCode.USAGE
    assert "give --yes, or --dry-run" in done.stderr


def test_without_an_engine_the_files_go_and_the_engine_is_named(state: Path) -> None:
    done = airlock(state, "clean", "--all", "--yes", DOCKER_HOST=f"unix://{state}/no.sock")
    assert done.returncode == ExitCode.SANDBOX
    assert done.stderr.startswith("airlock: no container engine answers")
    assert sorted(path.name for path in state.rglob("*")) == ["notes.jsonl", "traces"]


def test_ask_removes_old_traces_at_its_start(state: Path) -> None:
    then = time.time() - 40 * 24 * 3600
    os.utime(state / "traces" / TRACE, (then, then))
    (state / "model.py").write_text("REPLIES = ['```repl\\nFINAL(1)\\n```']")
    (state / "doc.txt").write_text("text")
    words = ["ask", str(state / "doc.txt"), "-q", "?", "--model", f"scripted:{state}/model.py"]
    assert airlock(state, *words, "--keep-days", "0").returncode == ExitCode.ANSWERED
    assert (state / "traces" / TRACE).exists()
    assert airlock(state, *words).returncode == ExitCode.ANSWERED
    assert not (state / "traces" / TRACE).exists()
    assert len(list((state / "traces").glob("*Z-*.jsonl"))) == 2
