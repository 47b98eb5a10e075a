"""System calls that the profile refuses, each as code for a cell and with what it must answer.

The code runs in a forked child of a locked box, and again in the same box with ``seccomp=unconfined``, where it must
get further: then it was the profile that refused. No call changes or exhausts the host when it succeeds: it asks for
something, changes its own process or namespaces that end with it, or fails at an argument after the check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HELPERS: Final = r"""
import ctypes, mmap, os, signal, socket, struct

NUMBERS = dict(
    sendfile=40, socket=41, clone=56, kill=62, semget=64, msgget=68, shmget=29, ptrace=101, syslog=103,
    rt_sigqueueinfo=129,
    personality=135, pivot_root=155, chroot=161, acct=163, settimeofday=164, mount=165, umount2=166, swapon=167,
    reboot=169, sethostname=170, init_module=175, delete_module=176, quotactl=179, tkill=200, io_setup=206,
    timer_create=222, tgkill=234, kexec_load=246, mq_open=240, add_key=248, request_key=249, keyctl=250,
    unshare=272, splice=275, tee=276, vmsplice=278, signalfd4=289, rt_tgsigqueueinfo=297,
    perf_event_open=298, fanotify_init=300, fanotify_mark=301, name_to_handle_at=303, open_by_handle_at=304, setns=308,
    process_vm_readv=310, process_vm_writev=311, kcmp=312, finit_module=313, seccomp=317, memfd_create=319,
    kexec_file_load=320, bpf=321, execveat=322, userfaultfd=323, copy_file_range=326, pidfd_send_signal=424,
    io_uring_setup=425, io_uring_enter=426, io_uring_register=427, open_tree=428, move_mount=429, fsopen=430,
    fsconfig=431, fsmount=432, fspick=433, pidfd_open=434, clone3=435, openat2=437, pidfd_getfd=438,
    process_madvise=440, mount_setattr=442, landlock_create_ruleset=444, memfd_secret=447, process_mrelease=448,
    lookup_dcookie=212, vhangup=153, iopl=172, modify_ldt=154, uselib=134, ustat=136, sysfs=139,
    mlockall=151, inotify_init1=294, move_pages=279,
)
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER, NEWNET, NEWUTS = 0x20000, 0x10000000, 0x40000000, 0x4000000

def call(name, *args):
    given = [ctypes.c_ulong(arg & (1 << 64) - 1) if isinstance(arg, int) else arg for arg in args]
    ctypes.set_errno(0)
    got = libc.syscall(ctypes.c_long(NUMBERS[name]), *given)
    if got == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), name)
    return got

def in_own_namespaces():
    "Root in namespaces of its own, where the profile lets it."
    try: call("unshare", NEWUSER | NEWNS | NEWNET | NEWUTS)
    except OSError: pass

def cloned(flags):
    if call("clone", flags | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)

def moved(name):
    "A vector of this process's own memory, to itself."
    there, here = ctypes.create_string_buffer(b"text"), ctypes.create_string_buffer(4)
    vectors = [struct.pack("PN", ctypes.addressof(buffer), 4) for buffer in (here, there)]
    return call(name, os.getpid(), vectors[0], 1, vectors[1], 1, 0)

def filled_pipe():
    ends = os.pipe(); os.write(ends[1], b"text"); return ends

def vector():
    return struct.pack("PN", ctypes.addressof(ctypes.create_string_buffer(4)), 4)

def run_code(code):
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC); memory.write(code)
    got = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
    if got < 0: raise OSError(-got, "int 0x80")

def attempt(code):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try: eval(code); said = "done"
        except OSError as error: said = __import__("errno").errorcode[error.errno]
        except BaseException as error: said = repr(error)
        os.write(theirs, said.encode()); os.kill(os.getpid(), signal.SIGKILL)
    os.close(theirs)
    said = os.read(ours, 1000).decode()
    os.close(ours)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or signal.Signals(-status).name
"""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One refused call.

    Attributes:
        code: An expression; ``call(name, ...)`` raises OSError with the call's errno.
        answer: What it says in a box at level ``container``.
        gvisor: What it says at level ``gvisor``; "" for the same, or EPERM, which is all that gVisor says until 2024.
        always: The control works on every kernel, so one that does not is a mistake in the test.
    """

    code: str
    answer: str = "EPERM"
    gvisor: str = ""
    always: bool = False

    def answers(self, level: str) -> set[str]:
        """What may be said at a level."""
        if level == "gvisor":
            return {self.gvisor} if self.gvisor else {self.answer, "EPERM"}
        # runc answers ENOSYS to calls newer than the newest that the profile names and libseccomp knows.
        return {self.answer, "ENOSYS"} if self.code.startswith(_NEW) else {self.answer}


