"""The audit's readers on recorded and on hostile texts: cgroup v1 and v2, mounts, limits, ids, the engine's record."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sandbox.audit.__main__ import BEGIN, put_between_marks
from sandbox.audit.controls import CONTROLS
from sandbox.audit.evidence import UNLIMITED, Evidence
from sandbox.audit.findings import Audit, Finding, audit_box, audit_live
from sandbox.audit.proc import (
    MAX_BYTES,
    BoxProcess,
    Unreadable,
    parse_cgroup,
    parse_limit,
    parse_mountinfo,
    parse_size,
)
from sandbox.errors import ControlMissing, EngineUnavailable
from sandbox.runtimes import GVISOR_FLAGS, Runtime, runtime_for
from sandbox.spec import GIB, SandboxSpec
from tests.conftest import REPOSITORY

ID = "7221c870c3418c3c81aa56d47365d97d92cad5c8f1abeca82cc5468a356c0abf"
PID = 9509

STATUS = """\
Name:	python3
Umask:	0022
Uid:	65532	65532	65532	65532
Gid:	65532	65532	65532	65532
Groups:	65532 
NSpid:	9509	1
CapInh:	0000000000000000
CapPrm:	0000000000000000
CapEff:	0000000000000000
CapBnd:	0000000000000000
CapAmb:	0000000000000000
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	1
"""  # noqa: W291 - as the kernel writes it
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             1073741824           1073741824           bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        1                    1                    bytes     
Max open files            1024                 1024                 files     
Max nice priority         0                    0                    
"""  # noqa: W291
MOUNTS = """\
119 71 0:50 / / ro,relatime master:3 - overlay overlay rw,lowerdir=/var/lib/a:/var/lib/b,upperdir=/var/lib/c
120 119 0:53 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
121 119 0:54 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
122 121 0:55 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666
123 119 0:56 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
124 123 0:57 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
128 124 0:32 /docker/ID /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,memory
134 121 0:52 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
135 121 0:58 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
136 119 254:0 /store/box-1 /context ro,relatime - ext4 /dev/vda rw,discard
137 119 0:59 / /tmp rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=262144k,nr_inodes=65536
138 119 254:0 /var/lib/docker/hostname /etc/hostname ro,relatime - ext4 /dev/vda rw,discard
139 119 0:60 / /run/airlock rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=1024k,nr_inodes=64,mode=700
75 120 0:53 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
99 120 0:54 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
101 123 0:62 / /sys/firmware ro,relatime - tmpfs tmpfs ro
"""
NET = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0
"""
WHOLE_MAP = "         0          0 4294967295\n"
CGROUP_V1 = f"8:pids:/docker/{ID}\n4:memory:/docker/{ID}\n2:cpu,cpuacct:/docker/{ID}\n0::/docker/{ID}\n"
CGROUP_V2 = f"0::/system.slice/docker-{ID}.scope\n"
FILES_V1 = {
    f"memory/docker/{ID}/memory.limit_in_bytes": "1073741824\n",
    f"memory/docker/{ID}/memory.memsw.limit_in_bytes": "1073741824\n",
    f"pids/docker/{ID}/pids.max": "4096\n",
    f"cpu/docker/{ID}/cpu.cfs_quota_us": "100000\n",
    f"cpu/docker/{ID}/cpu.cfs_period_us": "100000\n",
}
FILES_V2 = {
    f"system.slice/docker-{ID}.scope/memory.max": "1073741824\n",
    f"system.slice/docker-{ID}.scope/memory.swap.max": "0\n",
    f"system.slice/docker-{ID}.scope/pids.max": "4096\n",
    f"system.slice/docker-{ID}.scope/cpu.max": "100000 100000\n",
}
ENVIRONMENT = ("PATH=/usr/bin", "HOME=/tmp")
NAMESPACES = ("net", "pid", "mnt", "ipc", "uts", "cgroup")


class Machine:
    """A /proc and a cgroup file system as files."""

    def __init__(self, root: Path, version: int) -> None:
        self.proc, self.cgroup = root / "proc", root / "cgroup with space"
        self.own = {
            "status": STATUS,
            "limits": LIMITS,
            "mountinfo": MOUNTS,
            "net/dev": NET,
            "environ": "\0".join([*ENVIRONMENT, "HOSTNAME=7221c870c341", ""]),
            "uid_map": WHOLE_MAP,
            "gid_map": WHOLE_MAP,
            "cgroup": CGROUP_V1 if version == 1 else CGROUP_V2,
        }
        for name, text in (FILES_V1 if version == 1 else FILES_V2).items():
            self.write(self.cgroup / name, text)
        for name, text in self.own.items():
            self.write(self.proc / str(PID) / name, text)
        self.write(self.proc / "self" / "mountinfo", self._host_mounts(version))
        for kind in NAMESPACES:
            self.namespace("self", kind, 1)
            self.namespace(str(PID), kind, 2)

    def _host_mounts(self, version: int) -> str:
        place = str(self.cgroup).replace(" ", "\\040")
        if version == 2:
            return f"30 23 0:26 / {place} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        lines = [
            f"3{n} 31 0:3{n} / {place}/{name} rw - cgroup cgroup rw,{name}" for n, name in enumerate(("memory", "pids"))
        ]
        return "\n".join([*lines, f"39 31 0:39 / {place}/cpu rw - cgroup cgroup rw,cpu,cpuacct", ""])

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))

    def change(self, name: str, old: str, new: str) -> None:
        assert old in self.own[name]
        self.write(self.proc / str(PID) / name, self.own[name].replace(old, new))

    def namespace(self, pid: str, kind: str, number: int) -> None:
        link = self.proc / pid / "ns" / kind
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(f"{kind}:[402653{number}]")

    def process(self, container: str = ID, box_dir: str = "/elsewhere/box-1") -> BoxProcess:
        return BoxProcess(PID, container, box_dir, self.proc)


@pytest.fixture(params=[1, 2], ids=["cgroup v1", "cgroup v2"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


def record(**host: Any) -> dict[str, Any]:
    """What Docker 20.10 says of a sound box."""
    spec = SandboxSpec()
    limits = {"nofile": spec.open_files, "fsize": spec.file_bytes, "core": 1}
    flags = "nosuid,nodev,noexec"
    return {
        "Id": ID,
        "State": {"Pid": PID},
        "Image": "sha256:1",
        "Mounts": [{"Destination": "/context", "Source": "/store/box-1", "RW": False}],
        "NetworkSettings": {"Networks": {}},
        "Config": {
            "User": "65532:65532",
            "Env": [*ENVIRONMENT],
            "Volumes": None,
            "Healthcheck": {"Test": ["NONE"]},
            "Labels": {"expires": str(int(time.time()) + 3000)},
        },
        "HostConfig": {
            "Runtime": "runc",
            "NetworkMode": "none",
            "PortBindings": None,
            "PidMode": "",
            "IpcMode": "private",
            "UTSMode": "",
            "CgroupnsMode": "private",
            "Devices": None,
            "DeviceRequests": None,
            "DeviceCgroupRules": None,
            "VolumesFrom": None,
            "Privileged": False,
            "GroupAdd": None,
            "CapDrop": ["ALL"],
            "CapAdd": None,
            "SecurityOpt": ["no-new-privileges:true", "seccomp={}"],
            "MaskedPaths": [
                "/proc/kcore",
                "/proc/keys",
                "/proc/timer_list",
                "/proc/scsi",
                "/sys/firmware",
                "/proc/acpi",
            ],
            "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "ReadonlyRootfs": True,
            "AutoRemove": True,
            "LogConfig": {"Type": "none"},
            "Tmpfs": {
                "/tmp": f"size={spec.tmp_bytes},nr_inodes={spec.tmp_inodes},{flags}",
                "/run/airlock": f"size=1m,nr_inodes=64,{flags}",
            },
            "Ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in limits.items()],
            "ShmSize": spec.shm_bytes,
            "Memory": spec.memory_bytes,
            "MemorySwap": spec.memory_bytes,
            "OomKillDisable": False,
            "PidsLimit": spec.pids,
            "NanoCpus": 10**9,
            "RestartPolicy": {"Name": "no"},
            **host,
        },
    }


def evidence(inspect: dict[str, Any] | None = None, **more: Any) -> Evidence:
    known: dict[str, Any] = {
        "spec": SandboxSpec(),
        "image": "sha256:1",
        "context_dir": "/store/box-1",
        "seccomp": "seccomp={}",
        "label": "expires",
        "runtime": Runtime(name="runc"),
        "inspect": inspect or record(),
        "environment": frozenset(ENVIRONMENT),
    }
    return Evidence(**(known | more))


def audited(machine: Machine, **more: Any) -> Audit:
    return audit_live(evidence(**more), machine.proc)


def said(audit: Audit, name: str) -> Finding:
    [finding] = [finding for finding in audit.findings if finding.name == name]
    return finding


# ------------------------------------------------------------------------------------------------------- the kernel's


def test_the_recorded_box_is_sound(machine: Machine) -> None:
    audit = audited(machine)
    assert [str(finding) for finding in (*audit.missing, *audit.not_checked)] == []


def test_nothing_is_left_open(machine: Machine) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    audited(machine)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "found"),
    [
        ("status", "Seccomp:\t2", "Seccomp:\t0", "status Seccomp", "0"),
        ("status", "NoNewPrivs:\t1", "NoNewPrivs:\t0", "status NoNewPrivs", "0"),
        ("status", "CapBnd:\t00000000", "CapBnd:\t000001ff", "status Cap*", "CapBnd=000001ff00000000"),
        ("status", "Uid:\t65532\t65532", "Uid:\t65532\t0", "status Uid", "0 65532"),
        ("status", "Gid:\t65532", "Gid:\t0", "status Gid", "0 65532"),
        ("status", "Groups:\t65532", "Groups:\t0 27 65532", "status Groups", "0 27"),
        (
            "limits",
            "Max open files            1024                 1024",
            "Max open files            1024   4096",
            "limits Max open files",
            4096,
        ),
        (
            "limits",
            "Max file size             1073741824           1073741824",
            "Max file size  5  unlimited",
            "limits Max file size",
            UNLIMITED,
        ),
        ("net/dev", "    lo:", "  eth0:       0\n    lo:", "net/dev", "eth0 lo"),
        ("environ", "HOME=", "A_KEY=secret\0\udcff=x\0HOME=", "environ besides", "A_KEY \\udcff"),
        ("environ", "HOME=/tmp", "HOME=/context", "environ besides", "HOME"),
        ("mountinfo", "/ / ro", "/ / rw", "mountinfo /", "writable"),
        ("mountinfo", "/context ro", "/context rw", "mountinfo /context", "writable"),
        ("mountinfo", "/store/box-1 /context", "/store/box-1 /else", "mountinfo /context", "not mounted"),
        ("mountinfo", "/tmp rw,nosuid,nodev,noexec", "/tmp rw,nosuid,nodev", "mountinfo tmpfs flags", "nosuid nodev"),
        ("mountinfo", ",nr_inodes=65536", "", "mountinfo /tmp nr_inodes", UNLIMITED),
        ("mountinfo", "tmpfs rw,size=262144k", "tmpfs rw,size=50%", "mountinfo /tmp size", None),
        ("mountinfo", "- tmpfs shm rw", "- ext4 shm rw", "mountinfo /dev/shm size", "no tmpfs"),
        ("mountinfo", "/proc/sys ro", "/proc/sys rw", "mountinfo /proc/sys", "writable"),
        ("mountinfo", "/etc/hostname ro", "/run/docker.sock ro", "mountinfo besides", "/run/docker.sock"),
        ("mountinfo", "/null /proc/keys", "/x /proc/keys", "mountinfo besides", "/proc/keys"),
        (
            "mountinfo",
            "/sys/fs/cgroup/memory ro",
            "/sys/fs/cgroup/memory rw",
            "mountinfo besides",
            "/sys/fs/cgroup/memory",
        ),
        ("mountinfo", "/dev/mqueue", "/a\\012b\\033[2J", "mountinfo besides", "/a\\nb\\x1b[2J"),
    ],
)
def test_a_difference_is_found(machine: Machine, file: str, old: str, new: str, name: str, found: Any) -> None:
    machine.change(file, old, new)
    finding = said(audited(machine), name)
    assert finding.found == found
    assert finding.status == ("missing" if found is not None else "not checked")


def test_the_mount_above_counts(machine: Machine) -> None:
    machine.change("mountinfo", "75 120", "140 119 0:9 / /context rw - tmpfs tmpfs rw\n75 120")
    assert said(audited(machine), "mountinfo /context").found == "writable"


@pytest.mark.parametrize("kind", NAMESPACES)
@pytest.mark.parametrize("other", ["self", "1"])
def test_a_shared_namespace_is_found(machine: Machine, kind: str, other: str) -> None:
    machine.namespace(other, kind, 2)
    audit = audited(machine)
    assert [finding.name for finding in audit.missing] == [f"ns/{kind}"]


def test_ids_are_those_inside_of_the_user_namespace(machine: Machine) -> None:
    rootless = "0 1000 1\n1 100000 65536\n"
    for name in ("uid_map", "gid_map"):
        machine.write(machine.proc / str(PID) / name, rootless)
    machine.write(machine.proc / str(PID) / "status", STATUS.replace("65532", "165531"))
    audit = audited(machine)
    assert audit.missing == ()
    machine.write(
        machine.proc / str(PID) / "status", STATUS.replace("65532", "1000").replace("Groups:\t1000", "Groups:\t7")
    )
    audit = audited(machine)
    assert (said(audit, "status Uid").found, said(audit, "status Groups").found) == ("0", "?")


def cgroup_files(name: str) -> str:
    [v1] = [path for path in FILES_V1 if path.endswith(f"/{name}")] or [""]
    [v2] = [path for path in FILES_V2 if path.endswith(f"/{name}")] or [""]
    return v1 or v2


@pytest.mark.parametrize(
    ("version", "file", "text", "name", "found"),
    [
        (1, "memory.limit_in_bytes", "9223372036854771712", "cgroup memory", 9223372036854771712),
        (1, "memory.memsw.limit_in_bytes", "2147483648", "cgroup swap", GIB),
        (1, "cpu.cfs_quota_us", "-1", "cgroup cpu", UNLIMITED),
        (1, "cpu.cfs_quota_us", "150000", "cgroup cpu", 1.5),
        (2, "memory.max", "max", "cgroup memory", UNLIMITED),
        (2, "memory.swap.max", "max", "cgroup swap", UNLIMITED),
        (2, "cpu.max", "max 100000", "cgroup cpu", UNLIMITED),
        (2, "cpu.max", "200000 100000", "cgroup cpu", 2.0),
    ],
)
def test_a_missing_limit_of_the_cgroup_is_found(
    tmp_path: Path, version: int, file: str, text: str, name: str, found: Any
) -> None:
    machine = Machine(tmp_path, version)
    machine.write(machine.cgroup / cgroup_files(file), text)
    finding = said(audited(machine), name)
    assert (finding.status, finding.found) == ("missing", found)


@pytest.mark.parametrize("text", ["4097", "max", "4096\n"])
def test_the_limit_of_processes(machine: Machine, text: str) -> None:
    [file] = machine.cgroup.rglob("pids.max")
    machine.write(file, text)
    assert said(audited(machine), "cgroup pids").status == ("held" if text == "4096\n" else "missing")


@pytest.mark.parametrize("text", ["", "many", "-2", "1e9", "９", "0" * 30, "4096 4096", "\udcff"])
def test_a_limit_that_is_no_number_is_not_checked(machine: Machine, text: str) -> None:
    [file] = machine.cgroup.rglob("pids.max")
    machine.write(file, text)
    finding = said(audited(machine), "cgroup pids")
    assert finding.status == "not checked"
    assert finding.reason


def test_a_kernel_without_an_account_of_swap_is_not_checked(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 1)
    (machine.cgroup / cgroup_files("memory.memsw.limit_in_bytes")).unlink()
    finding = said(audited(machine), "cgroup swap")
    assert (finding.status, "memory.memsw.limit_in_bytes" in finding.reason) == ("not checked", True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: (m.change("cgroup", ID, ID[::-1]), m.change("mountinfo", "box-1", "box-2")), "not the box's"),
        (lambda m: (m.proc / str(PID) / "cgroup").unlink(), "can't be read"),
        (lambda m: (m.proc / str(PID)).rename(m.proc / "1234"), "another machine"),
    ],
)
def test_a_process_that_is_not_the_boxs_proves_nothing(
    machine: Machine, change: Callable[[Machine], None], why: str
) -> None:
    change(machine)
    audit = audited(machine)
    kernels = [finding for finding in audit.findings if finding.source == "proc"]
    assert {finding.status for finding in kernels} == {"not checked"}
    assert all(why in finding.reason for finding in kernels)
    assert {finding.status for finding in audit.findings if finding.source != "proc"} == {"held"}


def test_the_context_tells_a_rootless_box(machine: Machine) -> None:
    machine.change("cgroup", ID, "user")
    with machine.process():
        pass
    for box_dir in ("", "/", "box-2", "/store/box-1/x"):
        with pytest.raises(Unreadable, match="another machine"):
            machine.process(box_dir=box_dir)


@pytest.mark.parametrize("pid", [0, -1, None, "9509", True])
def test_a_pid_that_is_none_proves_nothing(machine: Machine, pid: Any) -> None:
    audit = audited(machine, inspect=record() | {"State": {"Pid": pid}})
    assert {finding.status for finding in audit.findings if finding.source == "proc"} == {"not checked"}


@pytest.mark.parametrize("file", ["status", "limits", "mountinfo", "net/dev", "uid_map"])
@pytest.mark.parametrize(
    "text", ["", "\0", "Seccomp: 2\nSeccomp: 2", "1 2 3", "x" * (MAX_BYTES + 1), "\udcff\n" * 9, "a - b"]
)
def test_an_odd_file_is_not_checked_or_missing_and_never_held(machine: Machine, file: str, text: str) -> None:
    machine.write(machine.proc / str(PID) / file, text)
    concerned = {"net/dev": "net/dev", "uid_map": "status Uid"}.get(file, f"{file} ")
    findings = [finding for finding in audited(machine).findings if finding.name.startswith(concerned)]
    assert findings
    held = {finding.name for finding in findings if finding.status == "held"}
    assert held <= ({"mountinfo besides"} if file == "mountinfo" and not text else set())


def test_a_name_can_not_forge_a_line_of_status(machine: Machine) -> None:
    """The kernel escapes the line end in a process's name; a second line of a kind is not believed all the same."""
    machine.change("status", "Name:\tpython3", "Name:\tx\nSeccomp:\t2")
    machine.own["status"] = (machine.proc / str(PID) / "status").read_text()
    machine.change("status", "Seccomp:\t2\nSeccomp_filters", "Seccomp:\t0\nSeccomp_filters")
    assert said(audited(machine), "status Seccomp").status == "not checked"


