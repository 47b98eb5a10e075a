"""A live box: what the engine says of it, what it looks like from inside, and that it goes when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest

from sandbox.engine import LABEL
from sandbox.errors import BoxStartError, EngineUnavailable
from sandbox.host import Host
from sandbox.owner import owner_label
from sandbox.spec import CONTEXT_DIR, MIB, RUN_DIR, CellLimits, KernelSettings, SandboxSpec
from tests.boxes import SMALL, Box, exists

pytestmark = pytest.mark.asyncio(loop_scope="module")

END_S = 20  # generous: what does not end at all is what these tests look for


async def ours(host: Host) -> set[str]:
    """This process's boxes; other test runs may use the same engine."""
    return {box["Id"] for box in await host.engine.list_boxes() if box["Labels"][LABEL] == owner_label()}


async def gone(box: Box, container: str) -> None:
    async with asyncio.timeout(END_S):
        while await exists(box.engine, container):
            await asyncio.sleep(0.05)


async def test_every_restriction_is_on_by_its_value(box: Box, box_host: Host) -> None:
    record = await box.engine.inspect(box.container)
    host = record["HostConfig"]
    values = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "Privileged": False,
        "Memory": SMALL.memory_bytes,
        "MemorySwap": SMALL.memory_bytes,
        "PidsLimit": SMALL.pids,
        "NanoCpus": 1_000_000_000,
        "ShmSize": SMALL.shm_bytes,
        "IpcMode": "private",
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": True,
        "PublishAllPorts": False,
        "Init": False,
    }
    assert {name: host[name] for name in values} == values
    assert not any(
        host[name] for name in ("CapAdd", "Binds", "Devices", "DeviceRequests", "PortBindings", "VolumesFrom")
    )
    assert not host["OomKillDisable"]
    assert host["LogConfig"] == {"Type": "none", "Config": {}}
    assert "no-new-privileges:true" in host["SecurityOpt"]
    limits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in host["Ulimits"]}
    assert limits == {"nofile": (1024, 1024), "fsize": (1 << 30, 1 << 30), "core": (1, 1)}
    assert {path: set(options.split(",")) for path, options in host["Tmpfs"].items()} == {
        "/tmp": {"size=67108864", "nr_inodes=2000", "mode=1777", "nosuid", "nodev", "noexec"},
        RUN_DIR: {"size=1m", "nr_inodes=64", "mode=0700", "uid=65532", "gid=65532", "nosuid", "nodev", "noexec"},
    }
    (mount,) = record["Mounts"]
    assert (mount["Type"], mount["Destination"], mount["RW"]) == ("bind", CONTEXT_DIR, False)
    config = record["Config"]
    assert config["User"] == "65532:65532"
    assert config["NetworkDisabled"] is True
    assert config["Tty"] is False
    assert config["OpenStdin"] is True
    assert config["StdinOnce"] is True
    assert config["Healthcheck"] == {"Test": ["NONE"]}
    assert record["Image"] == box_host.image
    assert config["Image"] == box_host.image, "by ID, not by a name that may move"


async def test_its_labels_say_owner_and_expiry(box: Box) -> None:
    labels = (await box.engine.inspect(box.container))["Config"]["Labels"]
    assert labels[LABEL] == owner_label()
    assert labels[LABEL].split()[-2] == str(os.getpid())
    assert time.time() < int(labels[f"{LABEL}.expires"]) <= time.time() + SMALL.lifetime_s


FROM_INSIDE = """
import json, os, resource
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
mounts = {line.split()[1]: line.split()[3].split(",") for line in open("/proc/mounts")}
print(json.dumps({
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
    "caps": [status[c] for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"], "seccomp": status["Seccomp"],
    "limits": {n: resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in ("NOFILE", "FSIZE", "CORE")},
    "mounts": {p: mounts[p] for p in ("/", "/tmp", "/context", "/dev/shm", "/run/airlock")},
    "pids": sorted(int(p) for p in os.listdir("/proc") if p.isdigit())[:2],
    "cwd": os.getcwd(), "home": os.environ["HOME"],
}))
"""


async def test_it_is_locked_from_inside_too(box: Box) -> None:
    seen = json.loads((await box.execute(FROM_INSIDE)).stdout.text)
    assert seen["uid"] == seen["gid"] == [65532] * 3
    assert seen["groups"] in ([], [65532])
    assert seen["caps"] == ["0" * 16] * 5
    assert seen["no_new_privs"] == "1"
    assert seen["seccomp"] == "2"
    assert seen["limits"] == {"NOFILE": [1024, 1024], "FSIZE": [1 << 30, 1 << 30], "CORE": [1, 1]}
    assert {path: {"ro", "rw"} & set(options) for path, options in seen["mounts"].items()} == {
        "/": {"ro"},
        "/context": {"ro"},
        "/tmp": {"rw"},
        "/dev/shm": {"rw"},
        "/run/airlock": {"rw"},
    }
    for path in ("/tmp", "/dev/shm", "/run/airlock"):
        assert {"nosuid", "nodev", "noexec"} <= set(seen["mounts"][path])
    assert seen["pids"][0] == 1, "a process namespace of its own"
    assert (seen["cwd"], seen["home"]) == ("/tmp", "/tmp")


