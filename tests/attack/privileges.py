"""Attacks that write where nothing may be written, or gain rights that the box's user has not."""

from __future__ import annotations

from typing import Final

from sandbox.spec import Isolation
from tests.attack.attack import Attack
from tests.attack.cells import tried
from tests.attack.reaching import NO_SUCH, OWN, both

READ_ONLY: Final = both("EROFS", "EACCES", "EPERM")
SHOWN: Final = "gVisor shows these to PID 1's own user; the environment is the image's, the streams are the box's own"
NO_SETUID: Final[dict[Isolation, str]] = {"gvisor": "gVisor gives no rights to a setuid file"}
ROOTS: Final = ("seccomp", "capabilities", "user")


def mounting(kind: str, options: bytes, file: str, flags: str = "os.O_WRONLY") -> str:
    """A file system mounted in the box's own mount namespace, a file of it opened for writing, and all undone.

    sysfs is one for all mounts of a network namespace, and the runtime has made the box's own read-only.
    """
    again = "c('mount', b'none', b'/tmp/mounted', 0, 32, 0); " if kind == "sysfs" else ""
    return tried(
        "os.makedirs('/tmp/mounted', exist_ok=True)\n"
        f"c('mount', b'none', b'/tmp/mounted', {kind.encode()!r}, 0, {options!r})\n"
        f"try: {again}opened('/tmp/mounted/{file}', {flags})\nfinally: c('umount2', b'/tmp/mounted', 2)"
    )


def running(path: str) -> str:
    """A copy of a program of the image, run from another place."""
    return tried(
        f"shutil.copy('/usr/bin/id', {path!r})\n"
        f"try: said = ran({path!r})\nfinally: os.unlink({path!r})\n"
        "word = 'worked' if said.startswith('uid') else said"
    )


WRITING: Final = (
    Attack(
        name="open a file of the root file system for writing",
        stopped_by=("read-only root", "user"),
        code=tried("opened('/opt/airlock/relay.py', os.O_WRONLY)"),
        held=READ_ONLY,
    ),
    Attack(
        name="make a file in a place of the image that is open to all",
        stopped_by=("read-only root",),
        code=tried("opened('/var/tmp/new', os.O_WRONLY | os.O_CREAT)"),
        held=READ_ONLY,
    ),
    Attack(
        name="write to the directory of the context",
        stopped_by=("context", "user"),
        code=tried("c('access', b'/context', 2)"),
        held=READ_ONLY,
    ),
    Attack(
        name="open core_pattern for writing",
        stopped_by=("masked paths", "user"),
        code=tried("opened('/proc/sys/kernel/core_pattern', os.O_WRONLY)"),
        held=READ_ONLY,
        not_available=NO_SUCH,
    ),
    Attack(
        name="open a file of /proc/sys for writing",
        stopped_by=("masked paths", "user"),
        code=tried("opened('/proc/sys/kernel/hostname', os.O_WRONLY)"),
        held=READ_ONLY,
        not_available=OWN,
    ),
    Attack(
        name="open sysrq-trigger for writing",
        stopped_by=("masked paths", "user"),
        code=tried("opened('/proc/sysrq-trigger', os.O_WRONLY)"),
        held=both("EROFS", "EACCES", "EPERM", "ENOENT"),
        absent=frozenset({"ENOENT"}),
        not_available=NO_SUCH,
    ),
    Attack(
        name="open a file of /sys for writing",
        stopped_by=("privileged", "user"),
        code=tried("opened('/sys/kernel/mm/transparent_hugepage/enabled', os.O_WRONLY)"),
        held=both("EROFS", "EACCES", "EPERM", "ENOENT"),
        no_control=dict.fromkeys(("container", "gvisor"), "a privileged box has the host's devices: none is started"),
    ),
    Attack(
        name="mount /sys anew and open a file of it for writing",
        stopped_by=ROOTS,
        code=mounting("sysfs", b"", "kernel/mm/transparent_hugepage/enabled"),
        held=both("EPERM"),
        not_available=NO_SUCH,
    ),
    Attack(
        name="mount a cgroup hierarchy and open its release_agent for writing",
        stopped_by=(*ROOTS, "cgroup namespace"),
        code=mounting("cgroup", b"memory", "release_agent"),
        held=both("EPERM", "ENOENT"),
        absent=frozenset({"ENODEV", "EINVAL", "EBUSY", "ENOENT"}),
        not_available=NO_SUCH,
    ),
    Attack(
        name="run a program from /tmp",
        stopped_by=("tmpfs flags",),
        code=running("/tmp/id"),
        held=both("EACCES"),
    ),
    Attack(
        name="run a program from the run directory",
        stopped_by=("tmpfs flags",),
        code=running("/run/airlock/id"),
        held=both("EACCES"),
    ),
)

