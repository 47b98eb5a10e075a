"""Cells that use up what their box has: the error is theirs, or the box ends; no other box and no host is touched."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sandbox.errors import ProtocolViolation
from sandbox.host import Host
from sandbox.runtimes import GVISOR
from sandbox.spec import MIB, CellLimits, Isolation, SandboxSpec
from tests.attack.outcomes import Ends, works
from tests.attack.report import Line, add
from tests.boxes import SMALL, Box
from tests.conftest import missing

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEMORY = {
    "an allocation of 4 GB": ("x = b'x' * (4 << 30)", "out of memory: the box has 512 MiB"),
    "lists without end": ("x = []\nwhile True: x.append(bytes(1 << 20))", "out of memory: the box has 512 MiB"),
}


@pytest.mark.parametrize(("code", "why"), MEMORY.values(), ids=MEMORY.keys())
async def test_too_much_memory_ends_the_box_and_is_named(box: Box, code: str, why: str) -> None:
    result = await box.execute(code, CellLimits(wall_s=20))
    assert Ends(status="lost", lost_because=why).fits(result), result
    await works(box, lost=True)


async def test_a_box_with_more_memory_holds_more(box_host: Host) -> None:
    """The control to `out of memory`: the limit is the spec's, not the machine's."""
    async with await Box.open(box_host, replace(SMALL, memory_bytes=900 * MIB)) as large:
        assert isinstance(large, Box)
        assert await large.shown("len(bytes(600 << 20))") == str(600 << 20)


ORPHANS = """
import os, subprocess, time
def processes(): return sum(name.isdigit() for name in os.listdir("/proc"))
before, failed = processes(), b""
program = "n=0; while [ $n -lt 50 ]; do (true &); n=$((n + 1)); done"
for _ in range(8):  # not all at once: on a busy machine PID 1 would come to it too late
    failed += subprocess.run(["sh", "-c", program], stderr=subprocess.PIPE).stderr
    until = time.monotonic() + 20
    while processes() > before + 5 and time.monotonic() < until: time.sleep(0.01)
failed, processes() <= before + 5
"""


async def test_orphans_are_reaped(level_box: Box, level: Isolation) -> None:
    """PID 1 collects them; 400 that nobody collects would be more than the box may have."""
    assert SMALL.pids < 400
    assert await level_box.shown(ORPHANS) == "(b'', True)"
    add(Line(setting="pids", level=level, attack="400 orphans", status="held", reason="PID 1 reaps them"))


async def test_one_busy_thread_gets_no_more_than_its_share(box_host: Host, level: Isolation) -> None:
    """As the engine counts the tenths of a second in which it was held back; the control has a core to spare."""
    if level == "gvisor" and GVISOR not in (await box_host.engine.info())["Runtimes"]:
        missing("the engine has no gVisor")
    assert await throttled(box_host, replace(SMALL, isolation=level, cpus=0.25)) > 0
    assert await throttled(box_host, replace(SMALL, isolation=level, cpus=2)) == 0
    add(Line(setting="cpus", level=level, attack="one busy thread", status="held"))


async def throttled(host: Host, spec: SandboxSpec) -> int:
    """Tenths of a second in which a box was held back while one thread is busy."""

    def count(container: str) -> int:
        stats = host.engine._api.stats(container, stream=False, one_shot=True)
        return int(stats["cpu_stats"]["throttling_data"]["throttled_periods"])

    async with await Box.open(host, spec) as box:
        assert isinstance(box, Box)
        before = await asyncio.to_thread(count, box.container)
        busy = "import time\nstart = time.process_time()\nwhile time.process_time() < start + 1: pass"
        assert (await box.execute(busy)).status == "ok"
        return await asyncio.to_thread(count, box.container) - before


BOMBS = {
    "processes": "import os, time\nfor _ in range(2000):\n    if os.fork() == 0: time.sleep(600); os._exit(0)",
    "processes that multiply": "import os\nwhile True:\n    if os.fork() == 0 and os.fork() == 0: pass",
    "threads": "import threading as t, time\nwhile True: t.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "programs": "import subprocess\nprograms = []\nwhile True: programs.append(subprocess.Popen(['sleep', '600']))",
}


@pytest.mark.parametrize("code", BOMBS.values(), ids=BOMBS.keys())
async def test_a_bomb_stays_in_its_box(box: Box, box_host: Host, code: str) -> None:
    other = await Box.open(box_host)
    try:
        result = await box.execute(code, CellLimits(wall_s=2))
        assert result.status in ("error", "interrupted", "lost"), result
        assert await other.shown("1 + 1") == "2"
    except ProtocolViolation:
        assert not box.alive  # forked copies of the kernel all answer the one request
    finally:
        await other.aclose()
    await box.restart()
    await works(box, lost=False)


FILLING = {
    "bytes": ("with open('/tmp/big', 'wb') as f:\n    while True: f.write(bytes(1 << 20))", "OSError"),
    "inodes": ("n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'w').close()", "OSError"),
    "descriptors": ("files = []\nwhile True: files.append(open('/dev/null'))", "OSError"),
    "shared memory": ("with open('/dev/shm/big', 'wb') as f:\n    while True: f.write(bytes(1 << 20))", "OSError"),
}


@pytest.mark.parametrize(("code", "error"), FILLING.values(), ids=FILLING.keys())
async def test_filling_up_is_the_cells_own_error(box: Box, code: str, error: str) -> None:
    await box.execute("kept = 9")
    result = await box.execute(code, CellLimits(wall_s=20))
    assert Ends(status="error", error=error).fits(result), result
    clean = (
        "import glob, os\nfiles = None\nfor f in glob.glob('/tmp/*') + glob.glob('/dev/shm/big'): os.remove(f)\nkept"
    )
    assert await box.shown(clean) == "9"
