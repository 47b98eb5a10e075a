"""The audit of live boxes: a sound one passes, and of each restriction that is off it names exactly that one.

A box is weakened below the product: the test's client changes the request on its way to the engine. Where one setting
can't be off alone, the case lists all that it takes with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from orchestrator import RLM, ScriptedProvider
from orchestrator.trace import TraceEvent
from sandbox.audit.controls import CONTROLS
from sandbox.audit.findings import Audit
from sandbox.engine import LABEL, Engine
from sandbox.errors import ControlMissing
from sandbox.messages import Asked
from sandbox.runtimes import GVISOR
from sandbox.sandbox import Sandbox
from sandbox.spec import GIB, MIB, Isolation, SandboxSpec
from sandbox.store import Store
from tests.attack.attack import LEVELS
from tests.attack.off import OFF
from tests.attack.report import audit_named
from tests.attack.weak import (
    ChangingClient,
    Weaken,
    host,
    mounted,
    tmpfs,
    top,
    without_option,
    without_ulimit,
)
from tests.conftest import missing


@pytest.fixture
def client() -> Iterator[ChangingClient]:
    client = ChangingClient()
    yield client
    client.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
async def start(client: ChangingClient, store: Store, image_id: str) -> AsyncIterator[Callable[..., Any]]:
    started: list[Sandbox] = []

    async def start(spec: SandboxSpec, engine: Engine | None = None) -> Sandbox:
        if spec.isolation == "gvisor" and GVISOR not in client.info()["Runtimes"]:
            missing("the engine has no gVisor")
        sandbox = await Sandbox.start(
            spec, engine=engine or Engine(client), store=store, image=image_id, handler=answer
        )
        started.append(sandbox)
        return sandbox

    yield start
    for sandbox in started:
        await sandbox.aclose()


async def answer(asked: Asked) -> str:
    return asked.prompt


def is_local(audit: Audit) -> bool:
    """Whether the box's process can be seen from here: not on Docker Desktop or a remote engine."""
    return any(finding.source == "proc" and finding.status == "held" for finding in audit.findings)


# -------------------------------------------------------------------------------------------------------- a sound box


@pytest.mark.parametrize("level", LEVELS)
async def test_a_sound_box_has_every_control(start: Callable[..., Any], level: Isolation) -> None:
    audit = (await start(SandboxSpec(isolation=level, cpus=0.333, memory_bytes=512 * MIB + 1))).audit
    assert audit.missing == ()
    assert {f.name for f in audit.findings} == {c.name for c in CONTROLS if c.only in (None, level)}
    unchecked = {finding.name for finding in audit.not_checked}
    if level == "gvisor":
        assert unchecked >= {c.name for c in CONTROLS if c.gvisor}
        assert all(f.reason for f in audit.not_checked)
    elif is_local(audit):
        assert unchecked <= {"cgroup swap"}  # some kernels keep no account of swap
    assert not {f.name for f in audit.not_checked if f.source != "proc"} - {c.name for c in CONTROLS if c.gvisor}
    assert audit.isolation == level


async def test_every_fresh_box_is_audited(start: Callable[..., Any], client: ChangingClient) -> None:
    sandbox = await start(SandboxSpec())
    client.change = lambda config: config["HostConfig"].update(ReadonlyRootfs=False)
    with pytest.raises(ControlMissing):
        await sandbox.restart()
    assert not sandbox.alive


@pytest.mark.parametrize("level", LEVELS)
async def test_a_run_tells_its_level_and_its_audit(level: Isolation, start: Callable[..., Any]) -> None:
    await start(SandboxSpec(isolation=level))  # skips where the engine has no such level
    events: list[TraceEvent] = []
    rlm = RLM(ScriptedProvider(["FINAL(done)"]), prompt_mode="no_subcalls", sandbox=SandboxSpec(isolation=level))
    result = await rlm.arun("What?", "a document", listeners=[events.append])
    assert result.isolation == level
    [facts] = [event.facts for event in events if event.kind == "box"]
    assert facts["isolation"] == level
    assert facts["image"].startswith("sha256:")
    assert facts["missing"] == []
    assert facts["held"] + len(facts["not_checked"]) == len([c for c in CONTROLS if c.only in (None, level)])


