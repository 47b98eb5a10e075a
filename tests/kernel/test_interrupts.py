"""Cells that are stopped: by a clock of theirs, or by whoever asks for it."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.messages import Asked
from sandbox.spec import CellLimits
from tests.kernel.local_box import LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = CellLimits(wall_s=0.3, wait_s=0.3)
NEVER = asyncio.Event()


async def never(asked: Asked) -> str:
    """A model server that does not answer."""
    await NEVER.wait()
    return ""


RUNNING = {
    "a loop": "while True: pass",
    "a sleep": "import time\ntime.sleep(600)",
    "a lock": "import threading\nthreading.Event().wait()",
    "a top-level await": "import asyncio\nawait asyncio.sleep(600)",
    "a gather": "import asyncio\nawait asyncio.gather(*(asyncio.sleep(600) for _ in range(3)))",
    "a program": "!sleep 600",
    "a subprocess": "import subprocess\nsubprocess.run(['sleep', '600'])",
    "a query": "llm_query('x')",
    "a batch": "llm_query_batched(['x'] * 600)",
    "a query in a top-level await": "import asyncio\nawait asyncio.to_thread(llm_query, 'x')",
    "a pool of queries": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: list(pool.map(llm_query, 'abcdefgh'))"
    ),
    "a batch above the host's room": "llm_query_batched(['x'] * 20_000)",
    "a print without end": "while True: print('x' * 1000)",
}


@pytest.mark.parametrize("code", RUNNING.values(), ids=RUNNING.keys())
async def test_a_clock_stops_it_and_no_variable_is_lost(box: LocalBox, code: str) -> None:
    box.handler = never
    await box.execute("kept = 8")
    result = await box.execute(code, SHORT)
    assert (result.status, result.clock) == ("interrupted", "wall"), result
    if code != RUNNING["a program"]:  # IPython reports that one by its exit code
        assert result.error
        assert result.error.name in ("KeyboardInterrupt", "CancelledError", "LimitExceeded", "BatchError")
    assert (await box.execute("kept")).result.text == "8"


async def test_a_cell_stopped_while_it_waits_for_its_pool_starts_no_new_query(box: LocalBox) -> None:
    box.handler = never
    result = await box.execute(RUNNING["a pool of queries"], SHORT)
    assert result.status == "interrupted"
    assert sorted(prompt for prompt, _ in box.prompts) == list("abcd")


async def test_the_runs_clock_stops_a_cell_that_only_waits(box: LocalBox) -> None:
    box.handler = never
    result = await box.execute("llm_query('x')", CellLimits(run_s=0.3))
    assert (result.status, result.clock) == ("interrupted", "run")


async def test_the_cpu_clock_counts_full_speed_where_nothing_can_be_read(box: LocalBox) -> None:
    result = await box.execute("while True: pass", CellLimits(cpu_s=0.3))
    assert (result.status, result.clock) == ("interrupted", "cpu")


async def test_who_swallows_the_interrupt_loses_the_box(fresh_box: LocalBox) -> None:
    code = "import time\nwhile True:\n    try: time.sleep(600)\n    except KeyboardInterrupt: pass"
    result = await fresh_box.execute(code, SHORT)
    assert (result.status, result.clock, result.lost_because) == ("lost", "wall", "it did not stop when interrupted")
    await fresh_box.restart()
    assert (await fresh_box.execute("1")).result.text == "1"


async def test_a_user_interrupts_a_cell(box: LocalBox) -> None:
    running = asyncio.create_task(box.execute("print('started', flush=True)\nwhile True: pass"))
    while box.kernel._cell is None or not box.kernel._cell.captures["stdout"].total:
        await asyncio.sleep(0.01)
    await box.interrupt()
    result = await running
    assert (result.status, result.clock) == ("error", None)
    assert result.error
    assert result.error.name == "KeyboardInterrupt"


async def test_an_interrupt_between_cells_hits_no_cell(box: LocalBox) -> None:
    for _ in range(20):
        await box.interrupt()
        result = await box.execute("for n in range(10_000): pass\n'done'")
        assert result.result.text == "'done'", result


async def test_a_clock_that_runs_out_as_the_cell_ends_hits_not_the_next(box: LocalBox) -> None:
    for tries in range(100):
        result = await box.execute("import time\ntime.sleep(0.02)", CellLimits(wall_s=0.0195 + tries / 20_000))
        assert result.status in ("ok", "interrupted"), result
        result = await box.execute("for n in range(20_000): pass\n'done'")
        assert result.result.text == "'done'", result


async def test_cancelling_the_caller_kills_the_box(fresh_box: LocalBox) -> None:
    running = asyncio.create_task(fresh_box.execute("while True: pass"))
    while fresh_box.kernel._cell is None:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not fresh_box.alive
    assert fresh_box.process
    await fresh_box.process.wait()


async def test_closing_while_a_cell_waits_for_a_query_ends_all(fresh_box: LocalBox) -> None:
    fresh_box.handler = never
    running = asyncio.create_task(fresh_box.execute("llm_query('x')"))
    while not fresh_box.prompts:
        await asyncio.sleep(0.01)
    reader = fresh_box.kernel._reader
    await fresh_box.aclose()
    assert (await running).status == "lost"
    assert reader
    assert reader.done()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "airlock-query"]


async def test_a_kernel_that_dies_is_reported_with_its_signal_or_exit(fresh_box: LocalBox) -> None:
    for code, why in (
        ("import os; os.kill(os.getpid(), 9)", "the kernel died by signal 9"),
        ("import ctypes; ctypes.string_at(0)", "the kernel died by signal 11"),
        ("import os; os._exit(3)", "the kernel exited"),
    ):
        result = await fresh_box.execute("print('before', flush=True); import time; time.sleep(0.5)\n" + code)
        assert (result.status, result.lost_because) == ("lost", why)
        assert result.stdout.text == "before\n"
        await fresh_box.restart()
