"""The one table of what locks a box: each control, where it is read in the live box, and what must stand there.

The audit of every start, `airlock doctor` and the table in SECURITY.md are made from `CONTROLS`. Most settings are read
twice: from the engine, which says what it was asked for, and from the kernel, which says what holds.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Final

from sandbox.audit import inspected, measured
from sandbox.audit.evidence import NONE, Evidence, Read, Source, Value, plain, words
from sandbox.audit.inspected import SHM_DIR, TMP_DIR, TMPFS_FLAGS
from sandbox.audit.measured import Measure, or_unlimited
from sandbox.spec import BOX_USER, CONTEXT_DIR, NO_CORE_BYTES, RUN_DIR, Isolation

RUN_BYTES: Final = 1 << 20
RUN_INODES: Final = 64

_SENTRY: Final = "under gVisor the host sees gVisor's own process, not the box's"
_IGNORED: Final = "gVisor ignores nr_inodes"
_IMAGES: Final = "only what the image sets: an engine or a client may add proxies with a password"
_ONE: Final = "with 0 the kernel still pipes a dump to the host's program; with 1 it makes none"
_REFUSED: Final = "Podman takes no nr_inodes: files count as memory alone"
_NO_INODES: Final = {"gvisor": _IGNORED, "no_podman": _REFUSED}
_MASKED: Final = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"}
_READ_ONLY: Final = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One row of the table.

    Attributes:
        setting: Of `SandboxSpec`: a field, or one of those that are always on.
        name: Where it is read; unique.
        source: From whom.
        expected: What must stand there.
        found: What stands there; raises `Unreadable`.
        at_most: Whether less than expected also holds.
        gvisor: Why it says nothing about a box under gVisor; None where it does.
        only: The level it belongs to; None for both.
        podman: Whether Podman's API words it otherwise, so that a difference says nothing.
        no_podman: Why it can't be had from Podman; None where it can.
        note: Why it must be so, where the value alone does not show it.
    """

    setting: str
    name: str
    source: Source
    expected: Read
    found: Read
    at_most: bool = False
    gvisor: str | None = None
    only: Isolation | None = None
    podman: bool = False
    no_podman: str | None = None
    note: str = ""

    def holds(self, expected: Value, found: Value) -> bool:
        """Whether `found` is good enough."""
        if self.at_most and _is_number(found) and _is_number(expected):
            return found <= expected  # type: ignore[operator]
        return type(found) is type(expected) and found == expected


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(wanted: Value | Read) -> Read:
    return wanted if callable(wanted) else lambda _: wanted


def _inspect(setting: str, path: str, expected: Value | Read, found: Read | None = None, **more: Any) -> Control:
    def as_it_is(evidence: Evidence) -> Value:
        return plain(evidence.said(path))

    return Control(
        setting=setting, name=path, source="inspect", expected=_read(expected), found=found or as_it_is, **more
    )


def _proc(setting: str, name: str, expected: Value | Read, found: Measure, **more: Any) -> Control:
    more = {"gvisor": _SENTRY} | more
    return Control(
        setting=setting, name=name, source="proc", expected=_read(expected), found=lambda e: found(e.proc()), **more
    )


def _runtime(setting: str, name: str, expected: Value | Read, found: Read, **more: Any) -> Control:
    return Control(setting=setting, name=name, source="runtime", expected=_read(expected), found=found, **more)


def _absent(setting: str, path: str) -> Control:
    return _inspect(setting, path, NONE, lambda e: words(e.listed(path)))


def _namespace(kind: str, path: str | None = None, *, empty: str = "", podman: bool = False) -> tuple[Control, ...]:
    """Of one kind: the kernel's word and, where it has one, the engine's, which may leave it `empty`."""
    setting = f"{kind} namespace"
    kernels = _proc(setting, f"ns/{kind}", "its own", lambda p: "the host's" if p.shares_namespace(kind) else "its own")
    if path is None:
        return (kernels,)
    return (_inspect(setting, path, "private", lambda e: plain(e.said(path)) or empty, podman=podman), kernels)


def _all_of(path: str, wanted: set[str]) -> tuple[str, Read]:
    return words(wanted), inspected.those_of(path, wanted)


def _runsc_has(flag: str) -> Read:
    return lambda e: flag if flag in e.runtime.arguments else NONE


def _said_limit(setting: str, name: str, found: Read, expected: Value | Read = None, **more: Any) -> Control:
    """A limit as the engine says it; by default that of the spec's field of that name."""
    return _inspect(setting, name, expected or _field(setting), found, at_most=True, **more)


def _held_limit(setting: str, name: str, found: Measure, expected: Value | Read = None, **more: Any) -> Control:
    """A limit as the kernel holds it."""
    return _proc(setting, name, expected or _field(setting), found, at_most=True, **more)