def test_paths_of_cgroups() -> None:
    assert parse_cgroup(CGROUP_V1, "cpu") == (f"/docker/{ID}", 1)
    assert parse_cgroup(CGROUP_V2, "cpu") == (f"/system.slice/docker-{ID}.scope", 2)
    for text in ("", "no colons", "1:memory:/x", "0::/../../x", "0::x"):
        with pytest.raises(Unreadable):
            parse_cgroup(text, "cpu")


def test_numbers_and_mounts() -> None:
    assert (parse_limit("max"), parse_limit(" 12\n"), parse_size("2G"), parse_size("64")) == (None, 12, 2 * GIB, 64)
    for text in ("", "k", "-1", "1t", "50%", "9" * 30):
        with pytest.raises(Unreadable):
            parse_size(text)
    [mount] = parse_mountinfo("1 2 0:3 /a\\040b /c\\011d rw shared:1 master:2 - tmpfs  rw,size=1k")
    assert (mount.root, mount.point, mount.option("size"), mount.option("mode")) == ("/a b", "/c\td", "1k", None)
    [mount] = parse_mountinfo("1 2 0:3 / /with\u2028line\x0cends rw - tmpfs tmpfs rw")
    assert mount.point == "/with\u2028line\x0cends"


# ------------------------------------------------------------------------------------------------------ the engine's


