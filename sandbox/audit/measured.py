"""What the kernel says of a box's process about each setting, as one simple value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sandbox.audit.evidence import UNLIMITED, Value, words
from sandbox.audit.inspected import SHM_DIR, TMP_DIR, TMPFS_FLAGS
from sandbox.audit.proc import BoxProcess, Mount, parse_size
from sandbox.spec import BOX_USER, CONTEXT_DIR, RUN_DIR

Measure = Callable[[BoxProcess], Value]

_DEVICES: Final = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}  # rootless: bound
_MOUNTS: Final = _DEVICES | {
    *("/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/mqueue", SHM_DIR, TMP_DIR, RUN_DIR, CONTEXT_DIR),
    *("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"),
}


def capabilities(process: BoxProcess) -> str:
    """Its five sets, where one is not empty."""
    held = {name: process.status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    return words(f"{name}={mask}" for name, mask in held.items() if mask.strip("0"))


def ids(field: str, map_file: str) -> Measure:
    """The ids of one kind, each once: real, effective, saved and of the file system."""
    return lambda process: words(set(process.ids(field, map_file)))


def groups(process: BoxProcess) -> str:
    """Supplementary groups besides its own."""
    return words(set(process.ids("Groups", "gid_map")) - {BOX_USER.partition(":")[2]})


def limit(name: str) -> Measure:
    """A resource limit."""
    return lambda process: or_unlimited(process.limit(name))


def or_unlimited(value: float | None) -> Value:
    """A limit as a value."""
    return UNLIMITED if value is None else value


def read_only(point: str) -> Measure:
    """How something is mounted."""

    def found(process: BoxProcess) -> str:
        mount = process.mounts().get(point)
        return "not mounted" if mount is None else "read-only" if "ro" in mount.options else "writable"

    return found


def tmpfs_number(point: str, name: str) -> Measure:
    """Size or number of inodes of a tmpfs."""

    def found(process: BoxProcess) -> Value:
        mount = process.mounts().get(point)
        if mount is None or mount.fstype != "tmpfs":
            return "no tmpfs"
        text = mount.option(name)  # not shown where it has the kernel's default, such as half of the memory
        return UNLIMITED if text is None else parse_size(text)

    return found


def mounted_flags(process: BoxProcess) -> str:
    """Flags that every tmpfs it may write to has."""
    mounts = [process.mounts().get(point) for point in (TMP_DIR, RUN_DIR, SHM_DIR)]
    return " ".join(
        flag for flag in TMPFS_FLAGS if all(mount is not None and flag in mount.options for mount in mounts)
    )


def unexpected_mounts(process: BoxProcess) -> str:
    """What is mounted that neither the spec nor the engine's habits explain, such as the engine's socket."""
    return words(mount.point for mount in process.mounts().values() if not _is_expected(mount))


def _is_expected(mount: Mount) -> bool:
    if mount.point in _MOUNTS:
        return True
    if mount.point.startswith(("/proc/", "/sys/")):  # masks, read-only parts and the view of the cgroup
        return (
            "ro" in mount.options or mount.root == "/null" or (mount.point, mount.fstype) == ("/sys/fs/cgroup", "tmpfs")
        )
    return False