_NEW: Final = tuple(
    f"call('{name}'"
    for name in ("process_madvise", "mount_setattr", "landlock_create_ruleset", "memfd_secret", "process_mrelease")
)


def _at(
    name: str, *args: object, answer: str = "EPERM", always: bool = False, inside: bool = False
) -> tuple[str, Call]:
    """A plain call; `inside` namespaces of its own, where a control needs them."""
    code = f"call({', '.join(map(repr, (name, *args)))})"
    return name, Call(code=f"(in_own_namespaces(), {code})" if inside else code, answer=answer, always=always)


def _socket(name: str, family: int, kind: int = 1, *, always: bool = False, inside: bool = False) -> tuple[str, Call]:
    code = f"socket.socket({family}, {kind}, 0)"
    code = f"(in_own_namespaces(), {code})" if inside else code
    return f"socket {name}", Call(code=code, answer="EAFNOSUPPORT", always=always)


_INT_80: Final = "5331db31c931d231ff31f6b865000000cd805bc3"
"""push rbx; xor ebx, ecx, edx, edi, esi; mov eax, 101; int 0x80; pop rbx; ret"""
_NULL: Final = 0
_BAD_FD: Final = -1

CALLS: Final[dict[str, Call]] = dict(
    [
        # other processes' memory and state
        _at("ptrace", 0, 0, 0, 0, always=True),
        ("process_vm_readv", Call(code="moved('process_vm_readv')", always=True)),
        ("process_vm_writev", Call(code="moved('process_vm_writev')", always=True)),
        _at("process_madvise", _BAD_FD, _NULL, 0, 0, 0),
        _at("process_mrelease", _BAD_FD, 0),
        _at("pidfd_getfd", _BAD_FD, 0, 0),
        ("kcmp", Call(code="call('kcmp', os.getpid(), os.getpid(), 1, 0, 0)")),
        _at("move_pages", 0, 0, _NULL, _NULL, _NULL, 0),
        # pages that travel through pipes
        ("splice", Call(code="call('splice', filled_pipe()[0], 0, filled_pipe()[1], 0, 4, 0)", always=True)),
        ("vmsplice", Call(code="call('vmsplice', filled_pipe()[1], vector(), 1, 0)", always=True)),
        ("tee", Call(code="call('tee', filled_pipe()[0], filled_pipe()[1], 4, 0)", always=True)),
        (
            "sendfile",
            Call(code="call('sendfile', os.pipe()[1], os.open('/etc/passwd', 0), 0, 4)", answer="ENOSYS", always=True),
        ),
        _at("copy_file_range", _BAD_FD, _NULL, _BAD_FD, _NULL, 1, 0, answer="ENOSYS", always=True),
        # kernel subsystems with a history
        ("io_uring_setup", Call(code="call('io_uring_setup', 1, bytes(120))")),
        _at("io_uring_enter", _BAD_FD, 0, 0, 0, _NULL, 0),
        _at("io_uring_register", _BAD_FD, 0, _NULL, 0),
        _at("bpf", 9999, _NULL, 0),
        _at("userfaultfd", 1),
        _at("keyctl", 0, -2, 0),
        _at("add_key", _NULL, _NULL, _NULL, 0, 0),
        _at("request_key", _NULL, _NULL, _NULL, 0),
        _at("perf_event_open", _NULL, 0, -1, -1, 0),
        ("io_setup", Call(code="call('io_setup', 1, ctypes.byref(ctypes.c_ulong()))")),
        _at("timer_create", 99, _NULL, _NULL, answer="ENOSYS"),
        _at("signalfd4", _BAD_FD, _NULL, 8, 0),
        _at("inotify_init1", 0),
        _at("landlock_create_ruleset", _NULL, 0, 1),
        _at("seccomp", 2, 0, _NULL),
        _at("personality", 0xFFFFFFFF, always=True),
        _at("modify_ldt", 0, _NULL, 0),
        _at("syslog", 10, _NULL, 0),
        _at("lookup_dcookie", 0, _NULL, 0),
        _at("ustat", 0, _NULL),
        _at("sysfs", 3),
        _at("uselib", _NULL),
        # memory that can be executed from or hidden in, and what would press on the host
        ("memfd_create", Call(code="call('memfd_create', b'x', 0)", always=True)),
        _at("memfd_secret", 0),
        ("execveat", Call(code="call('execveat', -1, b'x', 0, 0, 0)", always=True)),
        _at("mlockall", 99),
        ("shmget", Call(code="call('shmget', 0, 4096, 0o600)")),
        ("semget", Call(code="call('semget', 0, 1, 0o600)")),
        ("msgget", Call(code="call('msgget', 0, 0o600)")),
        _at("mq_open", _NULL, 0, 0, _NULL),
        # namespaces and mounts
        _at("unshare", 0, always=True),
        ("unshare of a user namespace", Call(code="call('unshare', NEWUSER)")),
        ("clone of a user namespace", Call(code="cloned(NEWUSER)")),
        ("clone of a user namespace, upper bits set", Call(code="cloned(NEWUSER | 1 << 40)")),
        _at("clone3", _NULL, 0, answer="ENOSYS"),
        _at("setns", _BAD_FD, 0, always=True),
        ("mount", Call(code="(in_own_namespaces(), call('mount', b'none', b'/tmp', b'tmpfs', 0, 0))")),
        _at("umount2", b"/nowhere", 0, inside=True),
        _at("pivot_root", b"/nowhere", b"/nowhere", inside=True),
        _at("chroot", b"/tmp", inside=True),
        _at("sethostname", b"x", 1, inside=True),
        _at("fsopen", b"tmpfs", 0, inside=True),
        _at("fsconfig", _BAD_FD, 0, _NULL, _NULL, 0),
        _at("fsmount", _BAD_FD, 0, 0, inside=True),
        _at("fspick", _BAD_FD, b"", 8, inside=True),
        _at("open_tree", _BAD_FD, b"/", 0),
        _at("move_mount", _BAD_FD, b"x", _BAD_FD, b"x", 0, inside=True),
        _at("mount_setattr", _BAD_FD, b"x", 0, _NULL, 0, inside=True),
        _at("fanotify_init", 0x200, 0),
        _at("fanotify_mark", _BAD_FD, 1, 0, 0, _NULL),
        _at("name_to_handle_at", _BAD_FD, b"x", _NULL, _NULL, 0),
        _at("open_by_handle_at", _BAD_FD, _NULL, 0),
        _at("openat2", _BAD_FD, b"/", _NULL, 0),
        # what only the host's root may do: the kernel refuses it, too, so most have no control
        _at("settimeofday", _NULL, b"\0" * 8),
        _at("acct", b"/nowhere"),
        _at("swapon", b"/nowhere", 0),
        _at("reboot", 0, 0, 0, _NULL),
        _at("init_module", _NULL, 0, _NULL),
        _at("finit_module", _BAD_FD, _NULL, 0),
        _at("delete_module", _NULL, 0),
        _at("kexec_load", 0, 0, _NULL, 0),
        _at("kexec_file_load", _BAD_FD, _BAD_FD, 0, _NULL, 0),
        _at("quotactl", 0, _NULL, 0, _NULL),
        _at("iopl", 0),
        _at("vhangup"),
        # signals that would stop PID 1, the relay; signal 0 asks only whether they might
        _at("kill", 1, 0, always=True),
        ("kill of PID 1, upper bits set", Call(code="call('kill', 1 | 1 << 32, 0)", always=True)),
        ("kill of all", Call(code="call('kill', -1, 0)")),
        ("kill of all, upper bits clear", Call(code="call('kill', 0xFFFFFFFF, 0)")),
        _at("tgkill", 1, 1, 0, always=True),
        _at("tkill", 1, 0, always=True),
        _at("rt_sigqueueinfo", 1, 0, _NULL, always=True),
        _at("rt_tgsigqueueinfo", 1, 1, 0, _NULL, always=True),
        _at("pidfd_send_signal", _BAD_FD, 0, _NULL, 0),
        # sockets
        _socket("INET", 2, always=True),
        _socket("INET, datagrams", 2, 2, always=True),
        _socket("INET6", 10),
        _socket("NETLINK", 16, 3, always=True),
        _socket("PACKET", 17, 3, inside=True),
        _socket("ALG", 38, 5),
        _socket("VSOCK", 40),
        _socket("raw INET", 2, 3, inside=True),
        ("socket INET, upper bits set", Call(code="call('socket', 2 | 1 << 32, 1, 0)", answer="EAFNOSUPPORT")),
        ("socketpair INET", Call(code="socket.socketpair(2, 1)", answer="EAFNOSUPPORT")),
        # the doors of other ABIs, which have numbers of their own
        # Linux takes 101 there as ioperm, gVisor as the ptrace of x86-64; the arguments are all 0
        ("int 0x80", Call(code=f"run_code(bytes.fromhex('{_INT_80}'))", answer="SIGSYS", gvisor="EPERM")),
        ("x32", Call(code="(NUMBERS.update(x32=0x40000000 + 39), call('x32'))", answer="SIGSYS", gvisor="EPERM")),
    ]
)
"""Name to call, in the order of the report."""
