"""The tool for private engines: they work, leave the machine's own engine alone, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from sandbox.engine import Engine
from sandbox.errors import BoxGone
from sandbox.image import ensure_image
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from sandbox.store import Store
from tests.conftest import REPOSITORY
from tests.engines.private import EngineError, PrivateEngine, cache_dir, why_not
from tests.engines.smoke import answer

WHY_NOT = why_not()
TOOL = [sys.executable, "-m", "tests.engines"]
SMOKE = [sys.executable, "-m", "tests.engines.smoke"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]


@pytest.fixture
def docker20() -> Iterator[PrivateEngine]:
    """The machine's own binaries, stopped."""
    engine = PrivateEngine("docker20", progress=print)
    if engine.processes():
        pytest.fail("docker20 is up: somebody uses it, or type: python -m tests.engines down docker20")
    yield engine
    engine.down()


def traces() -> dict[str, object]:
    """What a private engine might leave on the machine, or take from it: docker0 is the other engine's."""
    return {
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(cache_dir()) in line],
        "docker0": Path("/sys/class/net/docker0").exists(),
        "cgroups": sorted(Path("/sys/fs/cgroup").glob("**/airlock-*")),
    }


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOOL, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def wait_until_gone(engine: PrivateEngine) -> None:
    until = time.monotonic() + 60
    while engine.processes() and time.monotonic() < until:
        time.sleep(0.1)
    assert engine.processes() == []


def start_run(engine: PrivateEngine) -> subprocess.Popen[str]:
    """The tool with a command that says when the engine is up, and then sleeps."""
    command = [*TOOL, "run", "docker20", "--", "sh", "-c", "echo $DOCKER_HOST; exec sleep 600"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == engine.docker_host
    process.stdout.close()
    assert engine.answers()
    return process


def test_up_and_down_leave_nothing_and_work_twice(docker20: PrivateEngine) -> None:
    before = traces()
    up = tool("up", "docker20")
    assert up.stdout.splitlines() == [f"export {name}={value}" for name, value in docker20.environment().items()]
    again = tool("up", "docker20")
    assert again.returncode == 2
    assert "docker20 is up" in again.stderr
    assert docker20.answers()
    for _ in range(2):
        assert tool("down", "docker20").returncode == 0
        assert docker20.processes() == []
        assert traces() == before


def test_run_hands_on_the_status_and_ends_the_engine(docker20: PrivateEngine) -> None:
    done = tool("run", "docker20", "--", "sh", "-c", "echo $AIRLOCK_STATE; exit 7")
    assert (done.returncode, done.stdout.strip()) == (7, docker20.environment()["AIRLOCK_STATE"])
    assert docker20.processes() == []


def test_ctrl_c_ends_command_and_engine(docker20: PrivateEngine) -> None:
    before = traces()
    process = start_run(docker20)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert docker20.processes() == []
    assert traces() == before


def test_an_engine_ends_with_its_killed_tool_and_down_cleans_up(docker20: PrivateEngine) -> None:
    before = traces()
    process = start_run(docker20)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(docker20)
    docker20.down()
    assert traces() == before


async def test_a_restart_ends_the_boxes_and_keeps_the_image(docker20: PrivateEngine, tmp_path: Path) -> None:
    with docker20:
        client = docker.APIClient(base_url=docker20.docker_host, version="auto")
        engine = Engine(client)
        image = ensure_image(print, client)
        store = Store(tmp_path / "store")
        sandbox = await Sandbox.start(SandboxSpec(), engine=engine, store=store, image=image, handler=answer)
        docker20.restart(grace_s=0)
        while sandbox.alive:  # until the host has read the stream's end
            await asyncio.sleep(0.01)
        with pytest.raises(BoxGone):
            await sandbox.execute("1")
        assert ensure_image(pytest.fail, client) == image
        await sandbox.restart()
        assert (await sandbox.execute("1 + 1")).result.text == "2"
        await sandbox.aclose()
        store.close()
        assert await engine.list_boxes() == []
        await engine.aclose()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("docker20", ["--isolation", "container"]),
        ("docker26", ["--isolation", "container", "gvisor"]),
    ],
)
def test_boxes_work_on_it(name: str, options: list[str]) -> None:
    done = tool("run", name, "--", *SMOKE, *options)
    print(done.stdout, done.stderr[-3000:])
    assert done.returncode == 0


@pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").exists(), reason="needs cgroup version 1")
def test_rootless_podman_is_refused_where_it_sets_no_limit() -> None:
    code = (
        "import asyncio; from sandbox.host import shared_host; from sandbox.sandbox import Sandbox;"
        "from sandbox.spec import SandboxSpec; host = asyncio.run(shared_host(print));"
        "place = {'engine': host.engine, 'store': host.store, 'image': host.image, 'handler': print};"
        "asyncio.run(Sandbox.start(SandboxSpec(), **place))"
    )
    done = tool("run", "podman5", "--", sys.executable, "-c", code)
    assert done.returncode == 1
    assert "ControlMissing" in done.stderr
    assert "found unlimited, must be at most 1,073,741,824" in done.stderr


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(EngineError, match="no engine 'docker99'; there are docker26"):
        PrivateEngine("docker99")
