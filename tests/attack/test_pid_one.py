"""PID 1 ends the box when the host is gone, so a cell must not be able to slow it down. Its uid is the cell's own."""

from __future__ import annotations

import pytest

from tests.boxes import Box

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOWING = {
    "affinity": "os.sched_setaffinity(1, {0})",
    "policy": "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "niceness": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "niceness of its group": "os.setpriority(os.PRIO_PGRP, 1, 19)",
    "niceness of its user": "os.setpriority(os.PRIO_USER, 0, 19)",
    "limits": "resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
    "affinity, upper bits set": "ctypes.CDLL(None, use_errno=True).syscall(203, ctypes.c_long(1 << 32 | 1), 8, mask)",
}
TRY = """
import ctypes, os, resource
mask = (ctypes.c_ulong * 1)(1)
try:
    done = {code}
    print(ctypes.get_errno() if done == -1 else "done")
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("code", SLOWING.values(), ids=SLOWING.keys())
async def test_a_cell_can_not_slow_pid_one_down(box: Box, code: str) -> None:
    """The same uid would be enough: what refuses is the profile, which lets these calls name their caller alone."""
    result = await box.execute(TRY.format(code=code))
    assert result.stdout.text == "1\n", result
