"""Who owns a box: a process, named so that another one can tell whether it still lives.

A process is its boot, its pid and time namespaces, its pid and its start time: a pid alone comes back. A label is a
string that anybody with access to the engine can write, so it is parsed strictly, decides about nothing but its own
container, and is never shown.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BOOT: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_LABEL: Final = re.compile(rf"({_BOOT}) pid:\[(\d{{1,20}})\] time:\[(\d{{1,20}})\] (\d{{1,9}}) (\d{{1,20}})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process of some machine.

    Attributes:
        boot: The boot id of its kernel.
        namespace: Its pid namespace, an inode number.
        clock: Its time namespace, likewise: in another one start times read otherwise. 0 on kernels without them.
        pid: Its process id there, 1 and more.
        started: When it started, in clock ticks since the boot.
    """

    boot: str
    namespace: int
    clock: int
    pid: int
    started: int

    @classmethod
    def parse(cls, label: str) -> Owner | None:
        """The owner that a label names; None where it is not of our form."""
        found = _LABEL.fullmatch(label)
        if found is None or int(found[4]) < 1:
            return None
        boot, (namespace, clock, pid, started) = found[1], map(int, found.groups()[1:])
        return cls(boot=boot, namespace=namespace, clock=clock, pid=pid, started=started)

    def label(self) -> str:
        """What `parse` reads."""
        return f"{self.boot} pid:[{self.namespace}] time:[{self.clock}] {self.pid} {self.started}"

    def is_alive(self) -> bool | None:
        """Whether it lives; None where that can't be told from here: another boot or machine, other namespaces."""
        if _place() != (self.boot, self.namespace, self.clock):
            return None
        try:
            os.kill(self.pid, 0)  # /proc may hide the processes of other users
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        process = _Process.read(self.pid)
        if process is None:
            return None
        return process.started == self.started and not process.ended


def owner_label(pid: int | None = None) -> str:
    """The label of a process of this pid namespace; None: of this one.

    Where there is no Linux ``/proc`` that shows our own processes, the label can't be parsed, and its box is judged by
    its expiry alone.
    """
    pid = os.getpid() if pid is None else pid
    place, process = _place(), _Process.read(pid)
    if place is None or process is None:
        return f"unknown unknown {pid} 0"
    boot, namespace, clock = place
    return Owner(boot=boot, namespace=namespace, clock=clock, pid=pid, started=process.started).label()


def _place() -> tuple[str, int, int] | None:
    """This kernel's boot id and our pid and time namespaces; None where ``/proc`` is missing or another namespace's."""
    with contextlib.suppress(OSError, ValueError):
        if os.readlink("/proc/self") == str(os.getpid()):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            return boot, _namespace("pid"), _namespace("time") if os.path.exists("/proc/self/ns/time") else 0
    return None


def _namespace(kind: str) -> int:
    return int(os.readlink(f"/proc/self/ns/{kind}").removeprefix(f"{kind}:[").removesuffix("]"))


@dataclass(frozen=True, slots=True)
class _Process:
    started: int
    ended: bool

    @classmethod
    def read(cls, pid: int) -> _Process | None:
        """From ``/proc/PID/stat``; the name of the program in it may hold anything, also spaces and brackets."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            state, threads, started = fields[0], int(fields[17]), int(fields[19])
            # A zombie holds nothing any more, unless it is a main thread that the other threads have outlived.
            return cls(started, ended=state in {b"X", b"Z"} and threads <= 1)
        return None