def _field(name: str) -> Read:
    return lambda e: _plain_number(getattr(e.spec, name))


def _plain_number(value: float) -> float:
    return value if isinstance(value, int) else math.ceil(value)


def _whole_pages(name: str) -> Read:
    """The kernel rounds the size of a tmpfs up."""
    page = os.sysconf("SC_PAGE_SIZE")
    return lambda e: -(-getattr(e.spec, name) // page) * page


def _whole_percents(evidence: Evidence) -> float:
    """systemd rounds a CPU limit up."""
    return math.ceil(round(evidence.spec.cpus * 100, 6)) / 100


_WHAT_IT_CAN_REACH: Final = (
    _runtime(
        "isolation", "HostConfig.Runtime", lambda e: e.runtime.name, inspected.text("HostConfig.Runtime"), podman=True
    ),
    _inspect("image", "Image", "the image asked for", inspected.image),
    _inspect("environment", "Config.Env besides", NONE, inspected.asked_environment, note=_IMAGES),
    Control(
        setting="environment",
        name="environ besides",
        source="proc",
        expected=_read(NONE),
        found=inspected.real_environment,
        gvisor=_SENTRY,
        note=_IMAGES,
    ),
    _inspect("network", "HostConfig.NetworkMode", "none"),
    _inspect("network", "NetworkSettings.Networks", NONE, inspected.networks),
    _absent("network", "HostConfig.PortBindings"),
    _proc("network", "net/dev", "lo", lambda p: words(p.interfaces())),
    _runtime("network", "runtimeArgs --network=none", "--network=none", _runsc_has("--network=none"), only="gvisor"),
    *_namespace("net"),
    *_namespace("pid", "HostConfig.PidMode", empty="private"),
    *_namespace("ipc", "HostConfig.IpcMode"),
    *_namespace("uts", "HostConfig.UTSMode", empty="private"),
    *_namespace("cgroup", "HostConfig.CgroupnsMode", podman=True),
    *_namespace("mnt"),
    _absent("devices", "HostConfig.Devices"),
    _absent("devices", "HostConfig.DeviceRequests"),
    _absent("devices", "HostConfig.DeviceCgroupRules"),
    _inspect("context", f"Mounts {CONTEXT_DIR}", "read-only", inspected.context_mount),
    _proc("context", f"mountinfo {CONTEXT_DIR}", "read-only", measured.read_only(CONTEXT_DIR)),
    _inspect("mounts", "Mounts besides", NONE, inspected.other_mounts),
    _absent("mounts", "HostConfig.VolumesFrom"),
    _absent("mounts", "Config.Volumes"),
    _proc("mounts", "mountinfo besides", NONE, measured.unexpected_mounts),
)

_WHAT_IT_MAY_DO: Final = (
    _inspect("privileged", "HostConfig.Privileged", False),
    _inspect("user", "Config.User", BOX_USER),
    _absent("user", "HostConfig.GroupAdd"),
    _proc("user", "status Uid", BOX_USER.partition(":")[0], measured.ids("Uid", "uid_map")),
    _proc("user", "status Gid", BOX_USER.partition(":")[2], measured.ids("Gid", "gid_map")),
    _proc("user", "status Groups", NONE, measured.groups),
    _inspect("capabilities", "HostConfig.CapDrop", "ALL", inspected.dropped_capabilities, podman=True),
    _absent("capabilities", "HostConfig.CapAdd"),
    _proc("capabilities", "status Cap*", NONE, measured.capabilities),
    _inspect("no-new-privileges", "SecurityOpt no-new-privileges", True, inspected.no_new_privileges),
    _proc("no-new-privileges", "status NoNewPrivs", "1", lambda p: p.status("NoNewPrivs")),
    _inspect("seccomp", "SecurityOpt seccomp", "ours", inspected.profile, podman=True),
    _proc("seccomp", "status Seccomp", "2", lambda p: p.status("Seccomp")),
    _runtime("seccomp", "runtimeArgs --oci-seccomp", "--oci-seccomp", _runsc_has("--oci-seccomp"), only="gvisor"),
    _inspect("security options", "SecurityOpt besides", NONE, inspected.other_options, podman=True),
    _inspect("masked paths", "HostConfig.MaskedPaths", *_all_of("HostConfig.MaskedPaths", _MASKED), podman=True),
    _inspect("masked paths", "HostConfig.ReadonlyPaths", *_all_of("HostConfig.ReadonlyPaths", _READ_ONLY), podman=True),
    _proc("masked paths", "mountinfo /proc/sys", "read-only", measured.read_only("/proc/sys")),
    _absent("sysctls", "HostConfig.Sysctls"),
)

_WHERE_IT_MAY_WRITE: Final = (
    _inspect("read-only root", "HostConfig.ReadonlyRootfs", True),
    _proc("read-only root", "mountinfo /", "read-only", measured.read_only("/")),
    _inspect("tmpfs flags", "Tmpfs flags", " ".join(TMPFS_FLAGS), inspected.tmpfs_flags),
    _proc("tmpfs flags", "mountinfo tmpfs flags", " ".join(TMPFS_FLAGS), measured.mounted_flags),
    _said_limit("tmp_bytes", "Tmpfs /tmp size", inspected.tmpfs_number(TMP_DIR, "size")),
    _held_limit("tmp_bytes", "mountinfo /tmp size", measured.tmpfs_number(TMP_DIR, "size"), _whole_pages("tmp_bytes")),
    _said_limit("tmp_inodes", "Tmpfs /tmp nr_inodes", inspected.tmpfs_number(TMP_DIR, "nr_inodes"), **_NO_INODES),
    _held_limit(
        "tmp_inodes", "mountinfo /tmp nr_inodes", measured.tmpfs_number(TMP_DIR, "nr_inodes"), no_podman=_REFUSED
    ),
    _said_limit("run directory", "Tmpfs /run size", inspected.tmpfs_number(RUN_DIR, "size"), RUN_BYTES),
    _held_limit("run directory", "mountinfo /run size", measured.tmpfs_number(RUN_DIR, "size"), RUN_BYTES),
    _said_limit(
        "run directory", "Tmpfs /run inodes", inspected.tmpfs_number(RUN_DIR, "nr_inodes"), RUN_INODES, **_NO_INODES
    ),
    _held_limit(
        "run directory",
        "mountinfo /run inodes",
        measured.tmpfs_number(RUN_DIR, "nr_inodes"),
        RUN_INODES,
        no_podman=_REFUSED,
    ),
    _said_limit("shm_bytes", "HostConfig.ShmSize", inspected.positive("HostConfig.ShmSize")),
    _held_limit(
        "shm_bytes", "mountinfo /dev/shm size", measured.tmpfs_number(SHM_DIR, "size"), _whole_pages("shm_bytes")
    ),
    _said_limit("file_bytes", "Ulimits fsize", inspected.ulimit("fsize")),
    _held_limit("file_bytes", "limits Max file size", measured.limit("Max file size")),
    _inspect("core dumps", "Ulimits core", NO_CORE_BYTES, inspected.ulimit("core"), note=_ONE),
    _proc("core dumps", "limits Max core file size", NO_CORE_BYTES, measured.limit("Max core file size"), note=_ONE),
    _inspect("log", "HostConfig.LogConfig.Type", "none"),
)

_WHAT_IT_MAY_USE: Final = (
    _said_limit("memory_bytes", "HostConfig.Memory", inspected.positive("HostConfig.Memory")),
    _absent("memory_bytes", "HostConfig.OomKillDisable"),
    _held_limit("memory_bytes", "cgroup memory", lambda p: or_unlimited(p.memory_bytes()), gvisor=None),
    _said_limit("swap", "HostConfig.MemorySwap", inspected.positive("HostConfig.MemorySwap"), _field("memory_bytes")),
    _proc("swap", "cgroup swap", 0, lambda p: or_unlimited(p.swap_bytes()), gvisor=None),
    _said_limit("pids", "HostConfig.PidsLimit", inspected.positive("HostConfig.PidsLimit")),
    _held_limit("pids", "cgroup pids", lambda p: or_unlimited(p.pids())),
    _said_limit("cpus", "HostConfig.NanoCpus", inspected.nano_cpus, lambda e: e.spec.cpus),
    _held_limit("cpus", "cgroup cpu", lambda p: or_unlimited(p.cpus()), _whole_percents, gvisor=None),
    _said_limit("open_files", "Ulimits nofile", inspected.ulimit("nofile")),
    _held_limit("open_files", "limits Max open files", measured.limit("Max open files")),
)

_HOW_IT_ENDS: Final = (
    _said_limit("lifetime_s", "Labels expiry", inspected.expires),
    _inspect("restart policy", "HostConfig.RestartPolicy.Name", "no", inspected.restart_policy),
    _inspect("health check", "Config.Healthcheck", NONE, inspected.health),
    _inspect("auto-remove", "HostConfig.AutoRemove", True),
)

CONTROLS: Final[tuple[Control, ...]] = (
    *_WHAT_IT_CAN_REACH,
    *_WHAT_IT_MAY_DO,
    *_WHERE_IT_MAY_WRITE,
    *_WHAT_IT_MAY_USE,
    *_HOW_IT_ENDS,
)
