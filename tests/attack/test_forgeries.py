"""Messages that no honest kernel sends: each kills the box and says so, and a fresh one works."""

from __future__ import annotations

import asyncio

import pytest

from sandbox import kernel as kernel_module
from sandbox.errors import ProtocolViolation
from sandbox.spec import CellLimits
from tests.attack.forge import FORGE
from tests.attack.outcomes import works
from tests.boxes import Box, exists, never

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORGERIES = {
    "a message type": "send('display_data', {'data': {}})",
    "a request to the host": "send('execute_request', {'code': '1'})",
    "a question to the user": "send('input_request', {'prompt': 'key?', 'password': True})",
    "a comm id": "ask(query, [b'x'], comm='0' * 32)",
    "a kind of message": "ask(query | {'kind': 'run'}, [b'x'])",
    "a tool where there is none": "ask(query | {'kind': 'tool', 'name': 'lookup'}, [b'{}'])",
    "a second answer": "ask({'kind': 'answer'}, [b'one']); ask({'kind': 'answer'}, [b'two'])",
    "an answer too large": "ask({'kind': 'answer'}, [b'x' * (5 << 20)])",
    "an id in flight twice": "ask(query, [b'x']); ask(query, [b'x'])",
    "a model's name that is no name": "ask(query | {'models': ['m' * 65]}, [b'x'])",
    "a query without its prompt": "ask(query, [])",
    "a negative size": "reply(metadata={'airlock': {'stdout_chars': -1}})",
    "a second reply": "reply(); reply()",
    "a reply of another kind": "reply('airlock_value_reply')",
    "no JSON": "iopub.send_multipart([b'<IDS|MSG>', b'', b'{', b'{}', b'{}', b'{}'])",
    "no message": "iopub.send_multipart([b'x'])",
    "many parts": "iopub.send_multipart([b''] * 2000)",
    "9 MiB": "iopub.send_multipart([b'x' * (9 << 20)])",
    "deep JSON": "iopub.send_multipart([b'<IDS|MSG>', b'', b'[' * 60000, b'{}', b'{}', b'{}'])",
    "a flood of text": "while True: send('stream', {'name': 'stdout', 'text': 'x' * 60_000}); time.sleep(0.01)",
}


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_message_kills_the_box(box: Box, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_module, "MAX_BYTES_PER_CELL", 16 << 20)  # before its queue fills the box's memory
    container = box.container
    box.answer = never
    with pytest.raises(ProtocolViolation):
        await box.execute(FORGE + code + "\ntime.sleep(600)", CellLimits(wall_s=30, cpu_s=60))
    assert not box.alive
    assert not await exists(box.engine, container)
    with pytest.raises(ProtocolViolation):
        await box.execute("1")
    await box.restart()
    await works(box, lost=False)


async def test_a_message_forged_between_cells_ends_the_box_too(box: Box) -> None:
    container = box.container
    code = "threading.Thread(target=lambda: (time.sleep(0.3), send('display_data', {'data': {}}))).start()"
    assert (await box.execute(FORGE + code)).status == "ok"
    async with asyncio.timeout(20):
        while await exists(box.engine, container):
            await asyncio.sleep(0.05)
    with pytest.raises(ProtocolViolation):
        await box.execute("1")


async def test_a_forged_size_or_answer_is_only_the_boxs_word(box: Box) -> None:
    code = "send('stream', {'name': 'stdout', 'text': 'x' * 60_000})\nask({'kind': 'answer'}, [b'forged'])"
    result = await box.execute(FORGE + code)
    assert (len(result.stdout.text), result.stdout.true_chars) == (2000, 60_000)
    assert result.answer == "forged"