def test_a_privileged_box_is_named() -> None:
    """By the engine's record alone: such a box does not start on every machine."""
    audit = audit_box(evidence(record(Privileged=True, MaskedPaths=None, ReadonlyPaths=None)))
    assert {finding.setting for finding in audit.missing} == {"privileged", "masked paths"}


@pytest.mark.parametrize("value", [None, [], {}, "", 0, 1.5, "x", ["x"], {"x": None}, True])
@pytest.mark.parametrize("key", [*record()["HostConfig"], "Networks", "Labels", "Mounts", "Config", "State", "Image"])
def test_an_odd_record_never_raises(key: str, value: Any) -> None:
    odd = record()
    if key in odd:
        odd[key] = value
    elif key in odd["HostConfig"]:
        odd["HostConfig"][key] = value
    else:
        odd["Config" if key == "Labels" else "NetworkSettings"][key] = value
    assert len(audit_box(evidence(odd)).findings) == len([c for c in CONTROLS if c.only != "gvisor"])


def test_an_empty_record_holds_nothing_that_a_box_must_be_given() -> None:
    held = {f.name for f in audit_box(evidence({"Id": ID})).findings if f.status == "held"}
    assert all(control.expected(evidence()) == "none" for control in CONTROLS if control.name in held)


def test_podmans_own_words_are_not_checked() -> None:
    podman = Runtime(name="crun", podman=True)
    said_so = record(Runtime="oci", CapDrop=["CAP_CHOWN"], CgroupnsMode="", MaskedPaths=None, ReadonlyPaths=None)
    del said_so["HostConfig"]["DeviceCgroupRules"]
    audit = audit_box(evidence(said_so, runtime=podman))
    assert audit.missing == ()
    not_checked = {finding.setting for finding in audit.not_checked if finding.source != "proc"}
    assert not_checked == {
        *("isolation", "capabilities", "cgroup namespace", "masked paths", "devices", "sysctls"),
        *("tmp_inodes", "run directory"),
    }
    assert audit_box(evidence(record(ReadonlyRootfs=False), runtime=podman)).missing != ()