LOOKING: Final = (
    Attack(
        name="read the tables of the firmware in /sys",
        stopped_by=("masked paths",),
        code=tried("word = 'worked' if os.listdir('/sys/firmware') else 'empty'"),
        held=both("empty"),
        not_available=NO_SUCH,
    ),
    Attack(
        name="read /proc/keys",
        stopped_by=("masked paths",),
        code=tried("word = 'worked' if open('/proc/keys').read() else 'empty'"),
        held=both("empty"),
        not_available=NO_SUCH,
    ),
    Attack(
        name="read /proc/timer_list",
        stopped_by=("masked paths", "user"),
        code=tried("word = 'worked' if open('/proc/timer_list').read(10) else 'empty'"),
        held=both("empty", "EACCES"),
        not_available=NO_SUCH,
    ),
    Attack(
        name="open /proc/kcore",
        stopped_by=("masked paths", "user", "capabilities"),
        code=tried("opened('/proc/kcore', os.O_RDONLY)"),
        held=both("EACCES", "EPERM", "ENOENT"),
        absent=frozenset({"ENOENT", "EPERM"}),
        not_available=NO_SUCH,
    ),
    Attack(
        name="look into the directory of root",
        stopped_by=("user",),
        code=tried("os.listdir('/root')"),
        held=both("EACCES"),
    ),
    *(
        Attack(
            name=f"open {path} of PID 1",
            stopped_by=("user", "capabilities"),
            code=tried(f"opened('/proc/1/{path}', os.O_RDONLY)"),
            held=both("EACCES", "EPERM") if path == "mem" else {"container": frozenset({"EACCES", "EPERM"})},
            not_available={} if path == "mem" else {"gvisor": SHOWN},
        )
        for path in ("mem", "environ", "fd/1")
    ),
    Attack(
        name="attach to another process with ptrace",
        stopped_by=("seccomp",),
        code=tried(
            "child = os.fork()\nif child == 0: signal.pause()\n"
            "try: c('ptrace', 16, child, 0, 0)\nfinally: os.kill(child, 9)"
        ),
        held=both("EPERM"),
    ),
    Attack(
        name="read another process's memory with process_vm_readv",
        stopped_by=("seccomp",),
        code=tried(
            "text, to = ctypes.create_string_buffer(b'text'), ctypes.create_string_buffer(4)\n"
            "child = os.fork()\nif child == 0: signal.pause()\n"
            "vectors = [struct.pack('PN', ctypes.addressof(b), 4) for b in (to, text)]\n"
            "try: c('process_vm_readv', child, vectors[0], 1, vectors[1], 1, 0)\nfinally: os.kill(child, 9)"
        ),
        held=both("EPERM"),
        absent=frozenset({"ENOSYS"}),
    ),
)

GAINING: Final = (
    Attack(
        name="be root in a user namespace of its own",
        stopped_by=("seccomp",),
        code=tried("c('unshare', NEWUSER)"),
        held=both("EPERM"),
        absent=frozenset({"EPERM", "EACCES", "ENOSPC"}),
    ),
    Attack(
        name="mount a file system, as root",
        stopped_by=ROOTS,
        code=mounting("tmpfs", b"", "new", "os.O_WRONLY | os.O_CREAT"),
        held=both("EPERM"),
    ),
    Attack(
        name="enter a namespace with setns, as root",
        stopped_by=ROOTS,
        code=tried("c('setns', os.open('/proc/self/ns/uts', os.O_RDONLY), 0)"),
        held=both("EPERM"),
        not_available=NO_SUCH,
    ),
    Attack(name="chroot, as root", stopped_by=ROOTS, code=tried("c('chroot', b'/tmp')"), held=both("EPERM")),
    Attack(name="become another user, as root", stopped_by=ROOTS, code=tried("c('setuid', 1000)"), held=both("EPERM")),
    Attack(
        name="give a file away, as root",
        stopped_by=("capabilities", "user"),
        code=tried(
            "opened('/tmp/mine', os.O_CREAT)\ntry: os.chown('/tmp/mine', 1, 1)\nfinally: os.unlink('/tmp/mine')"
        ),
        held=both("EPERM"),
    ),
    Attack(
        name="run a setuid file of the image",
        stopped_by=("image", "no-new-privileges"),
        code=tried(
            "if os.geteuid() == 0: c('setresuid', 65532, 65532, 65532)\n"
            "said = ran('/usr/local/bin/setuid-id', '-u'); word = 'worked' if said == '0' else said"
        ),
        held=both("ENOENT", "65532"),
        not_available=NO_SETUID,
    ),
    Attack(
        name="leave a setuid file in /tmp and run it as another user",
        stopped_by=("tmpfs flags", "no-new-privileges", *ROOTS[1:]),
        code=tried(
            "shutil.copy('/usr/bin/id', '/tmp/id'); os.chmod('/tmp/id', 0o4755)\n"
            "c('setresuid', 65532, 65532, 65532)\n"
            "said = ran('/tmp/id', '-u'); word = 'worked' if said == '0' else said"
        ),
        held=both("EPERM", "EACCES", "65532"),
        not_available=NO_SETUID,
    ),
)
SLOWING: Final = {
    "affinity": "os.sched_setaffinity(1, {0})",
    "affinity, upper bits set": "c('syscall', 203, 1 << 32 | 1, 8, struct.pack('Q', 1))",
    "policy": "os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0))",
    "niceness": "os.setpriority(os.PRIO_PROCESS, 1, 11)",
    "group's niceness": "os.setpriority(os.PRIO_PGRP, 1, 11)",
    "user's niceness": "os.setpriority(os.PRIO_USER, 0, 11)",
    "limits": "import resource; resource.prlimit(1, resource.RLIMIT_CORE, (0, 0))",
}
"""PID 1 ends the box when the host is gone, so no cell may slow it down. Its user is the cell's own, and not enough."""

PID_ONE: Final = tuple(
    Attack(
        name=f"change PID 1's {what}",
        stopped_by=("seccomp",),
        code=tried(code),
        held=both("EPERM"),
        absent=frozenset({"EINVAL"}),  # gVisor knows one policy
    )
    for what, code in SLOWING.items()
)
PIPED_DUMP: Final = Attack(
    name="lower the core limit to 0, which lets the kernel pipe a dump to a program of the host's",
    stopped_by=("seccomp",),
    code=tried("c('setrlimit', 4, struct.pack('QQ', 0, 0))"),
    held=both("EPERM"),
)
PRIVILEGES: Final = (*WRITING, *LOOKING, *GAINING, *PID_ONE, PIPED_DUMP)
