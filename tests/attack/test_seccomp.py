"""Each system call that the profile refuses, in a locked box and in one that has everything but the profile."""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from sandbox.errors import EngineUnavailable
from sandbox.host import Host
from sandbox.inputs import images_dir
from sandbox.spec import CellLimits, Isolation, SandboxSpec
from tests.attack.attack import LEVELS
from tests.attack.calls import CALLS, HELPERS
from tests.attack.report import Line, add
from tests.attack.required import demand
from tests.attack.weak import Weaken, WeakEngine, with_seccomp
from tests.boxes import Box
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the call numbers are those of x86-64")

Said = dict[str, str]
NOT_THE_PROFILE = {"EPERM", "ENOSYS", "EAFNOSUPPORT", "SIGSYS"}
"""What the kernel may say itself; then the unconfined box proves nothing."""
NOT_IN_GVISOR = {"process_vm_readv", "process_vm_writev", "vmsplice", "copy_file_range"}
"""Calls that gVisor of 2022 does not have, so that there is nothing to refuse."""


@pytest.fixture(scope="module")
def said(box_host: Host) -> Callable[[Isolation, str], Said]:
    """What each call of `CALLS` says in a box of a level, ``locked`` or ``unconfined``. One box for all of them."""

    @cache
    def ask(level: Isolation, form: str) -> Said:
        demand(level)
        return asyncio.run(_all_calls(box_host, level, _FORMS[form]))

    return ask


_FORMS: dict[str, Weaken] = {"locked": lambda config: None, "unconfined": with_seccomp("unconfined")}


async def _all_calls(host: Host, level: Isolation, weaken: Weaken) -> Said:
    engine = WeakEngine(weaken)
    async with await Box.open(Host(engine, host.image, host.store), SandboxSpec(isolation=level)) as box:
        assert isinstance(box, Box)
        await box.shown(HELPERS)
        codes = {name: call.code for name, call in CALLS.items()}
        result = await box.execute(f"said = {{name: attempt(code) for name, code in {codes!r}.items()}}")
        assert result.status == "ok", result
        answers: Said = await box.json_value("said")
    await engine.aclose()
    return answers


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CALLS)
def test_it_is_refused(said: Callable[[Isolation, str], Said], level: Isolation, name: str) -> None:
    assert said(level, "locked")[name] in CALLS[name].answers(level)


@pytest.mark.parametrize("level", LEVELS)
def test_the_profile_is_what_refuses(said: Callable[[Isolation, str], Said], level: Isolation) -> None:
    locked, unconfined = said(level, "locked"), said(level, "unconfined")
    held = [name for name in CALLS if unconfined[name] != locked[name] and unconfined[name] not in NOT_THE_PROFILE]
    others = [name for name in CALLS if name not in held]
    add(Line(setting="seccomp", level=level, attack=f"{len(held)} calls: {', '.join(held)}", status="held"))
    add(
        Line(
            setting="seccomp",
            level=level,
            attack=f"{len(others)} calls: {', '.join(others)}",
            status="no control on this kernel",
            reason="they say no more where nothing stops them",
        )
    )
    always = {name for name, call in CALLS.items() if call.always}
    assert always - (NOT_IN_GVISOR if level == "gvisor" else set()) <= set(held)


STOP_BY_THREAD = "import os\nfor thread in os.listdir('/proc/1/task'):\n    if thread != '1': os.kill(int(thread), 19)"


async def test_a_thread_of_pid_1_can_be_signalled_and_linux_ignores_it(box_host: Host) -> None:
    """`kill` takes the number of a thread, too, and no filter knows whose it is. Linux spares PID 1 all the same."""
    async with await Box.open(box_host) as box:
        assert (await box.execute(STOP_BY_THREAD)).status == "ok"
        assert (await box.execute("1")).status == "ok"


async def test_under_gvisor_such_a_stop_costs_the_box(box_host: Host) -> None:
    await asyncio.to_thread(demand, "gvisor")
    async with await Box.open(box_host, SandboxSpec(isolation="gvisor")) as box:
        assert (await box.execute(STOP_BY_THREAD, CellLimits(wall_s=1))).status == "lost"
        await box.restart()
        assert (await box.execute("1")).status == "ok"


def test_one_name_has_one_meaning() -> None:
    """No name is in two rules but those whose arguments tell them apart: an unconditional one would undo the other."""
    rules = json.loads((images_dir() / "kernel" / "seccomp.json").read_text())["syscalls"]
    uses: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        for name in rule["names"]:
            uses.setdefault(name, []).append(rule)
    assert {name for name, found in uses.items() if len(found) > 1} == {
        "socket",
        "socketpair",
        "kill",
        "tgkill",
        "prlimit64",
    }
    assert all("args" in rule for name, found in uses.items() if len(found) > 1 for rule in found)


def test_the_pages_say_how_many_calls_it_allows() -> None:
    rules = json.loads((images_dir() / "kernel" / "seccomp.json").read_text())["syscalls"]
    allowed = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    only_x86 = {name for rule in rules if "only x86-64 has" in rule.get("comment", "") for name in rule["names"]}
    on_arm64 = allowed - only_x86 - {"pselect"}  # a name of gVisor's, which no Linux has
    own = (images_dir() / "kernel" / "seccomp.md").read_text(encoding="utf-8")
    assert f"an allow-list: {len(allowed)} names ({len(on_arm64)} of them on arm64)" in own
    for page in ("README.md", "docs/safety.md", ".github/SECURITY.md"):
        text = " ".join((REPOSITORY / page).read_text(encoding="utf-8").split())
        assert f" {len(allowed)} system calls" in text, page


def test_every_pid_but_1_can_be_signalled_by_the_masks() -> None:
    """The rules for kill and tgkill say the same as "neither 1 nor -1", for every number that can be a pid."""
    rules = json.loads((images_dir() / "kernel" / "seccomp.json").read_text())["syscalls"]
    masks = {
        name: [(arg["value"], arg["valueTwo"]) for rule in rules if name in rule["names"] for arg in rule["args"]]
        for name in ("kill", "tgkill")
    }
    largest = 1 << 22  # the kernel's PID_MAX_LIMIT
    for pid in (*range(2, 70_000), *(1 << bit for bit in range(1, 22)), largest - 1):
        assert _allows(masks["kill"], pid), pid
        assert _allows(masks["kill"], -pid), -pid
        assert _allows(masks["tgkill"], pid), pid
    assert _allows(masks["kill"], 0)
    for upper in (0, 1 << 32, 0xFFFFFFFF << 32):
        for pid in (1, 0xFFFFFFFF):
            assert not _allows(masks["kill"], upper | pid)
            assert not _allows(masks["tgkill"], upper | pid)


def _allows(masks: list[tuple[int, int]], argument: int) -> bool:
    return any((argument & (1 << 64) - 1) & mask == value for mask, value in masks)


async def test_an_engine_without_seccomp_is_refused() -> None:
    class NoSeccomp(WeakEngine):
        async def info(self) -> dict[str, Any]:
            return await super().info() | {"SecurityOptions": ["name=apparmor"]}

    engine = NoSeccomp(lambda config: None)
    with pytest.raises(EngineUnavailable, match="the engine has no seccomp"):
        await engine.check(SandboxSpec())
    await engine.aclose()
