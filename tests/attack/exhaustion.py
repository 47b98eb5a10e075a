"""Attacks that use up what a box has, and how to take each limit away: by a larger one, so that no host is exhausted.

Each takes a little more than the locked box has and less than the weak one, says how that ended, and gives it back.
"""

from __future__ import annotations

from typing import Any, Final

from sandbox.spec import MIB, RUN_DIR, CellLimits, Isolation, SandboxSpec
from tests.attack.attack import Attack
from tests.attack.weak import Weaken, both, host, tmpfs

EXHAUSTION_SPEC: Final = SandboxSpec(
    memory_bytes=256 * MIB,
    cpus=0.25,
    pids=112,
    tmp_bytes=32 * MIB,
    tmp_inodes=500,
    shm_bytes=8 * MIB,
    open_files=128,
    file_bytes=16 * MIB,
)
"""Small, so that an attack takes milliseconds."""


def ulimit(name: str, value: int) -> Weaken:
    """Another limit of a process."""

    def change(config: dict[str, Any]) -> None:
        others = [limit for limit in config["HostConfig"]["Ulimits"] if limit["Name"] != name]
        config["HostConfig"]["Ulimits"] = [*others, {"Name": name, "Soft": value, "Hard": value}]

    return change


_spec = EXHAUSTION_SPEC

OFF_LIMITS: Final[dict[str, Weaken]] = {
    "memory_bytes": host(Memory=768 * MIB, MemorySwap=768 * MIB),
    "swap": lambda config: config["HostConfig"].update(MemorySwap=config["HostConfig"]["Memory"] + 256 * MIB),
    "pids": host(PidsLimit=2048),
    "cpus": host(NanoCpus=1_500_000_000),
    "tmp_bytes": tmpfs("/tmp", f"size={_spec.tmp_bytes}", f"size={128 * MIB}"),
    "tmp_inodes": tmpfs("/tmp", f"nr_inodes={_spec.tmp_inodes}", "nr_inodes=5000"),
    "run directory": both(tmpfs(RUN_DIR, "size=1m", "size=8m"), tmpfs(RUN_DIR, "nr_inodes=64", "nr_inodes=500")),
    "shm_bytes": host(ShmSize=64 * MIB),
    "open_files": ulimit("nofile", 1024),
    "file_bytes": ulimit("fsize", 64 * MIB),
    "core dumps": ulimit("core", MIB),
}
"""Settings and how to take them away, for boxes of `EXHAUSTION_SPEC`."""


_Held = dict[Isolation, frozenset[str]]


def _held(container: str, gvisor: str | None = None) -> _Held:
    """What the locked box says, where the two levels may differ."""
    return {"container": frozenset({container}), "gvisor": frozenset({gvisor or container})}


_NO_THREADS: Final = "there a thread need not be one of the host; memory bounds them"
_SLOW: Final = "not asked: there 128 of them take 20 s"
_MEMORY_FIRST: Final = "there memory ends the box first"


FORKS: Final = """
import errno, os, signal
children, said = [], "worked"
try:
    for _ in range(128):
        if (child := os.fork()) == 0:
            {child}
        children.append(child)
except OSError as error:
    said = errno.errorcode[error.errno]
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(said)
"""

THREADS: Final = """
import threading
threading.stack_size(1 << 16)
end, started, said = threading.Event(), [], "worked"
try:
    for _ in range(128):
        thread = threading.Thread(target=end.wait)
        thread.start()
        started.append(thread)
except RuntimeError:
    said = "EAGAIN"
end.set()
for thread in started:
    thread.join()
print(said)
"""

PROGRAMS: Final = """
import errno, os, subprocess
programs, said = [], "worked"
try:
    for _ in range(128):
        programs.append(subprocess.Popen(["sleep", "600"]))
except OSError as error:
    said = errno.errorcode[error.errno]
for program in programs:
    program.kill()
    program.wait()
print(said)
"""

MEMORY: Final = """
import os
if (child := os.fork()) == 0:
    bytearray(b"x") * ({mib} << 20)
    os._exit(0)
print("worked" if os.waitpid(child, 0)[1] == 0 else "killed")
"""

FILES: Final = """
import errno, os
made, said = [], "worked"
try:
    for number in range({files}):
        made.append(f"{folder}/attack-{{number}}")
        with open(made[-1], "wb", buffering=0) as file:
            left = {mib} << 20
            while left:
                left -= file.write(bytes(min(left, 1 << 20)))
except OSError as error:
    said = errno.errorcode[error.errno]
for path in made:
    if os.path.exists(path):
        os.remove(path)
print(said)
"""

