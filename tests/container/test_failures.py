"""What goes wrong ends within its limit, with its own stop reason or a typed error, and the next cell or run works."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Any

import pytest

from orchestrator import RLM, BoxError, ContextError, Limits, ProtocolViolation, ProviderError, ScriptedProvider
from orchestrator.limits import MIB
from orchestrator.providers.base import ModelReply, ModelRequest
from tests.conftest import REPOSITORY
from tests.runs import boxes_left, boxes_of, code, run, script, shown

# --- the box is lost ---


@pytest.mark.parametrize(
    ("cell", "because"),
    [
        ("import os\nos.kill(os.getpid(), 9)", "the kernel died by signal 9"),
        ("import os\nos._exit(3)", "the kernel exited"),
        ("hog = b'x' * (4 << 30)", "out of memory: the box has 256 MiB"),
    ],
)
async def test_a_lost_box_is_replaced_and_the_root_is_told(cell: str, because: str) -> None:
    check = "try:\n    print(kept)\nexcept NameError:\n    FINAL(len(context))"
    root = script(code("kept = 1"), code(cell, then="FINAL_VAR(kept)"), code(check))
    result = await run(root, limits=Limits(memory_bytes=256 * MIB))
    assert (result.answer, result.usage.turns) == ("1000", 3)
    assert f"the REPL was lost ({because}). It was started anew: `context` is there again, all other" in shown(root)
    lost = result.turns[1].cells[0]
    assert (lost.status, lost.error) == ("lost", because)
    assert boxes_left() == []


async def test_a_box_that_ends_while_the_root_thinks_is_replaced() -> None:
    dead = asyncio.Event()

    async def think(request: ModelRequest) -> str:
        if len(request.messages) == 2:
            return code("import os, threading\nthreading.Timer(0.1, os._exit, [1]).start()\nkept = 1")
        if not dead.is_set():
            await asyncio.sleep(0.8)
            dead.set()
            return code("print(kept)")
        return code("FINAL(len(context))")

    root = ScriptedProvider(think)
    assert (await run(root)).answer == "1000"
    assert "the REPL was lost (it ended before the cell ran)" in shown(root)


async def test_a_box_that_ends_before_final_var_is_replaced() -> None:
    async def think(request: ModelRequest) -> str:
        if len(request.messages) == 2:
            return code("import os, threading\nthreading.Timer(0.1, os._exit, [1]).start()\nkept = 1")
        if len(request.messages) == 4:
            await asyncio.sleep(0.8)
            return "FINAL_VAR(kept)"
        return code("FINAL('kept' in globals())")

    root = ScriptedProvider(think)
    assert (await run(root)).answer == "False"
    assert "FINAL_VAR(kept) gives no answer" in shown(root)
    assert "It was started anew" in shown(root)


async def test_a_value_that_never_ends_costs_the_box_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.sandbox.VALUE_TIMEOUT_S", 0.5)
    endless = "class Endless:\n    def __str__(self):\n        while True: pass\nx = Endless()"
    root = script(code(endless, then="FINAL_VAR(x)"), code("FINAL(len(context))"))
    assert (await run(root)).answer == "1000"
    assert "FINAL_VAR(x) gives no answer" in shown(root)
    assert "It was started anew" in shown(root)


# --- the box breaks the protocol ---


TWO_ANSWERS = "send = get_ipython().kernel.tell\nsend({'kind': 'answer'}, b'a')\nsend({'kind': 'answer'}, b'b')"


@pytest.mark.parametrize(
    "cell",
    [
        TWO_ANSWERS,
        "get_ipython().kernel.tell({'kind': 'child', 'depth': 0})",
        "get_ipython().kernel.tell({'kind': 'query', 'id': 'x', 'indexes': [0], 'has_data': [False]}, b'p')",
    ],
)
async def test_a_protocol_violation_ends_the_run(cell: str) -> None:
    root = script(code("print(1)", then="FINAL(a guess)"), code(f"{cell}\nimport time\ntime.sleep(30)"))
    with pytest.raises(ProtocolViolation, match="broke the protocol and was killed") as caught:
        await run(root)
    result = caught.value.result
    assert result is not None
    assert (result.stop_reason, result.answer, result.usage.turns) == ("protocol_violation", "a guess", 2)
    assert boxes_left() == []


async def test_a_violation_between_two_cells_ends_the_run_too() -> None:
    async def think(request: ModelRequest) -> str:
        if len(request.messages) == 2:
            return code(f"import threading\ndef late():\n    {TWO_ANSWERS.replace(chr(10), chr(10) + '    ')}\n"
                        "threading.Timer(0.1, late).start()")  # fmt: skip
        await asyncio.sleep(0.8)
        return code("FINAL(len(context))")

    with pytest.raises(ProtocolViolation) as caught:
        await run(ScriptedProvider(think))
    assert caught.value.result is not None
    assert caught.value.result.stop_reason == "protocol_violation"


async def test_a_forged_answer_is_no_more_than_final() -> None:
    """A cell may answer anyway, so forging gains nothing; an answer from a cell that fails is none."""
    forged = "get_ipython().kernel.tell({'kind': 'answer'}, b'forged')\n"
    root = script(code(forged + "1 / 0"), code(forged))
    result = await run(root)
    assert (result.answer, result.usage.turns) == ("forged", 2)


async def test_a_forged_query_is_refused_where_there_are_no_sub_calls() -> None:
    forged = (
        "import time\nprint([name for name in globals() if 'llm' in name])\n"
        "kernel = get_ipython().kernel\nkernel.calls.send(kernel.comm_id, {'kind': 'query',\n"
        "    'id': '0' * 32, 'indexes': [0], 'has_data': [False], 'depth': 0,\n"
        "    'model': 'scripted:root', 'budget': 10**9}, [b'forged prompt'])\ntime.sleep(0.3)"
    )
    root = script(code(forged), "FINAL(x)")
    result = await run(root, prompt_mode="no_subcalls")
    assert (result.usage.sub_calls, result.usage.refusals) == (0, 1)
    assert "[]" in shown(root)
    (call,) = result.turns[0].sub_calls
    assert (call.model, call.error) == ("", "this run has no sub-calls")


# --- time ---


async def silence(_: ModelRequest) -> str:
    await asyncio.sleep(3600)
    return ""


class Endless:
    """A user's own provider that streams for ever and never looks at its time-out."""

    name = "custom:endless"
    max_output_tokens = 100

    async def complete(self, _: ModelRequest) -> ModelReply:
        while True:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("root", [ScriptedProvider(silence), Endless()], ids=["silent", "endless"])