@pytest.mark.parametrize(
    ("env", "podman", "found"),
    [
        ([*ENVIRONMENT, "http_proxy=http://user:password@host", "A_KEY=x"], False, "A_KEY http_proxy"),
        (["PATH=/usr/bin", "HOME=/context"], False, "HOME"),
        ([*ENVIRONMENT, "TERM=xterm", "container=podman"], False, "TERM container"),
        ([*ENVIRONMENT, "TERM=xterm", "container=podman", "https_proxy=x"], True, "https_proxy"),
        ([*ENVIRONMENT, "TERM=xterm", "container=podman"], True, "none"),
        (["PATH=/usr/bin"], False, "none"),
    ],
)
def test_names_of_the_environment_that_the_image_has_not_and_no_values(
    env: list[str], podman: bool, found: str
) -> None:
    inspect = record()
    inspect["Config"]["Env"] = env
    runtime = Runtime(name="crun" if podman else "runc", podman=podman)
    finding = said(audit_box(evidence(inspect, runtime=runtime)), "Config.Env besides")
    assert (finding.found, finding.status) == (found, "held" if found == "none" else "missing")


def test_an_image_that_is_not_described_leaves_the_environment_unchecked() -> None:
    audit = audit_box(evidence(environment=Unreadable("gone")))
    assert [finding.setting for finding in audit.not_checked if finding.source != "proc"] == ["environment"]


