"""Cells that attack: each ends within its limits with what it was said to end with, and the next cell works."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from sandbox import kernel as kernel_module
from sandbox import sandbox as sandbox_module
from sandbox.cell import CellResult
from sandbox.errors import BoxGone, ProtocolViolation, ValueUnavailable
from sandbox.host import Host
from sandbox.spec import MIB, CellLimits
from tests.boxes import SMALL, Box, exists, never

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = CellLimits(wall_s=0.5)
UNSTOPPED = "it did not stop when interrupted"


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How a cell may end, and what it says then."""

    status: str
    clock: str | None = None
    lost_because: str | None = None
    error: str | None = None

    def fits(self, result: CellResult) -> bool:
        return (
            result.status == self.status
            and result.clock == self.clock
            and (self.lost_because or "") in (result.lost_because or "")
            and (self.error is None or (result.error is not None and result.error.name == self.error))
        )


INTERRUPTED = Ends(status="interrupted", clock="wall")
LOST = Ends(status="lost", clock="wall", lost_because=UNSTOPPED)

NEVER_ENDING = {
    "a loop": ("while True: pass", INTERRUPTED),
    "a loop that swallows interrupts": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        LOST,
    ),
    "SIGINT ignored": ("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", LOST),
    "SIGINT masked and handled": (
        "import signal as s\ns.pthread_sigmask(s.SIG_BLOCK, {2}); s.signal(2, lambda *a: None)\nwhile True: pass",
        LOST,
    ),
    "a loop in C that holds Python's lock": ("sum(range(10**12))", LOST),
    "a regular expression that explodes": ("import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')", INTERRUPTED),
    "a number that explodes": ("9 ** 9 ** 9", INTERRUPTED),
    "a program": ("import subprocess\nsubprocess.run(['sleep', '600'])", INTERRUPTED),
    "a finalizer": ("class D:\n    def __del__(self):\n        while True: pass\nD()\nNone", None),
    "threads that print": (
        (
            "import threading\ndef f():\n    while True: print('x' * 100)\n"
            "for _ in range(20): threading.Thread(target=f, daemon=True).start()\nwhile True: pass"
        ),
        INTERRUPTED,
    ),
}


@pytest.mark.parametrize(("code", "ends"), NEVER_ENDING.values(), ids=NEVER_ENDING.keys())
async def test_what_never_ends_is_ended(box: Box, code: str, ends: Ends | None) -> None:
    result = await box.execute(code, SHORT)
    assert (ends or INTERRUPTED).fits(result) or (ends is None and LOST.fits(result)), result
    if "threading.Thread" in code:
        await box.kill()  # its threads go on
    await works(box, lost=not box.alive)


async def works(box: Box, *, lost: bool) -> None:
    """The next cell works, in a fresh box where the old one is lost."""
    assert box.alive is not lost
    if lost:
        with pytest.raises(BoxGone):
            await box.execute("1")
        await box.restart()
    assert await box.shown("6 * 7") == "42"


async def test_waiting_for_an_answer_that_never_comes_buys_no_cpu_time(box: Box) -> None:
    box.answer = never
    code = "import threading\nthreading.Thread(target=llm_query, args=('x',), daemon=True).start()\nwhile True: pass"
    result = await box.execute(code, CellLimits(wall_s=1, wait_s=600, cpu_s=2))
    assert Ends(status="interrupted", clock="cpu").fits(result), result
    await works(box, lost=False)


async def test_waiting_for_an_answer_that_never_comes_is_bought_for_a_total(box: Box) -> None:
    box.answer = never
    result = await box.execute("llm_query('x')", CellLimits(wall_s=0.5, wait_s=1))
    assert INTERRUPTED.fits(result), result
    await works(box, lost=False)


DYING = {
    "SIGKILL to itself": ("import os\nos.kill(os.getpid(), 9)", "the kernel died by signal 9"),
    "an abort": ("import os\nos.abort()", "the kernel died by signal 6"),
    "a bad pointer": ("import ctypes\nctypes.string_at(0)", "the kernel died by signal 11"),
    "an exit": ("import os\nos._exit(3)", "the kernel exited"),
    "an allocation of 4 GB": ("x = b'x' * (4 << 30)", "out of memory: the box has 512 MiB"),
    "lists without end": ("x = []\nwhile True: x.append(bytes(1 << 20))", "out of memory: the box has 512 MiB"),
}