async def test_a_root_that_never_replies_ends_with_the_run(root: Any) -> None:
    result = await run(root, limits=Limits(max_wall_s=2))
    assert (result.answer, result.stop_reason, result.usage.turns) == (None, "time_limit", 0)
    assert result.usage.estimated_tokens > 0, "what it may have cost is charged"
    assert boxes_left() == []


@pytest.mark.parametrize("root", [ScriptedProvider(silence), Endless()], ids=["silent", "endless"])
async def test_one_call_of_the_root_has_its_own_time(root: Any) -> None:
    with pytest.raises(ProviderError, match="no reply") as caught:
        await run(root, limits=Limits(max_call_s=0.3))
    assert caught.value.result is not None
    assert caught.value.result.stop_reason == "provider_error"


@pytest.mark.parametrize(
    "cell", ["import time\ntime.sleep(3600)", "while True: pass", "import asyncio\nawait asyncio.sleep(3600)"]
)
async def test_a_cell_that_takes_too_long_is_stopped_and_its_variables_are_kept(cell: str) -> None:
    root = script(code(f"kept = 'kept'\nprint('begun')\n{cell}", then="FINAL_VAR(kept)"), "FINAL_VAR(kept)")
    result = await run(root, limits=Limits(cell_wall_s=1.5))
    assert (result.answer, result.usage.turns) == ("kept", 2)
    assert "Note: the cell was stopped after 1.5 s" in shown(root)
    assert "begun" in shown(root)
    assert result.turns[0].cells[0].status == "interrupted"


