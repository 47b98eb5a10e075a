"""The relay alone: when it speaks, what it ignores, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq

from sandbox.encoding import encode_frame, encode_message, new_id
from sandbox.frames import FrameDecoder
from sandbox.messages import RELAY, SHELL
from tests.kernel.local_box import children_of, hello, spawn_relay

END_S = 10  # generous: a relay that does not end at all is what these tests look for


class RawRelay:
    """A relay and its frames, without `Link` or `Kernel`."""

    def __init__(self, process: Process, run_dir: Path) -> None:
        self.process = process
        self.run_dir = run_dir / "run"
        self.frames: list[tuple[int, list[bytes]]] = []
        self._decoder = FrameDecoder()

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)

    async def read(self) -> bool:
        assert self.process.stdout
        data = await self.process.stdout.read(1 << 16)
        self.frames += self._decoder.feed(data)
        return bool(data)

    async def until(self, words: bytes) -> None:
        """Read until some frame holds these bytes; also what came before counts."""
        while not any(words in b"|".join(parts) for _, parts in self.frames):
            assert await self.read(), f"the relay ended without {words!r}"

    async def greet(self) -> None:
        """Say hello, and wait until all output reaches us."""
        self.write(hello())
        await self.until(b"iopub_welcome")
        assert self.frames[0][0] == RELAY

    def execute(self, code: str) -> None:
        content = {"code": code, "silent": False, "allow_stdin": False, "stop_on_error": False}
        self.write(encode_message(SHELL, "execute_request", content, msg_id=new_id()))

    async def set_up(self) -> None:
        await self.greet()
        content = {
            "comm_id": "c" * 32,
            "functions": [],
            "output_chars": 1000,
            "prompt_bytes": 1000,
            "answer_bytes": 1000,
            "rlm_query": "raise",
            "tools": [],
            "module_dir": "",
            "modules": [],
        }
        self.write(encode_message(SHELL, "airlock_setup_request", content, msg_id=new_id()))
        await self.until(b"airlock_setup_reply")

    async def ended(self) -> int:
        """Its exit code; what it still says is kept."""
        async with asyncio.timeout(END_S):
            while await self.read():
                pass
            return await self.process.wait()


@pytest.fixture
async def relay() -> AsyncIterator[RawRelay]:
    run_dir = Path(tempfile.mkdtemp(prefix="box"))
    process = await spawn_relay(run_dir)
    raw = RawRelay(process, run_dir)
    kernel_pid = children_of(process.pid)[0]
    yield raw
    with contextlib.suppress(ProcessLookupError):
        os.killpg(kernel_pid, signal.SIGKILL)  # in a container the end of PID 1 does this
    assert process.stdin
    process.stdin.close()
    if process.returncode is None:
        process.kill()
    await process.communicate()
    shutil.rmtree(run_dir, ignore_errors=True)


async def test_it_says_nothing_before_the_hosts_hello(relay: RawRelay) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):  # longer than the kernel needs to come up and speak
            await relay.read()
    assert relay.frames == []
    await relay.set_up()
    assert json.loads(relay.frames[0][1][0])["event"] == "hello"


async def test_the_end_of_stdin_ends_it_and_its_kernel(relay: RawRelay) -> None:
    await relay.greet()
    assert relay.process.stdin
    relay.process.stdin.close()
    assert await relay.ended() == 0


async def test_the_end_of_stdin_ends_it_before_any_hello(relay: RawRelay) -> None:
    assert relay.process.stdin
    relay.process.stdin.close()
    assert await relay.ended() == 0


@pytest.mark.parametrize("code", ["while True: pass", "while True: print('x' * 10000)"])
async def test_the_end_of_stdin_ends_it_while_a_cell_runs(relay: RawRelay, code: str) -> None:
    await relay.set_up()
    relay.execute("print('go', flush=True)\n" + code)
    await relay.until(b'"text": "go')
    assert relay.process.stdin
    relay.process.stdin.close()
    assert await relay.ended() == 0


async def test_sigterm_ends_it(relay: RawRelay) -> None:
    await relay.greet()
    relay.process.send_signal(signal.SIGTERM)
    assert await relay.ended() == 0


async def test_all_other_signals_are_ignored(relay: RawRelay) -> None:
    await relay.set_up()
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM}):
        relay.process.send_signal(number)
    for _ in range(1000):
        relay.process.send_signal(signal.SIGCHLD)
    relay.execute("print('still', 'here', flush=True)")
    await relay.until(b"still here")
    assert relay.process.returncode is None


@pytest.mark.parametrize(
    ("code", "status"),
    [("import os; os._exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9), ("import os; os.abort()", -6)],
)
async def test_it_reports_how_the_kernel_ended_and_ends(relay: RawRelay, code: str, status: int) -> None:
    await relay.set_up()
    relay.execute("print('last words')")
    await relay.until(b"last words")
    relay.execute(code)
    assert await relay.ended() == 0
    assert relay.frames[-1][0] == RELAY
    assert json.loads(relay.frames[-1][1][0]) == {"event": "kernel_exit", "code": status}


async def test_it_says_so_when_the_kernel_never_came_up(relay: RawRelay) -> None:
    os.kill(children_of(relay.process.pid)[0], signal.SIGKILL)
    relay.write(hello())
    assert await relay.ended() == 0
    assert json.loads(relay.frames[-1][1][0]) == {"event": "kernel_exit", "code": -9}


@pytest.mark.parametrize(
    "data",
    [b"\0\0\0\0", (65 << 20).to_bytes(4) + b"\1", b"\xff\xff\xff\xff"],
    ids=["empty", "65 MiB", "4 GiB"],
)
async def test_a_frame_no_host_sends_ends_it(relay: RawRelay, data: bytes) -> None:
    await relay.greet()
    relay.write(data)
    await relay.ended()


async def test_frames_for_no_channel_are_dropped(relay: RawRelay) -> None:
    await relay.set_up()
    for channel in (3, 4, 5, 6, 255):
        relay.write(encode_frame(channel, [b"x"]))
    relay.execute("print('still', 'here', flush=True)")
    await relay.until(b"still here")


async def test_frames_arrive_in_any_pieces(relay: RawRelay) -> None:
    await relay.set_up()
    content = {"code": "print('piece', 'meal', flush=True)", "silent": False, "allow_stdin": False}
    for byte in encode_message(SHELL, "execute_request", content, msg_id=new_id()):
        relay.write(bytes([byte]))
        await asyncio.sleep(0)
    await relay.until(b"piece meal")


async def test_it_holds_no_more_than_a_few_mib_when_the_host_does_not_read(relay: RawRelay) -> None:
    """What the host does not take waits in the kernel, which dies first when memory runs out."""
    await relay.set_up()
    before = rss_mib(relay.process.pid)
    flood = (
        "import time\nsocket = get_ipython().kernel.iopub_socket\n"
        "for n in range(3000): socket.send_multipart([b'%06d' % n * 20_000])\n"
        "print('sent', flush=True)\ntime.sleep(600)"
    )
    relay.execute(flood)
    kernel_pid = children_of(relay.process.pid)[0]
    async with asyncio.timeout(END_S):
        while rss_mib(kernel_pid) + rss_mib(relay.process.pid) < 2 * before + 300:
            await asyncio.sleep(0.05)
    assert rss_mib(relay.process.pid) < before + 50


async def test_whoever_subscribes_while_output_is_sent_is_welcomed(relay: RawRelay) -> None:
    """The host waits for the welcome before its first request, and ipykernel can lose what calls for it."""
    await relay.set_up()
    relay.execute(
        "import time\nkernel = get_ipython().kernel\n"
        "while True: kernel.session.send(kernel.iopub_socket, 'status', {'execution_state': 'busy'}); time.sleep(0)"
    )
    reading = asyncio.create_task(read_all(relay))  # the box is a busy one
    with zmq.Context() as context:
        for number in range(1000):
            with context.socket(zmq.SUB) as subscriber:
                subscriber.linger = 0
                subscriber.subscribe(b"topic %d" % number)  # only of a new topic the kernel hears
                subscriber.connect(f"ipc://{relay.run_dir}/3")
                await asyncio.to_thread(wait_for_welcome, subscriber)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


def wait_for_welcome(subscriber: zmq.Socket[bytes]) -> None:
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        if subscriber.poll(100) and b"iopub_welcome" in b"".join(subscriber.recv_multipart()):
            return
    raise AssertionError("no welcome")


async def read_all(relay: RawRelay) -> None:
    while await relay.read():
        relay.frames.clear()


def rss_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
