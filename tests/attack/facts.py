"""What the tests' machine offers to an attack that works: listeners and shared memory, all of it ours and removed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.attack.attack import Need

_CREATE: Final = 0o1000 | 0o2000
_REMOVE: Final = 0


def _answers(server: socket.socket) -> None:
    """Until an empty datagram comes."""
    while (datagram := server.recvfrom(512))[0]:
        server.sendto(*datagram)


@contextlib.contextmanager
def offered() -> Iterator[dict[str, Any]]:
    """A TCP listener and a UDP server, an abstract UNIX socket, and shared memory of both kinds, each with its name."""
    name, key = f"airlock-attack-{secrets.token_hex(6)}", secrets.randbelow(1 << 30) + 1
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        socket.create_server(("0.0.0.0", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        udp.bind(tcp.getsockname())
        answering = threading.Thread(target=_answers, args=(udp,), daemon=True)
        answering.start()
        abstract.bind("\0" + name)
        abstract.listen()
        segment = libc.shmget(key, 4096, _CREATE | 0o600)
        shared = Path("/dev/shm") / name
        shared.touch()
        try:
            assert segment >= 0
            yield {"port": tcp.getsockname()[1], "abstract": name, "shm_name": name, "shm_key": str(key)}
        finally:
            shared.unlink()
            libc.shmctl(segment, _REMOVE, 0)
            udp.sendto(b"", ("127.0.0.1", udp.getsockname()[1]))
            answering.join()


def wants(address: str, has_bridge: bool) -> dict[Need, str]:
    """What the engine does not offer to a control, and why.

    Args:
        address: The engine's address, as ``unix:///var/run/docker.sock``.
        has_bridge: Whether it has a bridge network.
    """
    reasons: dict[Need, str] = {}
    pid = _engines_pid(address)
    if pid is None:
        reasons["host"] = "the engine is on another machine"
    if pid is None or not _same("net", pid):
        reasons["host's network"] = "the engine has a network namespace of its own"
    if not has_bridge:
        reasons["bridge network"] = "the engine has no bridge network"
    elif reasons:
        reasons["bridge network"] = "the engine's bridge is not on this machine"
    return reasons


def _engines_pid(address: str) -> int | None:
    """The process at the other end of a UNIX socket, as the kernel recorded it."""
    path = address.removeprefix("unix://").removeprefix("http+unix://")
    if not Path(path).is_socket():
        return None
    with socket.socket(socket.AF_UNIX) as to_engine:
        to_engine.connect(path)
        pid: int = struct.unpack("3i", to_engine.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return pid or None


def _same(kind: str, pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return False