async def test_more_isolation_than_demanded_is_used_and_told(start: Callable[..., Any], client: ChangingClient) -> None:
    class GvisorByDefault(Engine):
        async def info(self) -> dict[str, Any]:
            return await super().info() | {"DefaultRuntime": GVISOR}

    await start(SandboxSpec(isolation="gvisor"))
    sandbox = await start(SandboxSpec(isolation="container"), GvisorByDefault(client))
    assert sandbox.audit.isolation == "gvisor"
    assert sandbox.audit.missing == ()
    assert client.inspect_container(client.created[-1])["HostConfig"]["Runtime"] == GVISOR


# --------------------------------------------------------------------------------------------- one restriction is off


def label(value: str) -> Weaken:
    return lambda config: config["Labels"].update({f"{LABEL}.expires": value})


SPEC = SandboxSpec()
LABELS_OFF = "security options"  # Docker itself adds label=disable to a box with the host's IPC or processes
CASES: list[tuple[str, Weaken, set[str]]] = [
    ("a network", OFF["network"], {"network"}),
    ("a key in the environment", OFF["environment"], {"environment"}),
    ("another home", top(Env=["HOME=/context"]), {"environment"}),
    ("writable root", OFF["read-only root"], {"read-only root"}),
    ("root", OFF["user"], {"user"}),
    ("another group", top(User="65532:0"), {"user"}),
    ("a supplementary group", host(GroupAdd=["27"]), {"user"}),
    ("capabilities kept", host(CapDrop=None), {"capabilities"}),
    ("capabilities added", OFF["capabilities"], {"capabilities"}),
    # Without it the runtime loads the profile early, and ours does not let it finish: a box without it has no profile.
    ("new privileges", OFF["no-new-privileges"], {"no-new-privileges", "seccomp"}),
    ("no seccomp", OFF["seccomp"], {"seccomp"}),
    ("another profile", without_option("seccomp=", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'), {"seccomp"}),
    ("a security option", without_option("-", "label=disable"), {"security options"}),
    ("bare /proc", OFF["masked paths"], {"masked paths"}),
    ("a sysctl", host(Sysctls={"kernel.msgmax": "65536"}), {"sysctls"}),
    (
        "a device",
        host(Devices=[{"PathOnHost": "/dev/null", "PathInContainer": "/dev/more", "CgroupPermissions": "r"}]),
        {"devices"},
    ),
    ("a kind of device", OFF["devices"], {"devices"}),
    ("writable context", OFF["context"], {"context"}),
    ("a directory of the host", mounted(Source="/etc", Target="/host"), {"mounts"}),
    ("the context at another place", OFF["mounts"], {"mounts"}),
    ("a volume", top(Volumes={"/data": {}}), {"mounts"}),
    ("shareable IPC", host(IpcMode="shareable"), {"ipc namespace"}),
    ("the host's IPC", OFF["ipc namespace"], {"ipc namespace", "tmpfs flags", "shm_bytes", LABELS_OFF}),
    ("the host's UTS", OFF["uts namespace"], {"uts namespace"}),
    ("the host's processes", OFF["pid namespace"], {"pid namespace", LABELS_OFF}),
    ("the host's cgroups", OFF["cgroup namespace"], {"cgroup namespace"}),
    ("more memory", host(Memory=2 * GIB, MemorySwap=2 * GIB), {"memory_bytes", "swap"}),
    ("swap", host(MemorySwap=SPEC.memory_bytes + 64 * MIB), {"swap"}),
    ("more processes", host(PidsLimit=SPEC.pids + 1), {"pids"}),
    ("any number of processes", host(PidsLimit=0), {"pids"}),
    ("more CPUs", host(NanoCpus=int(1.5e9)), {"cpus"}),
    ("all CPUs", host(NanoCpus=0), {"cpus"}),
    ("any file size", without_ulimit("fsize"), {"file_bytes"}),
    ("more open files", without_ulimit("nofile"), {"open_files"}),
    ("core dumps", without_ulimit("core"), {"core dumps"}),
    ("programs, devices and setuid", OFF["tmpfs flags"], {"tmpfs flags"}),
    ("programs in /tmp", tmpfs("/tmp", "noexec", "exec"), {"tmpfs flags"}),
    ("setuid in the run directory", tmpfs("/run/airlock", "nosuid", "suid"), {"tmpfs flags"}),
    ("a larger /tmp", tmpfs("/tmp", f"size={SPEC.tmp_bytes}", "size=1g"), {"tmp_bytes"}),
    ("any number of files in /tmp", tmpfs("/tmp", f"nr_inodes={SPEC.tmp_inodes},", ""), {"tmp_inodes"}),
    ("a larger run directory", tmpfs("/run/airlock", "size=1m", "size=2m"), {"run directory"}),
    ("more files in the run directory", tmpfs("/run/airlock", "nr_inodes=64", "nr_inodes=65"), {"run directory"}),
    ("a larger /dev/shm", host(ShmSize=SPEC.shm_bytes + MIB), {"shm_bytes"}),
    ("a log on disk", host(LogConfig={"Type": "json-file", "Config": {}}), {"log"}),
    ("kept when it ends", host(AutoRemove=False), {"auto-remove"}),
    ("started again", host(AutoRemove=False, RestartPolicy={"Name": "on-failure"}), {"auto-remove", "restart policy"}),
    ("a health check", top(Healthcheck={"Test": ["CMD", "true"]}), {"health check"}),
    ("a later expiry", label("9999999999"), {"lifetime_s"}),
    ("no expiry", label("soon"), {"lifetime_s"}),
]
GVISOR_CASES = {
    *("a network", "writable root", "no seccomp", "new privileges", "capabilities kept", "more memory", "all CPUs"),
    *("writable context", "a directory of the host", "bare /proc", "a key in the environment"),
}


async def refused(start: Callable[..., Any], client: ChangingClient, spec: SandboxSpec, change: Weaken) -> Audit:
    """The audit of a box that must be refused, and must be gone."""
    client.change = change
    with pytest.raises(ControlMissing) as caught:
        await start(spec)
    with pytest.raises(docker.errors.NotFound):
        client.inspect_container(client.created[-1])
    assert all(str(finding) in str(caught.value) for finding in caught.value.audit.missing[:3])
    return caught.value.audit


@pytest.mark.parametrize(
    ("level", "name", "change", "settings"),
    [(level, *case) for level in LEVELS for case in CASES if level == "container" or case[0] in GVISOR_CASES],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_missing_restriction_is_named(
    start: Callable[..., Any],
    client: ChangingClient,
    level: Isolation,
    name: str,
    change: Weaken,
    settings: set[str],
) -> None:
    if name == "a network" and not client.networks(names=["bridge"]):
        missing("the engine has no bridge network")
    named(await refused(start, client, SandboxSpec(isolation=level), change), settings)


def named(audit: Audit, settings: set[str]) -> None:
    """It names these and no other."""
    assert {finding.setting for finding in audit.missing} == settings
    audit_named(audit.isolation, settings)


async def test_the_hosts_network_is_named(start: Callable[..., Any], client: ChangingClient) -> None:
    audit = await refused(start, client, SPEC, OFF["net namespace"])
    found = {finding.setting for finding in audit.missing}
    named(audit, {"network", "net namespace"} & found)  # the engine's network namespace need not be ours
    assert "network" in found


async def test_a_weaker_runtime_than_demanded_is_named(start: Callable[..., Any], client: ChangingClient) -> None:
    named(await refused(start, client, SandboxSpec(isolation="gvisor"), OFF["isolation"]), {"isolation"})


async def test_another_image_is_named(start: Callable[..., Any], client: ChangingClient, image_id: str) -> None:
    container = client.create_container(image_id)["Id"]
    other = client.commit(container)["Id"]
    client.remove_container(container)
    try:
        named(await refused(start, client, SPEC, top(Image=other)), {"image"})
    finally:
        client.remove_image(other)


def test_every_setting_is_taken_away_here() -> None:
    """tests/unit has three: few machines start a privileged box, and these namespaces can't be shared alone."""
    taken = {setting for *_, settings in CASES for setting in settings} | {"isolation", "image", "network"}
    in_unit_tests = {"privileged", "mnt namespace", "net namespace"}
    assert {control.setting for control in CONTROLS} - taken == in_unit_tests
