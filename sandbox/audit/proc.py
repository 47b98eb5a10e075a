"""What the kernel says of a running box: its first process's files under /proc, and its cgroup's limits.

Works where the engine's machine is ours and its processes can be seen. Everything else is `Unreadable`, with the reason
in words, and never an answer. Blocks for about a millisecond.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Self

from sandbox.spec import CONTEXT_DIR

MAX_BYTES: Final = 1 << 20
"""Of one file. A box has some forty mounts; a host with containers a few thousand."""

_SIZE: Final = re.compile(r"(\d{1,18})([kmg]?)", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_LIMIT_LINE: Final = re.compile(r"(Max [a-z ]+?)\s{2,}(unlimited|\d+)\s+(unlimited|\d+)\b")


class Unreadable(Exception):
    """It can't be known from here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of a mountinfo file.

    Attributes:
        root: The directory of the file system that is mounted.
        point: Where, as the reader or the box sees it.
        options: Of this mount: ``ro``, ``nosuid`` and so on.
        fstype: Such as ``tmpfs``.
        super_options: Of the file system: ``size=1024k`` and so on.
    """

    root: str
    point: str
    options: frozenset[str]
    fstype: str
    super_options: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """The value of a file system's option; None where it shows none of that name."""
        for option in self.super_options:
            key, _, value = option.partition("=")
            if key == name:
                return value
        return None