@pytest.mark.parametrize(("code", "why"), DYING.values(), ids=DYING.keys())
async def test_what_kills_the_kernel_is_named(box: Box, code: str, why: str) -> None:
    result = await box.execute(code, CellLimits(wall_s=20))
    assert Ends(status="lost", lost_because=why).fits(result), result
    await works(box, lost=True)


async def test_closing_every_file_loses_at_most_the_box(box: Box) -> None:
    result = await box.execute("import os\nos.closerange(0, 1024)", SHORT)
    assert result.status == "lost", result
    await works(box, lost=True)


async def test_no_signal_reaches_pid_1_and_none_goes_to_all(box: Box) -> None:
    code = (
        "import os, signal\nsent = []\n"
        "for pid in (1, -1):\n"
        "    for number in sorted(signal.valid_signals()):\n"
        "        try: os.kill(pid, number); sent.append((pid, number))\n"
        "        except PermissionError: pass\n"
        "sent"
    )
    assert await box.shown(code) == "[]"
    await works(box, lost=False)


async def test_orphans_are_reaped(box: Box) -> None:
    code = (
        "import os, time\n"
        "for _ in range(600):\n"
        "    if (child := os.fork()) == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "'no orphan fills the table of processes'"
    )
    assert "no orphan" in await box.shown(code)


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


@pytest.mark.parametrize("code", ["print('x' * 200_000_000)", "for _ in range(20_000): print('x' * 9_999)"])
async def test_200_mb_printed_are_cut_and_lose_nothing(box: Box, code: str) -> None:
    await box.execute("kept = 9")
    result = await box.execute(code)
    assert result.status == "ok", result
    assert result.stdout.true_chars in (200_000_000, 200_000_001)
    assert len(result.stdout.text) == 2000
    assert await box.shown("kept") == "9"


async def test_input_has_nobody_to_ask(box: Box) -> None:
    assert Ends(status="error", error="StdinNotImplementedError").fits(await box.execute("input('key? ')"))


@pytest.mark.parametrize("form", ["json_value", "answer_text", "has_value"])
async def test_a_value_that_never_ends_costs_at_most_the_box(
    box: Box, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "VALUE_TIMEOUT_S", 1.0)
    await box.execute(
        "class Endless(dict):\n"
        "    def items(self):\n        while True: pass\n"
        "    def __str__(self):\n        while True: pass\n"
        "    __repr__ = __reduce__ = __len__ = __iter__ = __bool__ = __str__\n"
        "x = Endless(a=1)\n"
        "class Names(dict):\n    def __contains__(self, name):\n        while True: pass\n"
        + ("get_ipython().user_ns = Names(get_ipython().user_ns)" if form == "has_value" else "")
    )
    with pytest.raises(ValueUnavailable) as caught:
        await getattr(box, form)("x")
    assert not caught.value.undefined
    await works(box, lost=True)


BREAKING = {
    "no stdout": "import sys\ndel sys.stdout, sys.stderr",
    "no builtins": "import builtins\nfor n in list(vars(builtins)): delattr(builtins, n)",
    "other builtins": "import builtins\nfor n in list(vars(builtins)): setattr(builtins, n, None)",
    "no modules": "import sys\nsys.modules.clear()",
    "no namespace": "globals().clear()",
    "no shell": "get_ipython().kernel.shell = None",
    "no scaffold": "get_ipython().kernel.scaffold = None",
    "no iopub": "get_ipython().kernel.iopub_thread.stop()",
    "another meta path": "import sys\nsys.meta_path.clear(); sys.path.clear(); sys.path_hooks.clear()",
    "a trace": "import sys, threading\nsys.settrace(lambda *a: 1/0); threading.settrace(lambda *a: 1/0)",
    "no recursion": "import sys\nsys.setrecursionlimit(60)",
    "comm closed": "for comm in list(get_ipython().kernel.comm_manager.comms.values()): comm.close()",
    "no comm": "get_ipython().kernel.comm_manager.comms.clear()",
    "another comm": "from ipykernel.comm import Comm\nComm(target_name='mine', data={'x': 1})",
}


@pytest.mark.parametrize("code", BREAKING.values(), ids=BREAKING.keys())
async def test_breaking_the_kernel_costs_at_most_the_box(box: Box, code: str) -> None:
    """Whatever it does to itself: the cell and the one after it end, and a fresh box works."""
    limits = CellLimits(wall_s=0.5, wait_s=0.5)
    first = await box.execute(code, limits)
    if first.status != "lost":
        await box.execute("print(llm_query('x'))", limits)
    await box.restart()
    assert (await box.execute("print(llm_query('x'))")).stdout.text == "<x>\n"


