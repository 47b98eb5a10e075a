"""Several hosts on one engine: each removes what is its own, and what dead ones have left."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.exits import ExitCode
from sandbox.errors import BoxStartError
from sandbox.host import Host
from sandbox.owner import Owner, owner_label
from sandbox.spec import SandboxSpec
from sandbox.store import Store, StoredContext
from sandbox.threads import made_in_thread
from tests.boxes import SMALL, Box, exists
from tests.lifecycle.desk import KILLED, Desk

pytestmark = pytest.mark.docker


async def created(host: Host, store: Store, owner: str, spec: SandboxSpec = SMALL) -> str:
    """A box that is never started, under somebody's label."""
    return await host.engine.create(spec, image=host.image, context_dir=str(store.new_box_dir()), owner=owner)


def other_than_us(**fields: object) -> str:
    ours = Owner.parse(owner_label())
    assert ours is not None
    return dataclasses.replace(ours, **fields).label()  # type: ignore[arg-type]


async def test_a_start_removes_the_dead_and_no_others(box_host: Host, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    short = dataclasses.replace(SMALL, lifetime_s=1)
    dead = await created(box_host, store, other_than_us(started=1))
    over = {name: await created(box_host, store, label, short) for name, label in ELSEWHERE.items()}
    stay = {name: await created(box_host, store, label) for name, label in ELSEWHERE.items()}
    ours = await created(box_host, store, owner_label(), short)
    time.sleep(2.1)
    async with await Box.open(box_host):
        assert not await exists(box_host.engine, dead)
        assert [name for name, box in over.items() if await exists(box_host.engine, box)] == []
        assert [name for name, box in stay.items() if not await exists(box_host.engine, box)] == []
        assert await exists(box_host.engine, ours), "its owner lives"
    for box in [*stay.values(), ours]:
        await box_host.engine.remove(box)
    store.close()


ELSEWHERE = {
    "another boot": other_than_us(boot="01234567-89ab-cdef-0123-456789abcdef"),
    "another pid namespace": other_than_us(namespace=1),
    "a label of another form": "somebody",
    "a label of before, without a start time": owner_label().rpartition(" ")[0],
}


async def test_a_creation_that_is_cancelled_leaves_no_box(
    box_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has made it, but the thread that asked has not come back: a thread can't be cancelled."""
    store, made, cancelled = Store(tmp_path / "store"), threading.Event(), threading.Event()
    real, boxes = box_host.engine.api.create_container, []

    def create_container(*args: Any, **named: Any) -> Any:
        boxes.append(real(*args, **named))
        made.set()
        assert cancelled.wait(20)
        return boxes[0]

    monkeypatch.setattr(box_host.engine.api, "create_container", create_container)
    task = asyncio.create_task(created(box_host, store, owner_label()))
    await asyncio.to_thread(made.wait, 20)
    assert await exists(box_host.engine, boxes[0]["Id"])
    task.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not await exists(box_host.engine, boxes[0]["Id"])
    store.close()


async def test_a_document_whose_storing_is_cancelled_is_not_kept(tmp_path: Path) -> None:
    store, stored, cancelled = Store(tmp_path / "store"), threading.Event(), threading.Event()

    def put() -> StoredContext:
        context = store.put("the document")
        stored.set()
        assert cancelled.wait(20)
        return context

    task = asyncio.create_task(made_in_thread(put, store.forget))
    await asyncio.to_thread(stored.wait, 20)
    task.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    store.close()


async def test_an_image_that_is_gone_is_said(box_host: Host) -> None:
    lost = Host(box_host.engine, "sha256:" + "0" * 64, box_host.store)
    with pytest.raises(BoxStartError, match="the box's image is gone from the engine; the next run builds it again"):
        await Box.open(lost)


def test_two_hosts_with_five_runs_each_at_once(new_desk: Callable[..., Desk]) -> None:
    desks = [new_desk(name) for name in "ab"]
    began = [desk.start("none") for desk in desks for _ in range(5)]
    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(lambda running: running.wait(), began))
    assert codes == [ExitCode.ANSWERED] * 10, [running.said for running in began]
    assert [running.wait_until_gone() for running in began] == [{}] * 10
    assert [desk.files() + desk.files_with_the_document() for desk in desks] == [[], []]


def test_reap_leaves_what_a_live_host_owns_and_says_why(desk: Desk, new_desk: Callable[..., Desk]) -> None:
    other = new_desk("other")
    live = other.start("in a sub-call", "STOP")
    live.wait_until_stopped()
    dead = desk.start("created")
    assert dead.wait() == KILLED
    (box,) = live.boxes()
    (lost,) = dead.boxes()
    reaped = desk.airlock("reap", "--json")
    assert reaped.returncode == ExitCode.ANSWERED, reaped.stderr
    found = {item["name"]: item for item in json.loads(reaped.stdout)["leftovers"]}
    assert (found[box[:12]]["removed"], found[box[:12]]["why"]) == (False, f"its owner, process {live.pid}, is alive")
    assert dead.boxes() == {}
    if lost[:12] in found:  # another host's start may have been first
        assert found[lost[:12]]["why"] == f"its owner, process {dead.pid}, is gone"
    (store,) = [item for item in found.values() if item["kind"] == "store"]
    assert (store["removed"], store["why"]) == (True, "its process is gone")
    assert other.airlock("reap").stdout.count("its process is alive") == 1
    live.go_on()
    assert live.wait() == ExitCode.ANSWERED, live.said
    assert desk.files() + other.files() == []


def test_without_an_engine_the_directories_are_reaped_and_the_engine_is_named(desk: Desk) -> None:
    assert desk.start("context stored").wait() == KILLED
    assert desk.files_with_the_document() != []
    reaped = desk.airlock("reap", DOCKER_HOST=f"unix://{desk.state}/no.sock")
    assert reaped.returncode == ExitCode.SANDBOX
    assert reaped.stdout.endswith("its process is gone\n")
    assert reaped.stderr.startswith("airlock: no container engine answers")
    assert desk.files() == []
