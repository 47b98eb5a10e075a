"""A pool whose process is killed, with boxes that wait and one in use: all end, and the next start removes the rest."""

from __future__ import annotations

import os
import signal

import pytest

from orchestrator.cli.exits import ExitCode
from tests.lifecycle.desk import KILLED, Desk, Running

pytestmark = pytest.mark.docker

RUN = """
import asyncio, os, sys
from pathlib import Path
from orchestrator import RLM, SandboxPool, ScriptedProvider
from tests.lifecycle.desk import boxes_by_owner
from sandbox.owner import owner_label

async def main():
    async with SandboxPool(size=2) as pool:
        async def end(_):
            async with asyncio.timeout(60):
                while pool.ready < 2:
                    await asyncio.sleep(0.01)
            assert list(boxes_by_owner(owner_label()).values()) == ["running"] * 3
            os.kill(os.getpid(), {signal})
            await asyncio.sleep(60)
        root = ScriptedProvider(["```repl\\nllm_query('x')\\n```"])
        rlm = RLM(root, Ends(end), pool=pool)
        await rlm.arun("How long?", Path(sys.argv[1]))

class Ends:
    name, max_output_tokens = "scripted:ends", 100
    def __init__(self, end):
        self.complete = end

asyncio.run(main())
"""


@pytest.mark.parametrize("ends_by", ["KILL", "STOP"])
def test_boxes_of_a_pool_end_with_their_process(desk: Desk, ends_by: str) -> None:
    """One that is only stopped lives: its boxes stay until it is killed."""
    code = RUN.replace("{signal}", str(int(signal.Signals[f"SIG{ends_by}"])))
    running = Running(desk, "-c", code, str(desk.document))
    if ends_by == "STOP":
        running.wait_until_stopped()
        assert desk.files_with_the_document() != []
        assert desk.airlock("reap").returncode == ExitCode.ANSWERED
        assert list(running.boxes().values()) == ["running"] * 3, "their owner lives"
        os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == KILLED, running.said
    assert running.wait_until_gone() == {}
    reaped = desk.airlock("reap")
    assert reaped.returncode == ExitCode.ANSWERED, reaped.stderr
    assert (desk.files(), desk.files_with_the_document()) == ([], [])