FORGE = (
    "import os, threading, time\nkernel = get_ipython().kernel\nsession, iopub = kernel.session, kernel.iopub_socket\n"
    "parent = kernel.get_parent()\n(comm_id,) = kernel.comm_manager.comms\n"
    "def send(kind, content=None, comm=comm_id, **k): session.send(iopub, kind, content or {}, parent=parent, **k)\n"
    "def ask(data, buffers, comm=comm_id):\n"
    "    send('comm_msg', {'comm_id': comm, 'data': data}, buffers=buffers)\n"
    "def reply(kind='execute_reply', **k):\n"
    "    ident = kernel._shell_parent_ident.get()\n"
    "    session.send(kernel.shell_stream.socket, kind, {'status': 'ok'}, parent=parent, ident=ident, **k)\n"
    "query = {'kind': 'query', 'id': '0' * 32, 'indexes': [0], 'has_data': [False]}\n"
)
FORGERIES = {
    "a message type": "send('display_data', {'data': {}})",
    "a request to the host": "send('execute_request', {'code': '1'})",
    "a question to the user": "send('input_request', {'prompt': 'key?', 'password': True})",
    "a comm id": "ask(query, [b'x'], comm='0' * 32)",
    "a kind of message": "ask(query | {'kind': 'tool'}, [b'x'])",
    "a second answer": "ask({'kind': 'answer'}, [b'one']); ask({'kind': 'answer'}, [b'two'])",
    "an answer too large": "ask({'kind': 'answer'}, [b'x' * (5 << 20)])",
    "an id in flight twice": "ask(query, [b'x']); ask(query, [b'x'])",
    "a query without its prompt": "ask(query, [])",
    "a negative size": "reply(metadata={'airlock': {'stdout_chars': -1}})",
    "a second reply": "reply(); reply()",
    "a reply of another kind": "reply('airlock_value_reply')",
    "no JSON": "iopub.send_multipart([b'<IDS|MSG>', b'', b'{', b'{}', b'{}', b'{}'])",
    "no message": "iopub.send_multipart([b'x'])",
    "many parts": "iopub.send_multipart([b''] * 2000)",
    "9 MiB": "iopub.send_multipart([b'x' * (9 << 20)])",
    "deep JSON": "iopub.send_multipart([b'<IDS|MSG>', b'', b'[' * 60000, b'{}', b'{}', b'{}'])",
    "a flood of text": "while True: send('stream', {'name': 'stdout', 'text': 'x' * 3_000_000})",
}
FLOOD_OF_PROMPTS = (
    "batch = {'kind': 'batch', 'indexes': [0] * 500, 'has_data': [False] * 500}\n"
    "while True: ask(batch | {'id': os.urandom(16).hex()}, [b''] * 500)"
)


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_message_kills_the_box(box: Box, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_module, "MAX_BYTES_PER_CELL", 64 << 20)  # a flood is the same, and shorter
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
    code = "send('stream', {'name': 'stdout', 'text': 'x' * 100_000})\nask({'kind': 'answer'}, [b'forged'])"
    result = await box.execute(FORGE + code)
    assert (len(result.stdout.text), result.stdout.true_chars) == (2000, 100_000)
    assert result.answer == "forged"


async def test_a_box_with_more_memory_holds_more(box_host: Host) -> None:
    """The control to `out of memory`: the limit is the spec's, not the machine's."""
    async with await Box.open(box_host, replace(SMALL, memory_bytes=900 * MIB)) as large:
        assert isinstance(large, Box)
        assert await large.shown("len(bytes(600 << 20))") == str(600 << 20)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "never answered"])
async def test_a_flood_of_prompts_ends_as_one_or_by_a_clock_or_for_want_of_memory(box: Box, answered: bool) -> None:
    """What the host has not read yet waits in the box's own memory; which bound comes first is the machine's choice."""
    if not answered:
        box.answer = never
    code = FORGE + FLOOD_OF_PROMPTS
    try:
        result = await box.execute(code, CellLimits(wall_s=20, wait_s=600, cpu_s=5))
    except ProtocolViolation:
        pass  # the host counted too many prompts
    else:
        assert result.status in ("interrupted", "lost"), result
        assert result.clock == "cpu" or "out of memory" in (result.lost_because or ""), result
    await box.restart()
    await works(box, lost=False)
