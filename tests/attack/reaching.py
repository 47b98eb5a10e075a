"""Attacks that reach for something outside: the network, the host's processes, files and devices.

``HOST`` in a box holds what the tests know of the host: the port of a listener, the name of an abstract socket.
"""

from __future__ import annotations

from typing import Final

from sandbox.spec import Isolation
from tests.attack.attack import Attack
from tests.attack.cells import tried
from tests.attack.off import NODE

NO_FAMILY: Final = frozenset({"EAFNOSUPPORT", "EPERM"})
NO_NETWORK: Final = "gVisor is started with --network=none, whatever network the engine gives"
OWN: Final[dict[Isolation, str]] = {"gvisor": "gVisor has its own and never shows the host's, whatever the engine says"}
NO_SUCH: Final[dict[Isolation, str]] = {"gvisor": "gVisor has no such thing"}


def both(*words: str) -> dict[Isolation, frozenset[str]]:
    """The same words at both levels."""
    return {"container": frozenset(words), "gvisor": frozenset(words)}


def socket_of(family: str, number: int, kind: int, **more: object) -> Attack:
    """A socket of one family. It is made and closed, and sends nothing."""
    return Attack(
        name=f"make a socket of family {family}",
        stopped_by=("seccomp",),
        code=tried(f"socket.socket({number}, {kind}, 0)"),
        held=both(*NO_FAMILY),
        absent=frozenset({"EAFNOSUPPORT"}),
        **more,  # type: ignore[arg-type]
    )


GATEWAY: Final = (
    "lines = [line.split() for line in open('/proc/net/route')][1:]\n"
    "gateways = [struct.pack('<I', int(line[2], 16)) for line in lines if line[1] == '00000000']\n"
    "address = socket.inet_ntoa(gateways[0]) if gateways else '172.17.0.1'\n"
)

NETWORK: Final = (
    Attack(
        name="connect to a listener of the host's over INET",
        stopped_by=("network", "seccomp"),
        code=tried(GATEWAY + "socket.create_connection((address, HOST['port']), timeout=5)"),
        held=both(*NO_FAMILY, "ENETUNREACH"),
        no_control={"gvisor": NO_NETWORK},
        needs="bridge network",
    ),
    Attack(
        name="ask a name server of the host's over DNS",
        stopped_by=("network", "seccomp"),
        code=tried(
            GATEWAY + "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n"
            "question = bytes.fromhex('000101000001000000000000076578616d706c6503636f6d0000010001')\n"
            "s.sendto(question, (address, HOST['port']))\n"
            "s.recv(512)"
        ),
        held=both(*NO_FAMILY, "ENETUNREACH"),
        no_control={"gvisor": NO_NETWORK},
        needs="bridge network",
    ),
    Attack(
        name="find a route to the metadata address",
        stopped_by=("network", "seccomp"),
        code=tried("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('169.254.169.254', 80))"),
        held=both(*NO_FAMILY, "ENETUNREACH"),
        no_control={"gvisor": NO_NETWORK},
        needs="bridge network",
    ),
    Attack(
        name="connect to an abstract UNIX socket of the host's",
        stopped_by=("net namespace",),
        code=tried("s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect('\\0' + HOST['abstract'])"),
        held=both("ECONNREFUSED"),
        not_available=OWN,
        needs="host's network",
    ),
    socket_of("INET", 2, 1),
    socket_of("INET6", 10, 1),
    socket_of("NETLINK", 16, 3),
    socket_of("VSOCK", 40, 1, not_available=NO_SUCH),
    socket_of("ALG", 38, 5, not_available=NO_SUCH),
    Attack(
        name="make a socket of family PACKET, as root",
        stopped_by=("seccomp", "capabilities", "user"),
        code=tried("socket.socket(17, 3, 0)"),
        held=both(*NO_FAMILY),
        not_available={"gvisor": "gVisor makes raw sockets only where its --net-raw is given"},
    ),
    Attack(
        name="make a raw socket of family INET, as root",
        stopped_by=("seccomp", "capabilities", "user"),
        code=tried("socket.socket(2, 3, 1)"),
        held=both(*NO_FAMILY),
        not_available={"gvisor": "gVisor makes raw sockets only where its --net-raw is given"},
    ),
    Attack(
        name="set io_uring up",
        stopped_by=("seccomp",),
        code=tried("c('syscall', 425, 1, bytes(120))"),
        held=both("EPERM"),
        absent=frozenset({"ENOSYS", "EPERM"}),
    ),
)

NAMESPACES: Final = (
    Attack(
        name="see the host's processes",
        stopped_by=("pid namespace",),
        code=tried("word = 'none' if b'relay' in open('/proc/1/cmdline', 'rb').read() else 'worked'"),
        held=both("none"),
        not_available=OWN,
    ),
    Attack(
        name="see the host's System V shared memory",
        stopped_by=("ipc namespace",),
        code=tried("word = 'worked' if HOST['shm_key'] in open('/proc/sysvipc/shm').read().split() else 'none'"),
        held=both("none"),
        not_available=OWN,
        needs="host",
    ),
    Attack(
        name="see the host's POSIX shared memory",
        stopped_by=("ipc namespace",),
        code=tried("opened('/dev/shm/' + HOST['shm_name'], os.O_RDONLY)"),
        held=both("ENOENT"),
        needs="host",
    ),
    Attack(
        name="read the host's name",
        stopped_by=("uts namespace",),
        code=tried("word = 'worked' if os.uname().nodename == HOST['name'] else 'another'"),
        held=both("another"),
        not_available=OWN,
    ),
    Attack(
        name="read the host's cgroup paths",
        stopped_by=("cgroup namespace",),
        code=tried(
            "paths = {line.strip().split(':')[2] for line in open('/proc/self/cgroup')}\n"
            "word = 'none' if paths <= {'/'} else 'worked'"
        ),
        held={"container": frozenset({"none"})},
        not_available={
            "gvisor": "the paths are what gVisor makes up, or those of the request; it shows no cgroup of the host's"
        },
    ),
    Attack(
        name="read the version of the host's kernel",
        stopped_by=("isolation",),
        code=tried("word = 'worked' if os.uname().release == HOST['kernel'] else 'another'"),
        held={"gvisor": frozenset({"another"})},
        not_available={"container": "the level is the host's own kernel"},
    ),
)

PLACES: Final = (
    Attack(
        name="find a key in the environment",
        stopped_by=("environment",),
        code=tried("word = 'worked' if any('API_KEY' in name for name in os.environ) else 'none'"),
        held=both("none"),
    ),
    Attack(
        name="look into a directory of the host's besides the context",
        stopped_by=("mounts",),
        code=tried("os.listdir('/more')"),
        held=both("ENOENT"),
    ),
    Attack(
        name="make a node of a device that was not given, and open it",
        stopped_by=("devices", "tmpfs flags", "capabilities", "user"),
        code=tried(
            f"os.mknod('/tmp/node', 0o20600, os.makedev{NODE})\n"
            "try: opened('/tmp/node', os.O_WRONLY)\nfinally: os.unlink('/tmp/node')"
        ),
        held=both("EPERM", "EACCES"),
        not_available={"gvisor": "gVisor has devices of its own: a node of a device of the host's leads nowhere"},
    ),
)
REACHING: Final = (*NETWORK, *NAMESPACES, *PLACES)
