"""Cells that try to go on for longer than they may: each ends by the clock that it tries to evade, at every level."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest

from sandbox import kernel as kernel_module
from sandbox.cell import CellResult
from sandbox.spec import CellLimits, Isolation
from tests.attack.outcomes import INTERRUPTED, LOST, SHORT, Ends, works
from tests.attack.report import Line, add
from tests.boxes import Box, exists, never

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_END: Final = float("inf")
EITHER: Final = (INTERRUPTED, LOST)

WAITING: Final = "import threading\nthreading.Thread(target=llm_query, args=('x',), daemon=True).start()\n"
DAEMON: Final = (
    "import os, time\n"
    "if (child := os.fork()) == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        while True: pass\n"
    "    os._exit(0)\n"
    "os.waitpid(child, 0)[1]"
)
AFTER_THE_CELL: Final = {
    "a handler of atexit that never ends": "import atexit\n@atexit.register\ndef end():\n    while True: pass",
    "a non-daemon thread that never ends": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()"
    ),
    "SIGTERM ignored": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nNone",
}

UNLIKE_LINUX: Final = frozenset(
    {
        "a loop",
        "SIGINT masked and handled",
        "a loop in C that holds Python's lock",
        "a program",
        "an await",
        "a handler of a timer",
        "SIGSTOP to itself",
        "threads that print",
    }
)
"""What hangs on the kernel's signals, clocks and processes, in which gVisor differs."""
ONE_OF_EACH_KIND: Final = frozenset(
    {"a loop", "a loop that swallows interrupts", "a program", "an await", "SIGSTOP to itself"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless:
    """A cell that never ends by itself.

    Attributes:
        code: The cell.
        ends: How the wall clock may end it.
        leaves: It leaves something behind that goes on, so that its box must go.
        before: A cell that runs first and ends well.
        pause_s: Seconds between the two.
    """

    code: str
    ends: tuple[Ends, ...] = (INTERRUPTED,)
    leaves: bool = False
    before: str = ""
    pause_s: float = 0.0


LOOP = "while True: pass"
SWALLOW = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
NEVER_ENDING: Final = {
    "a loop": Endless(code=LOOP),
    "a loop that swallows interrupts": Endless(code=SWALLOW, ends=(LOST,)),
    "SIGINT ignored": Endless(
        code="import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", ends=(LOST,)
    ),
    "SIGINT masked and handled": Endless(
        code=(
            "import signal as s\ns.pthread_sigmask(s.SIG_BLOCK, {2}); s.signal(2, lambda *a: None)\nwhile True: pass"
        ),
        ends=(LOST,),
    ),
    "KeyboardInterrupt by another name": Endless(
        code="import builtins\nbuiltins.KeyboardInterrupt = builtins.BaseException = OSError\n" + LOOP
    ),
    "a loop in C that holds Python's lock": Endless(code="sum(range(10**12))", ends=(LOST,)),
    "a sleep in C that holds Python's lock": Endless(
        code="import ctypes\nwhile True: ctypes.PyDLL(None).sleep(600)",
    ),
    "a lock that nobody opens": Endless(
        code="import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()"
    ),
    "no turn for other threads": Endless(
        code="import sys\nsys.setswitchinterval(10_000)\nwhile True: pass",
        leaves=True,
    ),
    "a regular expression that explodes": Endless(code="import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')"),
    "a number that explodes": Endless(code="9 ** 9 ** 9"),
    "a program": Endless(code="import subprocess\nsubprocess.run(['sleep', '600'])"),
    "a program that ignores SIGINT": Endless(
        code="import subprocess\nsubprocess.run(['sh', '-c', 'trap \"\" INT; sleep 600; sleep 600'])", leaves=True
    ),
    "a program in a session of its own": Endless(
        code="import subprocess\nsubprocess.run(['sleep', '600'], start_new_session=True)"
    ),
    "an await": Endless(code="import asyncio\nawait asyncio.sleep(600)"),
    "a trace that swallows interrupts": Endless(
        code=f"import sys\ndef trace(*a):\n    {SWALLOW.replace(chr(10), chr(10) + '    ')}\n"
        "sys.settrace(trace)\n(lambda: 0)()",
        ends=(LOST,),
    ),
    "a finalizer": Endless(code="class D:\n    def __del__(self):\n        while True: pass\nD()\nNone", ends=EITHER),
    "the text of a value": Endless(code="class D:\n    def __repr__(self):\n        while True: pass\nD()"),
    "the text of an error": Endless(
        code="class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E", ends=EITHER
    ),
    "a hook after the cell": Endless(
        code=f"def hook(*a):\n    {LOOP}\nget_ipython().events.register('post_run_cell', hook)",
        ends=EITHER,
        leaves=True,
    ),
    "a handler of a timer": Endless(
        before=f"import signal\ndef handler(*a):\n    {LOOP}\nsignal.signal(signal.SIGALRM, handler)",
        code="signal.setitimer(signal.ITIMER_REAL, 0.1)\nwhile True: pass",
    ),
    "a timer that fires between two cells": Endless(
        before=f"import signal, time\ndef handler(*a):\n    {LOOP}\nsignal.signal(signal.SIGALRM, handler)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.1)",
        code="1",
        ends=EITHER,
        pause_s=0.3,
    ),
    "a task between two cells": Endless(
        before=f"import asyncio\ndef task():\n    {LOOP}\nasyncio.get_running_loop().call_later(0.1, task)\nNone",
        code="1",
        ends=(LOST,),
        pause_s=0.3,
    ),
    "SIGSTOP to itself": Endless(code="import os\nos.kill(os.getpid(), 19)", ends=(LOST,)),
    "SIGSTOP by its own child": Endless(
        code="import os, time\nif os.fork() == 0: os.kill(os.getppid(), 19); os._exit(0)\ntime.sleep(600)", ends=(LOST,)
    ),
    "the thread of its output asleep": Endless(
        code="import time\nget_ipython().kernel.iopub_thread.io_loop.add_callback(time.sleep, 600)", ends=(LOST,)
    ),
    "the thread of answers asleep": Endless(
        code="import json, time\njson.loads = lambda *a, **k: time.sleep(600)\nllm_query('x')",
        leaves=True,
    ),
    "threads that print": Endless(
        code=(
            "import threading\ndef f():\n    while True: print('x' * 100)\n"
            "for _ in range(20): threading.Thread(target=f, daemon=True).start()\nwhile True: pass"
        ),
        ends=EITHER,
        leaves=True,
    ),
}


def of(names: Iterable[str], *, quick: frozenset[str]) -> list[Any]:
    """Parameters of a test: those that are not `quick` wait for `make test-long`."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.long) for name in names]


@pytest.mark.parametrize("name", NEVER_ENDING)
async def test_what_never_ends_is_ended(box: Box, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await is_ended(box, "container", name, monkeypatch)


@pytest.mark.parametrize("name", of(NEVER_ENDING, quick=UNLIKE_LINUX))
async def test_what_never_ends_is_ended_under_gvisor(
    gvisor_box: Box, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await is_ended(gvisor_box, "gvisor", name, monkeypatch)


async def is_ended(box: Box, level: Isolation, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the wall clock, in the way that its entry says."""
    cell = NEVER_ENDING[name]
    if cell.ends == (LOST,):  # it does not give way, however long it is waited for
        monkeypatch.setattr(kernel_module, "INTERRUPT_GRACE_S", 0.5)
    result = await run(box, cell, SHORT)
    assert any(ends.fits(result) for ends in cell.ends), result
    report("wall clock", level, name, result)
    await after(box, cell)


@pytest.mark.parametrize("name", of(NEVER_ENDING, quick=ONE_OF_EACH_KIND))
async def test_without_its_clock_it_goes_on(box: Box, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with the wall clock off each of them is still there when the run's own clock ends it."""
    cell = NEVER_ENDING[name]
    monkeypatch.setattr(kernel_module, "INTERRUPT_GRACE_S", 0.5)
    result = await run(box, cell, CellLimits(wall_s=NO_END, cpu_s=NO_END, run_s=1))
    assert (result.clock, result.status in ("interrupted", "lost")) == ("run", True), result
    await after(box, cell)


async def run(box: Box, cell: Endless, limits: CellLimits) -> CellResult:
    """The cell, after the one that prepares it."""
    if cell.before:
        assert (await box.execute(cell.before, CellLimits(wall_s=5))).status == "ok"
        await asyncio.sleep(cell.pause_s)
    return await box.execute(cell.code, limits)


async def after(box: Box, cell: Endless) -> None:
    """The next cell works, in the same box unless the attack has left something there that goes on."""
    lost = not box.alive
    if cell.leaves:
        await box.kill()
        lost = True
    await works(box, lost=lost)


def report(setting: str, level: Isolation, name: str, result: CellResult) -> None:
    """A line of the suite's report."""
    ended = f"the {result.clock} clock ended the {'cell' if result.status == 'interrupted' else 'box'}"
    add(Line(setting=setting, level=level, attack=name, status="held", reason=ended))


async def test_waiting_for_an_answer_that_never_comes_buys_no_cpu_time(level_box: Box, level: Isolation) -> None:
    level_box.answer = never
    result = await level_box.execute(WAITING + LOOP, CellLimits(wall_s=1, wait_s=600, cpu_s=1.5))
    assert Ends(status="interrupted", clock="cpu").fits(result), result
    report("cpu clock", level, "a loop beside a sub-call that never ends", result)
    await works(level_box, lost=False)


async def test_without_the_cpu_clock_it_does_buy_time(box: Box) -> None:
    """The control: the loop goes on past that many CPU seconds, until the wall clock is no longer stopped."""
    box.answer = never
    result = await box.execute(WAITING + LOOP, CellLimits(wall_s=1, wait_s=1.5, cpu_s=NO_END))
    assert INTERRUPTED.fits(result), result
    assert result.waited_s >= 1.4
    await works(box, lost=False)


async def test_waiting_for_an_answer_that_never_comes_is_bought_for_a_total(level_box: Box, level: Isolation) -> None:
    level_box.answer = never
    result = await level_box.execute("llm_query('x')", CellLimits(wall_s=0.5, wait_s=1))
    assert INTERRUPTED.fits(result), result
    report("wall clock", level, "a sub-call that never ends", result)
    await works(level_box, lost=False)


async def test_without_that_total_it_waits_on(box: Box) -> None:
    """The control."""
    box.answer = never
    result = await box.execute("llm_query('x')", CellLimits(wall_s=0.5, wait_s=NO_END, run_s=2))
    assert Ends(status="interrupted", clock="run").fits(result), result
    await works(box, lost=False)


async def test_what_a_cell_leaves_behind_counts_for_the_next_ones(level_box: Box, level: Isolation) -> None:
    """A daemon may outlive its cell, not its box: later cells work, and pay for its CPU time."""
    assert (await level_box.execute(DAEMON)).status == "ok"
    assert await level_box.shown("6 * 7") == "42"
    paid = await level_box.execute("time.sleep(600)", CellLimits(wall_s=30, cpu_s=1))
    assert Ends(status="interrupted", clock="cpu").fits(paid), paid
    report("cpu clock", level, "a daemon that outlives its cell", paid)
    await level_box.kill()
    await works(level_box, lost=True)


async def test_without_a_daemon_a_sleep_costs_no_cpu_time(box: Box) -> None:
    """The control: the same cell, the same clocks, nothing left behind."""
    result = await box.execute("import time\ntime.sleep(600)", CellLimits(wall_s=3, cpu_s=1))
    assert INTERRUPTED.fits(result), result


@pytest.mark.parametrize("name", AFTER_THE_CELL)
async def test_nothing_runs_at_the_end_of_the_kernel(level_box: Box, level: Isolation, name: str) -> None:
    """What is registered for the kernel's exit is never called: the box ends by a signal or by its stream."""
    assert (await level_box.execute(AFTER_THE_CELL[name])).status == "ok"
    assert await level_box.shown("6 * 7") == "42"
    container = level_box.container
    await level_box.kill()
    assert not await exists(level_box.engine, container)
    add(Line(setting="end of the box", level=level, attack=name, status="held"))
    await works(level_box, lost=True)


@pytest.mark.parametrize("target", ["os.getppid()", "1", "-1"])
async def test_its_parent_can_not_be_stopped(level_box: Box, level: Isolation, target: str) -> None:
    result = await level_box.execute(f"import os, signal\nos.kill({target}, signal.SIGSTOP)")
    assert Ends(status="error", error="PermissionError").fits(result), result
    add(Line(setting="seccomp", level=level, attack=f"SIGSTOP to {target}", status="held", reason="EPERM"))
    await works(level_box, lost=False)
