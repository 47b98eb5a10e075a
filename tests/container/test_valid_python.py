"""What the lock must not break: honest cells of every kind, HumanEval, and a list of what does not work and why."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from sandbox.host import Host
from sandbox.messages import Asked
from sandbox.runtimes import GVISOR
from sandbox.spec import SandboxSpec
from tests.attack.valid_cells import CELLS, humaneval
from tests.boxes import Box, echo
from tests.conftest import missing

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPEC = SandboxSpec()

NOT_UNDER_GVISOR = {
    "shell escapes": "ls",
    "subprocess": "ls",
    "coreutils": "ls",
    "unix sockets and polls": "pidfd_open",
}
"""Of gVisor of 2022: `ls` of Debian 13 asks stat for a flag that it does not know, and it has no pidfd_open. The same
cells fail in a gVisor box without any profile."""

COPY = "import ctypes, os, shutil, subprocess; shutil.copy({what!r}, '/tmp/own'); os.chmod('/tmp/own', 0o755); "
LIBC = f"/usr/lib/{platform.machine()}-linux-gnu/libc.so.6"
REFUSED = {
    "a socket": ("import socket; socket.socket()", "OSError", "Address family not supported"),
    "a server": (
        "import http.server; http.server.HTTPServer(('', 0), None)",
        "OSError",
        "Address family not supported",
    ),
    "a request": ("import urllib.request; urllib.request.urlopen('http://127.0.0.1')", "URLError", "not supported"),
    "a name": ("import socket; socket.gethostbyname('example.org')", "gaierror", ""),
    "a program of one's own": (
        COPY.format(what="/bin/true") + "subprocess.run(['/tmp/own'])",
        "PermissionError",
        "/tmp/own",
    ),
    "a library of one's own": (COPY.format(what=LIBC) + "ctypes.CDLL('/tmp/own')", "OSError", "failed to map segment"),
    "an anonymous file": ("import os; os.memfd_create('x')", "PermissionError", "Operation not permitted"),
    "a signal by pidfd": (
        "import os, signal; signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0)",
        "PermissionError",
        "Operation not permitted",
    ),
    "splice": ("import os; os.splice(*os.pipe(), 1)", "PermissionError", "Operation not permitted"),
    "a new namespace": ("import os; os.unshare(os.CLONE_NEWUSER)", "PermissionError", "Operation not permitted"),
}
"""What valid Python can't do here: code, exception and words. A network is not there, what is written can't be run
(/tmp is noexec, and memory files would be a way round it), and the rest is not worth its part of the kernel."""

WORKS_BY_ANOTHER_WAY = {
    "sendfile": """
import os, shutil
open("/tmp/from", "w").write("text"); shutil.copyfile("/tmp/from", "/tmp/to"); assert open("/tmp/to").read() == "text"
try: os.sendfile(os.open("/tmp/to", os.O_WRONLY), os.open("/tmp/from", os.O_RDONLY), 0, 4)
except OSError: pass
else: raise AssertionError
""",
    "timer_create": "import subprocess; assert subprocess.run(['timeout', '0.1', 'sleep', '9']).returncode == 124",
}


async def same(asked: Asked) -> str:
    return asked.prompt


async def gvisor_box(host: Host) -> Box:
    if GVISOR not in (await host.engine.info())["Runtimes"]:
        missing("the engine has no gVisor")
    return await Box.open(host, SandboxSpec(isolation="gvisor"))


async def failing(box: Box, cells: dict[str, str]) -> dict[str, str]:
    """The cells that end otherwise than well, and how."""
    failed = {}
    for name, code in cells.items():
        result = await box.execute(code)
        if result.status != "ok":
            failed[name] = f"{result.status}: {result.error or result.lost_because}"
        if not box.alive:
            await box.restart()
    return failed


async def test_humaneval_ends_without_an_error(box_host: Host, shared_data: Path) -> None:
    cells = humaneval(shared_data)
    assert len(cells) == 164
    async with await Box.open(box_host, SPEC) as box:
        assert isinstance(box, Box)
        assert await failing(box, cells) == {}


async def test_honest_cells_of_every_kind_work(box_host: Host) -> None:
    async with await Box.open(box_host, SPEC) as box:
        assert isinstance(box, Box)
        box.answer = same
        assert await failing(box, CELLS | WORKS_BY_ANOTHER_WAY) == {}


async def test_what_works_under_gvisor(box_host: Host) -> None:
    async with await gvisor_box(box_host) as box:
        assert isinstance(box, Box)
        box.answer = same
        failed = await failing(box, CELLS | WORKS_BY_ANOTHER_WAY)
        assert failed.keys() <= NOT_UNDER_GVISOR.keys(), failed


@pytest.mark.parametrize(("code", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_does_not_work_says_so(box: Box, code: str, error: str, words: str) -> None:
    box.answer = echo
    result = await box.execute(code)
    assert result.error is not None, result
    assert result.error.name == error
    assert words in result.error.message