class BoxProcess:
    """The first process of a box. A context manager; holds the process's directory open, so that no other one with the
    same number can take its place.

    Args:
        pid: As the engine says it.
        container: ID of the container, which its cgroup should carry.
        box_dir: The directory that is mounted as its context, which no other process has. It proves what the cgroup
            can't: a rootless engine may leave the box in a cgroup of its own.
        proc: Where proc is mounted.

    Raises:
        Unreadable: There is no such process here, or it is not the container's.
    """

    def __init__(self, pid: int, container: str, box_dir: str, proc: Path = Path("/proc")) -> None:
        if pid <= 0:
            raise Unreadable("the engine names no process of the box")
        self._proc = proc
        self._texts: dict[str, str] = {}
        self._mounts: dict[str, Mount] | None = None
        try:
            self._directory = os.open(proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Unreadable(
                f"the box's process can't be seen from here ({error.strerror}): another machine?"
            ) from None
        try:
            if not self._is_of(container, PurePosixPath(box_dir).name):
                raise Unreadable("the process with the box's number is not the box's here: another machine?")
        except BaseException:
            self.close()
            raise

    def _is_of(self, container: str, box_dir: str) -> bool:
        if container and container in self.text("cgroup"):
            return True
        context = self.mounts().get(CONTEXT_DIR)
        return context is not None and bool(box_dir) and PurePosixPath(context.root).name == box_dir

    def close(self) -> None:
        """Let go of it."""
        os.close(self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self, name: str) -> str:
        """One of its files, read once."""
        if name not in self._texts:
            try:
                self._texts[name] = read_bounded(name, self._directory)
            except OSError as error:
                raise Unreadable(f"/proc/PID/{name} can't be read: {error.strerror}") from None
        return self._texts[name]

    def status(self, name: str) -> str:
        """A field of its status."""
        found = [line.partition(":")[2].strip() for line in _lines(self.text("status")) if line.startswith(f"{name}:")]
        if len(found) != 1:
            raise Unreadable(f"its status has {len(found)} lines {name!r}")
        return found[0]

    def ids(self, field: str, map_file: str) -> list[str]:
        """User or group ids of its status, as they are inside of the box's user namespace; ``?`` for none there."""
        return [_inside(text, self.text(map_file)) for text in self.status(field).split()]

    def limit(self, name: str) -> int | None:
        """The larger of a resource's two limits; None for none. `name` is the words of the file: ``Max open files``."""
        for line in _lines(self.text("limits")):
            match = _LIMIT_LINE.match(line)
            if match and match[1] == name:
                return None if "unlimited" in match.groups() else max(int(match[2]), int(match[3]))
        raise Unreadable(f"its limits have no line {name!r}")

    def mounts(self) -> dict[str, Mount]:
        """Its mounts by their place; of several at one place the last, which is the one that is seen."""
        if self._mounts is None:
            self._mounts = {mount.point: mount for mount in parse_mountinfo(self.text("mountinfo"))}
        return self._mounts

    def interfaces(self) -> list[str]:
        """Names of its network interfaces."""
        return sorted(line.partition(":")[0].strip() for line in _lines(self.text("net/dev")) if ":" in line)

    def shares_namespace(self, kind: str) -> bool:
        """Whether it is in the same namespace as this process, or as the first process that can be seen."""
        try:
            own = os.readlink(f"ns/{kind}", dir_fd=self._directory)
            hosts = {os.readlink(self._proc / "self" / "ns" / kind)}
        except OSError as error:
            raise Unreadable(f"/proc/PID/ns/{kind} can't be read: {error.strerror}") from None
        with contextlib.suppress(OSError):
            hosts.add(os.readlink(self._proc / "1" / "ns" / kind))
        return own in hosts

    # ------------------------------------------------------------------------------------------------------- its cgroup

    def memory_bytes(self) -> int | None:
        """Its cgroup's memory limit; None for none."""
        return self._cgroup_limit("memory", v1="memory.limit_in_bytes", v2="memory.max")

    def swap_bytes(self) -> int | None:
        """How much swap its cgroup may use; None for no limit."""
        if self._controller("memory")[1] == 2:
            return self._cgroup_limit("memory", v1="", v2="memory.swap.max")
        memory, both = self.memory_bytes(), self._cgroup_limit("memory", v1="memory.memsw.limit_in_bytes", v2="")
        return None if memory is None or both is None else both - memory

    def pids(self) -> int | None:
        """How many processes and threads its cgroup may have; None for no limit."""
        return self._cgroup_limit("pids", v1="pids.max", v2="pids.max")

    def cpus(self) -> float | None:
        """How many CPUs its cgroup may use; None for no limit."""
        directory, version = self._controller("cpu")
        if version == 2:
            quota, _, period = self._cgroup_text(directory, "cpu.max").partition(" ")
        else:
            quota = self._cgroup_text(directory, "cpu.cfs_quota_us")
            period = self._cgroup_text(directory, "cpu.cfs_period_us")
        limit, length = parse_limit(quota), parse_limit(period)
        if not length:
            raise Unreadable(f"the period of the CPU limit is {period!r:.40}")
        return None if limit is None else limit / length

    def cpu_time_file(self) -> tuple[Path, int]:
        """Where its cgroup counts CPU time, and 1 or 2 for the hierarchy's version: nanoseconds, or ``cpu.stat``."""
        directory, version = self._controller("cpuacct")
        return directory / ("cpu.stat" if version == 2 else "cpuacct.usage"), version

    def _cgroup_limit(self, controller: str, *, v1: str, v2: str) -> int | None:
        directory, version = self._controller(controller)
        return parse_limit(self._cgroup_text(directory, v2 if version == 2 else v1))

    def _cgroup_text(self, directory: Path, name: str) -> str:
        try:
            return read_bounded(str(directory / name)).strip()
        except OSError as error:
            raise Unreadable(f"the cgroup's {name} can't be read: {error.strerror}") from None

    def _controller(self, controller: str) -> tuple[Path, int]:
        """The directory of its cgroup for a controller, and 1 or 2 for the hierarchy's version."""
        path, version = parse_cgroup(self.text("cgroup"), controller)
        for mount in parse_mountinfo(read_bounded(str(self._proc / "self" / "mountinfo"))):
            is_v1 = mount.fstype == "cgroup" and controller in mount.super_options
            if not (is_v1 if version == 1 else mount.fstype == "cgroup2"):
                continue
            with contextlib.suppress(ValueError):
                return Path(mount.point) / PurePosixPath(path).relative_to(mount.root), version
        raise Unreadable(f"the cgroup hierarchy of {controller!r} is not mounted here")


def parse_cgroup(text: str, controller: str) -> tuple[str, int]:
    """Path of a process's cgroup for a controller, and the version of its hierarchy: 1, or 2 where no other has it.

    Raises:
        Unreadable: There is none, or it lies outside of what this process may see.
    """
    unified = None
    for line in _lines(text):
        number, names, path = [*line.split(":", 2), "", ""][:3]
        if controller in names.split(","):
            return _visible(path), 1
        if number == "0" and not names:
            unified = path
    if unified is None:
        raise Unreadable(f"its cgroup file names no hierarchy for {controller!r}")
    return _visible(unified), 2


def _visible(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/"):
        raise Unreadable("its cgroup lies outside of the cgroup namespace of this process")
    return path


def parse_limit(text: str) -> int | None:
    """A number of a cgroup file; None for ``max`` and for -1.

    Raises:
        Unreadable: It is neither.
    """
    text = text.strip()
    if text in ("max", "-1"):
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise Unreadable(f"a cgroup's limit is {text!r:.40}")
    return int(text)


def parse_size(text: str) -> int:
    """Bytes of a tmpfs option such as ``65536k``.

    Raises:
        Unreadable: It is another form, such as a share of the memory.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Unreadable(f"a size is {text!r:.40}")
    return int(match[1]) * _UNITS[match[2].lower()]


def parse_mountinfo(text: str) -> Iterator[Mount]:
    """The mounts of a mountinfo file, in its order.

    Raises:
        Unreadable: A line is not of its form.
    """
    for line in _lines(text):
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < 6 or len(right) != 3:
            raise Unreadable(f"a line of mountinfo is {line!r:.80}")
        yield Mount(
            root=_unescaped(left[3]),
            point=_unescaped(left[4]),
            options=frozenset(left[5].split(",")),
            fstype=right[0],
            super_options=tuple(right[2].split(",")),
        )


def _unescaped(path: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), path)


def _inside(text: str, id_map: str) -> str:
    """An id of our user namespace as it is in the one that the map describes."""
    for line in _lines(id_map):
        numbers = line.split()
        if len(numbers) != 3 or not all(number.isdigit() for number in (*numbers, text)):
            raise Unreadable(f"an id is {text!r:.40}, or a line of its map {line!r:.40}")
        inside, outside, count = map(int, numbers)
        if outside <= int(text) < outside + count:
            return str(int(text) - outside + inside)
    return "?"


def _lines(text: str) -> list[str]:
    """Not `splitlines`, which also splits at characters that a path may hold."""
    return [line for line in text.split("\n") if line]


def read_bounded(name: str, directory: int | None = None) -> str:
    """A file's text.

    Raises:
        OSError: It can't be read.
        Unreadable: It is too long.
    """
    opener: Callable[[str, int], int] | None = None
    if directory is not None:

        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, dir_fd=directory)

    with open(name, "rb", opener=opener) as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise Unreadable(f"{name} is longer than {MAX_BYTES:,} bytes")
    return raw.decode("utf-8", "surrogateescape")