@pytest.mark.parametrize(
    ("code", "errno"),
    [
        ("open('/x', 'w')", "EROFS"),
        ("open('/opt/airlock/relay.py', 'a')", "EROFS,EACCES"),
        ("open('/usr/bin/x', 'w')", "EROFS,EACCES"),
        ("open('/context/x', 'w')", "EROFS,EACCES"),
        ("os.remove('/context/' + os.listdir('/context')[0])", "EROFS,EACCES"),
        ("os.chmod('/context/' + os.listdir('/context')[0], 0o666)", "EROFS,EPERM"),
        ("os.mknod('/tmp/device', 0o600 | stat.S_IFCHR, os.makedev(1, 1))", "EPERM"),
        ("os.setuid(0)", "EPERM"),
        ("os.chroot('/tmp')", "EPERM"),
        ("open('/proc/sysrq-trigger', 'w')", "EROFS,EACCES,ENOENT"),
        ("open('/proc/sys/kernel/core_pattern', 'w')", "EROFS,EACCES"),
        ("subprocess.run(['/tmp/program'])", "EACCES"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))", "EPERM,"),
        ("open('/tmp/big', 'wb').truncate(2 << 30)", "EFBIG"),
    ],
)
async def test_what_it_may_not_do_fails(box: Box, code: str, errno: str) -> None:
    await box.load("context", box.store.put("text"))
    setup = (
        "import errno, os, resource, shutil, signal, stat, subprocess\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "shutil.copyfile('/bin/true', '/tmp/program'); os.chmod('/tmp/program', 0o755)\n"
        f"try: {code}; said = 'it worked'\n"
        "except OSError as e: said = errno.errorcode[e.errno]\n"
        "except ValueError: said = ''\n"
        "said"
    )
    assert (await box.shown(setup)).strip("'") in errno.split(",")


async def test_a_context_arrives_also_after_the_start_and_a_restart(box: Box) -> None:
    text = "naïve \ud800 \x00 text\r\n" * 1000
    await box.load("first", box.store.put(text))
    await box.load("second", box.store.put({"a.txt": "one", "b.txt": "two"}))
    assert await box.json_value("first") == text
    await box.execute("first = second = None")
    await box.restart()
    assert await box.json_value("first") == text
    assert await box.json_value("second") == {"a.txt": "one", "b.txt": "two"}


async def test_the_usual_cells_work_in_it(box: Box) -> None:
    assert await box.shown("import math\nmath.factorial(5)") == "120"
    assert await box.shown("llm_query('q', data='d')") == "'<q|d>'"
    assert (await box.execute("!id -u")).stdout.text == "65532\n"
    assert await box.shown("import json, re, sqlite3, zlib; 1") == "1"
    assert await box.shown("import threading\nt = threading.Thread(target=print)\nt.start(); t.join(); 1") == "1"
    code = "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as pool: r = pool.map(abs, [-1, -2])\nr"
    assert await box.shown(code) == "[1, 2]"
    assert (await box.execute("FINAL('done')")).answer == "done"


async def test_its_cpu_time_is_read_from_the_engine(box: Box) -> None:
    before = await box.engine.cpu_s(box.container)
    await box.execute("import time\nwhile time.process_time() < 0.5: pass")
    after = await box.engine.cpu_s(box.container)
    assert before is not None
    assert after is not None
    assert 0 < after - before < END_S
    result = await box.execute("import time; time.sleep(1.5); 'slept'", CellLimits(cpu_s=1, wall_s=END_S))
    assert result.status == "ok", "sleeping costs no CPU time"


async def test_it_is_gone_after_aclose(box_host: Host) -> None:
    box = await Box.open(box_host)
    container, directory = box.container, box.directory
    assert await exists(box.engine, container)
    await box.aclose()
    await gone(box, container)
    assert not directory.exists()
    await box.aclose()
    assert not box.alive


async def test_it_is_gone_when_the_host_only_closes_the_stream(box_host: Host) -> None:
    """As when the host's process is killed: nobody calls the engine."""
    box = await Box.open(box_host)
    container = box.container
    running = asyncio.create_task(box.execute("while True: pass"))
    await asyncio.sleep(0.2)
    box.kernel.link.abort()
    await gone(box, container)
    assert (await running).status == "lost"
    await box.aclose()


async def test_cancelling_a_cell_removes_the_box(box_host: Host) -> None:
    box = await Box.open(box_host)
    container = box.container
    running = asyncio.create_task(box.execute("while True: pass"))
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(box, container)
    await box.aclose()


async def test_a_start_that_fails_leaves_nothing(box_host: Host) -> None:
    before = await ours(box_host)
    broken = Host(box_host.engine, "sha256:" + "0" * 64, box_host.store)
    with pytest.raises(BoxStartError):
        await Box.open(broken)
    with pytest.raises(BoxStartError, match=r"did not answer|would not"):
        await Box.open(
            box_host,
            SandboxSpec(memory_bytes=128 * MIB, start_timeout_s=1, pids=64),
            KernelSettings(functions=("no_such",)),
        )
    assert await ours(box_host) <= before
    assert len(list(box_host.store._dir.glob("box-*"))) <= len(before)


async def test_an_isolation_that_the_engine_lacks_fails_closed(box_host: Host) -> None:
    if "runsc" in (await box_host.engine.info())["Runtimes"]:
        pytest.skip("this engine has gVisor")
    with pytest.raises(EngineUnavailable, match="gvisor"):
        await Box.open(box_host, SandboxSpec(isolation="gvisor"))
