"""The same guest as PID 1 of a real box: through Docker's stream, in a whole run, and before a terminal."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.exits import ExitCode
from orchestrator.errors import ProtocolViolation as RunViolation
from sandbox import kernel as kernel_module
from sandbox import link
from sandbox.errors import ProtocolViolation, SandboxError
from sandbox.host import Host
from sandbox.spec import CellLimits, KernelSettings
from tests.attack.wire.guest import ESCAPES
from tests.attack.wire.hostile_box import HostileEngine
from tests.boxes import SMALL, Box, exists
from tests.conftest import REPOSITORY
from tests.runs import code, run, script

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIOLATIONS = {
    "four_gigabytes": "a frame of 4,294,967,295 bytes",
    "endless_parts": "parts do not add up",
    "deep_json": "not a legal Stream",
    "second_reply": "to no open request",
    "another_comm": "a comm that the host did not give",
    "output_flood": "a flood",
    "million_in_batches": "a flood",
    "stderr_flood": "bytes on stderr",
}
ENDS = {
    "half_frame_and_gone": ("lost", "the box ended"),
    "slow_drip": ("lost", "it did not stop when interrupted"),
    "never_reading": ("lost", None),
    "forged_parents": ("ok", None),
    "growing_output": ("ok", None),
    "harmless": ("ok", None),
}


async def hostile(host: Host, attack: str) -> Box:
    return await Box.open(dataclasses.replace(host, engine=HostileEngine(attack)), SMALL, KernelSettings())


@pytest.mark.parametrize("attack", VIOLATIONS)
async def test_a_violation_kills_the_box_and_no_other(box_host: Host, box: Box, attack: str) -> None:
    async with await hostile(box_host, attack) as attacker:
        assert isinstance(attacker, Box)
        container = attacker.container
        with pytest.raises(ProtocolViolation, match=VIOLATIONS[attack]):
            await attacker.execute("x", CellLimits(wall_s=60))
        assert not await exists(attacker.engine, container)
    assert await box.shown("6 * 7") == "42"


@pytest.mark.parametrize("attack", ENDS)
async def test_what_is_no_violation_ends_as_a_cell(
    box_host: Host, box: Box, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "WRITE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(kernel_module, "INTERRUPT_GRACE_S", 0.5)
    async with await hostile(box_host, attack) as attacker:
        assert isinstance(attacker, Box)
        container = attacker.container
        status, because = ENDS[attack]
        result = await attacker.execute("x", CellLimits(wall_s=1 if status == "lost" else 60, wait_s=1))
        assert result.status == status
        assert because is None or result.lost_because == because
        assert await exists(attacker.engine, container) is (status != "lost")
    assert await box.shown("6 * 7") == "42"


async def test_a_box_that_never_answers_is_a_failed_start(box_host: Host) -> None:
    impatient = dataclasses.replace(SMALL, start_timeout_s=2)
    with pytest.raises(SandboxError, match="did not answer"):
        await Box.open(dataclasses.replace(box_host, engine=HostileEngine("silent_start")), impatient)


async def test_a_run_ends_with_the_violation(box_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hostile_host(*_: object) -> Host:
        return dataclasses.replace(box_host, engine=HostileEngine("terminal_by_type"))

    monkeypatch.setattr("orchestrator.repl.shared_host", hostile_host)
    monkeypatch.setattr("orchestrator.intake._store", lambda: box_host.store)  # the run's text is where its box is
    with pytest.raises(RunViolation) as caught:
        await run(script(code("1"), code("2")))
    assert caught.value.result is not None
    assert caught.value.result.stop_reason.value == "protocol_violation"
    assert "\x1b" not in str(caught.value)


# --- in front of a terminal ---

OBEYED = [
    b"\x1b]0;OWNED",
    b"\x1b[2J",
    b"\x1b[31mOWNED",
    b"\x07",
    b"\x1bc",
    "\x9b".encode(),
    "\u202e".encode(),
    "\u2066".encode(),
]
COMMAND = [sys.executable, "-m", "tests.attack.wire.hostile_box"]
HOSTILE_MODEL = "REPLIES = ['```repl\\n1\\n```', 'reply ' + {escapes!r}, 'FINAL(done ' + {escapes!r} + ')']"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a document and a model, and a state directory of its own."""
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doc.txt").write_text("text")
    (tmp_path / "model.py").write_text(HOSTILE_MODEL.format(escapes=ESCAPES))
    return tmp_path


ASK = ["ask", "doc.txt", "-q", "Which word?", "--model", "scripted:model.py"]
ENDED = {
    "terminal": ExitCode.ANSWERED,
    "terminal_by_answer": ExitCode.ANSWERED,
    "terminal_by_type": ExitCode.SANDBOX,
    "stderr_flood": ExitCode.SANDBOX,
}


@pytest.mark.parametrize("attack", ENDED)
@pytest.mark.parametrize("more", [[], ["--keep"], ["-v"]], ids=["", "keep", "verbose"])
async def test_a_terminal_gets_nothing_that_it_obeys(desk: Path, attack: str, more: list[str]) -> None:
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "200"}
    process = subprocess.Popen(
        [*COMMAND, attack, *ASK, *more], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 1 << 16)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    assert process.wait() == ENDED[attack], shown
    assert [bytes_ for bytes_ in OBEYED if bytes_ in shown] == []
    assert b"OWNED" in shown or attack == "stderr_flood"
    for trace in (desk / "state" / "traces").iterdir():
        assert trace.read_bytes().isascii()


@pytest.mark.parametrize("attack", ENDED)
async def test_a_log_and_json_get_nothing_either(desk: Path, attack: str) -> None:
    done = subprocess.run([*COMMAND, attack, *ASK, "--json"], capture_output=True, check=False)
    assert done.returncode == ENDED[attack], done.stderr
    assert [bytes_ for bytes_ in OBEYED if bytes_ in done.stdout + done.stderr] == []
    json.loads(done.stdout)
