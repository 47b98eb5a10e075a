"""Memory of processes and of a container's, as the kernel counts it. Of the standard library alone.

PSS is a process's own pages, and its share of those that others have mapped, too. Reading it of others' processes needs
root; what can't be read is None.
"""

from __future__ import annotations

from pathlib import Path

V1_ROOT = Path("/sys/fs/cgroup/memory")
V2_ROOT = Path("/sys/fs/cgroup")


def pss_bytes(pids: list[int]) -> int | None:
    """Sum over the processes; one that is gone meanwhile counts nothing."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except FileNotFoundError:
            continue
        except OSError:
            return None
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total or None


def descendants(pid: int) -> list[int]:
    """The process and all that it has started."""
    found = [pid]
    for known in found:
        for task in Path(f"/proc/{known}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def cgroup_of(pid: int) -> Path | None:
    """The memory cgroup of a process, of either version; None where there is none that can be read."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return V1_ROOT / path.lstrip("/")
        if not controllers and (V2_ROOT / path.lstrip("/") / "memory.current").exists():
            return V2_ROOT / path.lstrip("/")
    return None


def cgroup_pids(cgroup: Path) -> list[int]:
    """All processes in a cgroup and those below it."""
    return sorted({int(pid) for file in cgroup.rglob("cgroup.procs") for pid in file.read_text().split()})


def cgroup_bytes(cgroup: Path) -> int:
    """What a cgroup is charged with, without file pages that nobody has used for a while (as ``docker stats``)."""
    v1 = cgroup / "memory.usage_in_bytes"
    used = int((v1 if v1.exists() else cgroup / "memory.current").read_text())
    stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    return used - int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def container_memory(pid: int) -> dict[str, int | None]:
    """PSS and cgroup memory of the container whose first process this is, as the host numbers it."""
    cgroup = cgroup_of(pid)
    if cgroup is None or not pid:
        return {"pss_bytes": None, "cgroup_bytes": None}
    return {"pss_bytes": pss_bytes(cgroup_pids(cgroup)), "cgroup_bytes": cgroup_bytes(cgroup)}
