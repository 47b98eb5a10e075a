"""The CPU time of a box, read from its cgroup."""

from __future__ import annotations

import os

import pytest

from sandbox.cpu_time import cpu_reader
from sandbox.engine import Engine
from tests.boxes import Box

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def first_process(engine: Engine, container: str) -> int:
    return int((await engine.inspect(container))["State"]["Pid"])


async def test_it_is_what_the_engine_says(box: Box) -> None:
    read = cpu_reader(await first_process(box.engine, box.container), box.container)
    if read is None:
        pytest.skip("the box's cgroup can't be seen from here")
    before = read()
    await box.execute("import time\nwhile time.process_time() < 0.7: pass")
    after, engines = read(), await box.engine.cpu_s(box.container)
    assert before is not None
    assert after is not None
    assert engines is not None
    assert after - before > 0.1
    assert before < after <= engines < after + 1


async def test_another_process_is_not_taken_for_the_box(box: Box) -> None:
    assert cpu_reader(os.getpid(), box.container) is None
    assert cpu_reader(0, box.container) is None
    pid = await first_process(box.engine, box.container)
    assert cpu_reader(pid, "0" * 64) is None


async def test_a_box_that_has_ended_has_none(box: Box) -> None:
    read = cpu_reader(await first_process(box.engine, box.container), box.container)
    if read is None:
        pytest.skip("the box's cgroup can't be seen from here")
    await box.kill()
    assert read() is None