def test_a_missing_control_is_told_in_words() -> None:
    error = ControlMissing(audit_box(evidence(record(Memory=0, ReadonlyRootfs=False, PidsLimit=-1, NanoCpus=0))))
    said = str(error)
    assert "nothing was run in it: read-only root (HostConfig.ReadonlyRootfs): found False, must be True; " in said
    assert "memory_bytes (HostConfig.Memory): found unlimited, must be at most 1,073,741,824; " in said
    assert "; and 1 more. " in said
    assert said.endswith("name another engine in DOCKER_HOST. 'airlock doctor' shows all")
    assert len(error.audit.missing) == 4


# ---------------------------------------------------------------------------------------------- runtimes and the table


@pytest.mark.parametrize("least", ["container", "gvisor"])
def test_the_level_that_is_given(least: Any) -> None:
    gvisor = {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": list(GVISOR_FLAGS)}}
    runc = runtime_for({"DefaultRuntime": "runc", "Runtimes": {"runc": {}} | gvisor}, least)
    assert (runc.name, runc.isolation) == (("runsc", "gvisor") if least == "gvisor" else ("runc", "container"))
    by_default = runtime_for({"DefaultRuntime": "runsc", "Runtimes": gvisor}, least)
    assert (by_default.name, by_default.isolation, by_default.arguments) == ("runsc", "gvisor", GVISOR_FLAGS)
    podman = runtime_for({"BuildahVersion": "1.38", "Runtimes": gvisor, "DefaultRuntime": "crun"}, "container")
    assert (podman.name, podman.podman) == ("crun", True)


@pytest.mark.parametrize("arguments", [None, [], ["--network=none"], ["--oci-seccomp"]])
@pytest.mark.parametrize("least", ["container", "gvisor"])
def test_a_gvisor_that_ignores_the_profile_is_refused(arguments: Any, least: Any) -> None:
    with pytest.raises(EngineUnavailable, match="lacks --"):
        runtime_for({"DefaultRuntime": "runsc", "Runtimes": {"runsc": {"runtimeArgs": arguments}}}, least)


def test_a_level_that_the_engine_lacks_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="does not have; it has: crun, runc"):
        runtime_for({"Runtimes": {"runc": {}, "crun": {}}}, "gvisor")


def test_every_field_of_the_spec_has_a_control() -> None:
    """But the time in which a box must start, which is no restriction of it."""
    covered = {control.setting for control in CONTROLS}
    assert {field.name for field in fields(SandboxSpec)} - covered == {"start_timeout_s"}
    names = [control.name for control in CONTROLS]
    assert len(set(names)) == len(names)


def test_the_table_in_the_security_page_is_the_audits_own() -> None:
    page = (REPOSITORY / ".github" / "SECURITY.md").read_text(encoding="utf-8")
    assert BEGIN in page
    assert put_between_marks(page) == page


def test_the_table_can_be_printed() -> None:
    command = [sys.executable, "-m", "sandbox.audit", "--markdown"]
    table = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert table.strip() in (REPOSITORY / ".github" / "SECURITY.md").read_text(encoding="utf-8")
    assert table.count("\n") == len(CONTROLS) + 2