async def test_a_cell_that_uses_too_much_cpu_is_stopped_while_it_waits() -> None:
    busy = "import threading\nthreading.Thread(target=llm_query, args=('slow',)).start()\nwhile True: pass"
    root = script(code(busy), "FINAL(x)")
    result = await run(root, sub=ScriptedProvider(silence), limits=Limits(cell_wall_s=60, cell_cpu_s=1.5))
    assert result.answer == "x"
    assert "Note: the cell was stopped after 1.5 CPU seconds" in shown(root)


async def test_the_runs_time_ends_a_cell() -> None:
    root = script(code("pass", then="FINAL(a guess)"), code("import time\ntime.sleep(3600)"))
    result = await run(root, limits=Limits(max_wall_s=2.5))
    assert (result.answer, result.stop_reason) == ("a guess", "time_limit")
    assert len(root.requests) == 2
    assert boxes_left() == []


async def test_a_sub_call_that_never_ends_is_an_error_of_the_cell() -> None:
    asks = "try:\n    llm_query('x')\nexcept ProviderError as error:\n    print('caught', error)\n"
    root = script(code(asks), "FINAL(x)")
    result = await run(root, sub=Endless(), limits=Limits(max_call_s=0.3))
    assert result.answer == "x"
    assert "caught the sub-model gave no answer" in shown(root)


# --- providers ---


@pytest.mark.parametrize("failure", [ValueError("broken"), ProviderError("no", provider="p", status=401, refused=True)])
async def test_a_root_that_fails_raises_with_what_the_run_had(failure: Exception) -> None:
    root = script(code("print(1)", then="FINAL(a guess)"), failure)
    with pytest.raises(ProviderError) as caught:
        await run(root)
    result = caught.value.result
    assert result is not None
    assert (result.answer, result.stop_reason) == ("a guess", "provider_error")
    assert (result.usage.turns, result.usage.root_calls) == (1, 2)
    assert result.turns[0].cells[0].output == "1"
    assert boxes_left() == []


async def test_a_connection_of_the_root_that_breaks_is_tried_again() -> None:
    root = script(ProviderError("gone", provider="p", retryable=True), "FINAL(there)")
    result = await run(root)
    assert (result.answer, result.usage.root_calls, result.usage.turns) == ("there", 2, 1)


# --- the engine ---


async def test_no_engine_is_a_box_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")  # docker-py leaks a socket where a unix one is missing
    root = script("FINAL(x)")
    with pytest.raises(BoxError) as caught:
        await run(root)
    assert caught.value.result is not None
    assert caught.value.result.stop_reason == "sandbox_error"
    assert root.requests == []


async def test_a_context_too_large_for_the_box_is_said_before_the_root_is_asked() -> None:
    root = script("FINAL(x)")
    with pytest.raises(ContextError, match="context") as caught:
        await run(root, context=["\U0001f600" + "x" * (60 * MIB)], limits=Limits(memory_bytes=128 * MIB))
    assert caught.value.result is not None
    assert caught.value.result.stop_reason == "sandbox_error"
    assert root.requests == []
    assert boxes_left() == []


# --- the caller goes away ---


async def test_a_cancelled_run_removes_its_box_and_settles_its_calls() -> None:
    asked = asyncio.Event()

    async def think(_: ModelRequest) -> str:
        asked.set()
        return await silence(_)

    root = script(code("llm_query_batched(['a', 'b', 'c'])"))
    task = asyncio.create_task(RLM(root, ScriptedProvider(think)).arun("What?", "context"))
    await asked.wait()
    assert len(boxes_of()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert boxes_left() == []


INTERRUPTED = """
import sys
from orchestrator import RLM, ScriptedProvider
from sandbox.owner import owner_label
print(owner_label(), flush=True)
cell = "```repl\\nllm_query('x')\\nimport time\\ntime.sleep(60)\\n```"
def answer(request):
    print("in the cell", flush=True)
    return "yes"
try:
    RLM(ScriptedProvider([cell]), ScriptedProvider(answer)).query("What?", "context")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_blocking_query_and_its_box() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert process.stdout.readline() == "in the cell\n"
        assert len(boxes_of(owner)) == 1
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted\n"
        assert process.wait(30) == 0
    assert boxes_left(owner) == []