DESCRIPTORS: Final = """
import errno, os
opened, said = [], "worked"
try:
    for _ in range(200):
        opened.append({open})
except OSError as error:
    said = errno.errorcode[error.errno]
for descriptor in opened:
    os.close(descriptor)
print(said)
"""

CORE: Final = """
import os, resource, signal
os.chdir("/tmp")
if (child := os.fork()) == 0:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
    except ValueError:
        pass
    os.abort()
print("worked" if os.WCOREDUMP(os.waitpid(child, 0)[1]) else "none")
for name in os.listdir("/tmp"):
    if name.startswith("core"):
        os.remove(f"/tmp/{name}")
"""

CPU: Final = """
import glob, time
(stat,) = glob.glob("/sys/fs/cgroup/cpu/cpu.stat") or glob.glob("/sys/fs/cgroup/cpu.stat")
def throttled():
    with open(stat) as file:
        return int(dict(line.split() for line in file)["nr_throttled"])
before, end = throttled(), time.process_time() + 2
while time.process_time() < end and throttled() == before:
    sum(range(100_000))
print("worked" if throttled() == before else "throttled")
"""
"""One busy thread in a box of a quarter of a core is held back in some tenth of a second, also on a busy host.

In a box of more than a core it never is."""


def _filling(name: str, setting: str, code: str, held: _Held, **more: Any) -> Attack:
    said = {level: words for level, words in held.items() if level not in more.get("not_available", {})}
    return Attack(name=name, stopped_by=(setting,), code=code, held=said, **more)


def _files(name: str, setting: str, folder: str, *, files: int, mib: int = 0, says: str = "ENOSPC") -> Attack:
    inodes = {} if mib else {"gvisor": "gVisor ignores nr_inodes: files count as memory alone"}
    code = FILES.format(folder=folder, files=files, mib=mib)
    return _filling(name, setting, code, _held(says), not_available=inodes)


EXHAUSTION: Final[tuple[Attack, ...]] = (
    _filling(
        "128 forks",
        "pids",
        FORKS.format(child="signal.pause()"),
        _held("EAGAIN", "lost"),
        no_control={"gvisor": _MEMORY_FIRST},
        destructive=True,
    ),
    _filling("128 programs", "pids", PROGRAMS, _held("EAGAIN", "lost"), destructive=True),
    _filling("128 threads", "pids", THREADS, _held("EAGAIN"), not_available={"gvisor": _NO_THREADS}),
    _filling(
        "128 zombies that nobody reaps",
        "pids",
        FORKS.format(child="os._exit(0)"),
        _held("EAGAIN"),
        not_available={"gvisor": _SLOW},
    ),
    _filling("350 MiB of memory", "memory_bytes", MEMORY.format(mib=350), _held("killed", "lost"), destructive=True),
    _filling(
        "memory beyond the limit, in swap",
        "swap",
        MEMORY.format(mib=350),
        _held("killed", "lost"),
        destructive=True,
        no_control={"container": "it needs a host with swap", "gvisor": "it needs a host with swap"},
    ),
    _files("48 MiB of files in /tmp", "tmp_bytes", "/tmp", files=4, mib=12),
    _files("600 empty files in /tmp", "tmp_inodes", "/tmp", files=600),
    _files(f"2 MiB in {RUN_DIR}", "run directory", RUN_DIR, files=1, mib=2),
    _files(f"100 empty files in {RUN_DIR}", "run directory", RUN_DIR, files=100),
    _files("12 MiB in /dev/shm", "shm_bytes", "/dev/shm", files=1, mib=12),
    _files("one file of 20 MiB", "file_bytes", "/tmp", files=1, mib=20, says="EFBIG"),
    _filling(
        "200 open files", "open_files", DESCRIPTORS.format(open='os.open("/dev/null", os.O_RDONLY)'), _held("EMFILE")
    ),
    _filling("200 event queues", "open_files", DESCRIPTORS.format(open="os.eventfd(0)"), _held("EMFILE")),
    _filling(
        "a dump of a process's memory",
        "core dumps",
        CORE,
        _held("none"),
        not_available={"gvisor": "gVisor writes no core dumps"},
    ),
    _filling(
        "more than a quarter of a core",
        "cpus",
        CPU,
        _held("throttled"),
        not_available={"gvisor": "a box under gVisor can't see whether it is held back; test_exhaustion looks"},
        limits=CellLimits(wall_s=30, cpu_s=20),
    ),
)
