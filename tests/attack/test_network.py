"""There is no network in a box: nothing to speak through, nobody to speak to."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from sandbox.host import Host
from tests.boxes import Box

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of the host's that is open to all: what a box would reach, could it reach anything."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


TRY = """
import json, socket
def attempt(f):
    try: return f() or "it worked"
    except OSError as e: return type(e).__name__
print(json.dumps([attempt(lambda: %s) for address in %s]))
"""


async def tried(box: Box, what: str, addresses: list[object]) -> set[str]:
    return set(json.loads((await box.execute(TRY % (what, addresses))).stdout.text))


async def test_it_has_no_interface_but_loopback_and_no_route(box: Box) -> None:
    seen = json.loads(
        (
            await box.execute(
                "import json, os\n"
                "six = '/proc/net/ipv6_route'\n"
                "six = open(six).read().splitlines() if os.path.exists(six) else []\n"
                "four = open('/proc/net/route').read().splitlines()[1:]\n"
                "print(json.dumps([os.listdir('/sys/class/net'), four, six]))"
            )
        ).stdout.text
    )
    interfaces, routes, routes6 = seen
    assert set(interfaces) <= {
        "lo",
        "tunl0",
        "sit0",
        "ip6tnl0",
        "gre0",
        "gretap0",
        "erspan0",
        "ip_vti0",
        "ip6_vti0",
        "ip6gre0",
    }
    assert routes == []
    assert all(line.endswith("lo") for line in routes6 if line)


async def test_no_address_can_be_reached(box: Box, box_host: Host, listener: int) -> None:
    bridge = next(iter((await box_host.engine.info()).get("DefaultAddressPools") or [{"Base": "172.17.0.1/16"}]))
    addresses: list[object] = [
        (host, listener) for host in ("172.17.0.1", "127.0.0.1", str(bridge["Base"]).split("/")[0], "192.168.0.1")
    ]
    addresses += [("1.1.1.1", 53), ("169.254.169.254", 80)]
    said = await tried(box, "socket.create_connection(address, timeout=2)", addresses)
    assert said <= {"PermissionError", "OSError", "ConnectionRefusedError", "TimeoutError"}
    assert "it worked" not in said


async def test_no_name_is_resolved(box: Box) -> None:
    said = await tried(
        box, "socket.getaddrinfo(address, 443)", ["example.com", "host.docker.internal", "gateway.docker.internal"]
    )
    assert said == {"gaierror"}


@pytest.mark.parametrize(
    "family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "AF_BLUETOOTH", "AF_CAN"]
)
async def test_no_socket_of_another_family_than_unix_is_made(box: Box, family: str) -> None:
    kinds = await tried(box, f"str(socket.socket(socket.{family}, address))", [1, 2, 3, 5])
    assert kinds <= {"PermissionError", "OSError"}


async def test_unix_sockets_work_which_the_kernel_needs(box: Box) -> None:
    """The control: the refusals above are of the family."""
    assert await box.shown("import socket\na, b = socket.socketpair()\na.send(b'x'); b.recv(1)") == "b'x'"


async def test_the_engines_socket_is_not_there(box: Box) -> None:
    code = (
        "import glob, os\nfound = glob.glob('/run/**/*.sock', recursive=True)\n"
        "[p for p in ('/var/run/docker.sock', '/run/docker.sock', *found) if os.path.exists(p)]"
    )
    assert await box.shown(code) == "[]"


async def test_two_boxes_do_not_see_each_other(box: Box, box_host: Host) -> None:
    async with await Box.open(box_host) as other:
        assert isinstance(other, Box)
        bind = "import socket\ns = socket.socket(socket.AF_UNIX); s.bind('\\0between-boxes'); s.listen(); 'listening'"
        assert await other.shown(bind) == "'listening'"
        connect = "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0between-boxes')"
        error = (await box.execute(connect)).error
        assert error
        assert error.name == "ConnectionRefusedError"
        assert (await other.execute("socket.socket(socket.AF_UNIX).connect('\\0between-boxes')")).status == "ok"
        await other.execute("open('/tmp/mark', 'w').close()")
        assert await box.shown("import os; os.path.exists('/tmp/mark')") == "False"
