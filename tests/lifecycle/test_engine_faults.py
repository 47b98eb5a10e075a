"""An engine that restarts, or loses its image, in the middle of a run. A private one: never the machine's own."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest

from orchestrator import RLM, BoxError, ScriptedProvider
from sandbox.image import ensure_image
from sandbox.store import Store, state_dir
from tests.engines.private import PrivateEngine, why_not
from tests.lifecycle.desk import KILLED, Desk
from tests.lifecycle.points import hook
from tests.runs import boxes_of, code

WHY_NOT = why_not()

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    """The machine's own binaries with data of their own, and the box's image."""
    private = PrivateEngine("docker20", progress=print)
    if private.processes():
        pytest.skip("docker20 is up: somebody uses it, or type: python -m tests.engines down docker20")
    with private:
        client = docker.APIClient(base_url=private.docker_host, version="auto")
        ensure_image(print, client)
        client.close()
        yield private


@pytest.fixture
def api(engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[docker.APIClient]:
    """A connection to it; this process uses it too, with a state directory that it sees."""
    for name, value in engine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
    client = docker.APIClient(base_url=engine.docker_host, version="auto")
    yield client
    client.close()


@pytest.fixture
async def no_rest(api: docker.APIClient) -> AsyncIterator[None]:
    """Whatever happened, nothing is left."""
    yield
    gc.collect()  # in the test that expects what docker-py leaks
    assert boxes_of() == []
    assert [path for path in (state_dir() / "store").rglob("*") if path.is_file() or path.name.startswith("box-")] == []


SLEEPS = code("import time\nprint('in the cell')\ntime.sleep(600)")


@pytest.mark.parametrize("grace_s", [0, 15], ids=["a crash", "an orderly restart"])
async def test_a_restart_in_a_sub_call_costs_the_box_and_the_run_goes_on(
    grace_s: float, engine: PrivateEngine, no_rest: None
) -> None:
    def sub(_: object) -> str:
        engine.restart(grace_s=grace_s)
        return "late"

    root = ScriptedProvider([code("print(llm_query('x'))"), "FINAL(there)"])
    result = await RLM(root, ScriptedProvider(sub)).arun("?", "text")
    assert (result.answer, result.stop_reason) == ("there", "answered")
    assert "the box ended" in root.requests[1].messages[-1].content


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py leaks what it can't connect
async def test_an_engine_that_is_gone_ends_the_run_with_a_typed_error(engine: PrivateEngine, no_rest: None) -> None:
    def sub(_: object) -> str:
        engine.down(grace_s=0)
        return "late"

    root = ScriptedProvider([code("print(llm_query('x'))"), "FINAL(there)"])
    try:
        with pytest.raises(BoxError, match=r"does not answer|would not") as caught:
            await RLM(root, ScriptedProvider(sub)).arun("?", "text")
        assert caught.value.result is not None
        assert caught.value.result.stop_reason == "sandbox_error"
    finally:
        engine.up()


async def test_an_image_that_is_removed_between_two_runs_is_built_again(api: docker.APIClient, no_rest: None) -> None:
    async def ask() -> str | None:
        return (await RLM(ScriptedProvider([code("FINAL(len(context))")])).arun("?", "text")).answer

    assert await ask() == "4"
    api.remove_image(ensure_image(pytest.fail, api), force=True)
    assert await ask() == "4"


async def test_an_image_that_is_removed_in_a_run_is_said_when_a_fresh_box_needs_it(
    api: docker.APIClient, no_rest: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ensure_image(pytest.fail, api)
    monkeypatch.setattr(Store, "new_box_dir", Store.new_box_dir)  # put back at the end
    hook(Store, "new_box_dir", lambda: api.remove_image(image, force=True), call=2)
    root = ScriptedProvider([code("import os\nos.kill(os.getpid(), 9)"), "FINAL(there)"])
    with pytest.raises(BoxError, match="the box's image is gone from the engine; the next run builds it again"):
        await RLM(root).arun("?", "text")
    ensure_image(print, api)


def test_clean_all_removes_everything_of_ours_and_nothing_else(
    engine: PrivateEngine, api: docker.APIClient, new_desk: object, tmp_path: Path
) -> None:
    assert callable(new_desk)
    desk: Desk = new_desk("desk", **engine.environment() | {"AIRLOCK_STATE": str(tmp_path / "desk" / "state")})
    image = ensure_image(print, api)
    users = {
        "container": api.create_container(image, entrypoint=["true"], labels={"rlm": "x"})["Id"],
        "image": "users/airlock-kernel:0123456789abcdef",
    }
    for name in ("users/airlock-kernel:0123456789abcdef", "airlock-kernel:mine", "airlock-kernel:0000000000000000"):
        api.tag(image, *name.split(":"))
    assert desk.start("created").wait() == KILLED
    live = desk.start("in a sub-call", "STOP")
    live.wait_until_stopped()
    notes = desk.state / "traces" / "notes.txt"
    notes.write_text("the user's")

    def names() -> set[str]:
        return {tag for found in api.images() for tag in found["RepoTags"] or ()}

    before = names()
    planned = desk.airlock("clean", "--all", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert names() == before
    assert "would leave box" in planned.stdout
    for name in (users["image"], "airlock-kernel:mine"):
        api.remove_image(name)  # so that the box's names are all ours
    first = desk.airlock("clean", "--all", "--yes", "--json")
    assert first.returncode == 0, first.stdout
    for name in (users["image"], "airlock-kernel:mine"):
        api.tag(image, *name.split(":"))
    record = json.loads(first.stdout)
    assert {item["kind"] for item in record["leftovers"] if not item["removed"]} <= {"box", "store", "image", "trace"}
    assert live.boxes() != {}, "its owner lives"
    done = desk.airlock("clean", "--all", "--yes", "--force")
    print(done.stdout, done.stderr)
    assert live.boxes() == {}
    live.kill()
    live.wait()
    assert not {name for name in names() if name.startswith(("airlock-kernel:", "airlock-base:"))} - {
        "airlock-kernel:mine"
    }
    assert {"users/airlock-kernel:0123456789abcdef", "airlock-kernel:mine"} <= names()
    assert users["container"] in {box["Id"] for box in api.containers(all=True)}
    assert [path for path in desk.state.rglob("*") if path.is_file()] == [notes]
    assert os.listdir(desk.state) == ["traces"]
    api.remove_container(users["container"])
    for name in ("users/airlock-kernel:0123456789abcdef", "airlock-kernel:mine"):
        api.remove_image(name)
