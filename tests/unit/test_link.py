"""The byte stream of a box over a real socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from sandbox import link as link_module
from sandbox.encoding import encode_frame
from sandbox.errors import BoxGone, ProtocolViolation
from sandbox.link import Link

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """The host's streams and the box's end of a socket."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    yield reader, writer, theirs
    theirs.close()
    writer.transport.abort()
    await asyncio.sleep(0)


def chunk(stream: int, data: bytes) -> bytes:
    """As Docker wraps what a container without a terminal writes."""
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data


async def test_frames_arrive_and_end_with_the_stream(pair: Pair) -> None:
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=False)
    box.sendall(encode_frame(3, [b"a", b"b"]) + encode_frame(0, []) + encode_frame(1, [b"cut off"])[:-1])
    box.close()
    assert [frame async for frame in link.frames()] == [(3, [b"a", b"b"]), (0, [])]


async def test_dockers_chunks_may_cut_frames_anywhere_and_stderr_is_kept_apart(pair: Pair) -> None:
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=True)
    frames = encode_frame(3, [b"x" * 50]) + encode_frame(1, [b"y"])
    pieces = [chunk(1, frames[at : at + 7]) + chunk(2, b"err%d " % at) for at in range(0, len(frames), 7)]
    box.sendall(b"".join(pieces) + chunk(1, b"") + chunk(1, b"\0\0")[:5])
    box.close()
    assert [frame async for frame in link.frames()] == [(3, [b"x" * 50]), (1, [b"y"])]
    assert link.stderr.startswith(b"err0 err7 ")


async def test_of_stderr_only_the_end_is_kept(pair: Pair) -> None:
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=True)
    box.sendall(chunk(2, b"x" * 100_000 + b"end"))
    box.close()
    assert [frame async for frame in link.frames()] == []
    assert len(link.stderr) == 4096
    assert link.stderr.endswith(b"end")


async def test_stderr_without_end_is_a_violation(pair: Pair) -> None:
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=True)
    sending = asyncio.create_task(asyncio.to_thread(_flood_stderr, box))
    with pytest.raises(ProtocolViolation, match="on stderr"):
        [frame async for frame in link.frames()]
    link.abort()
    await sending
    assert len(link.stderr) == 4096


def _flood_stderr(box: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            box.sendall(chunk(2, b"x" * 10_000))


async def test_after_an_abort_nothing_is_written_or_read(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio logs a warning for each write to a transport that is lost, and a box may go on sending for ever."""
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=False)
    box.sendall(encode_frame(3, [b"x"]))
    await asyncio.sleep(0.01)
    link.abort()
    for _ in range(20):
        with pytest.raises(BoxGone):
            await link.send(b"x")
    assert [frame async for frame in link.frames()] == []
    assert caplog.records == []


async def test_bytes_that_are_no_frames_are_a_violation(pair: Pair) -> None:
    reader, writer, box = pair
    box.sendall(b"\0\0\0\0")
    with pytest.raises(ProtocolViolation):
        [frame async for frame in Link(reader, writer, multiplexed=False).frames()]


async def test_what_is_sent_arrives_whole_from_many_tasks(pair: Pair) -> None:
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=False)
    frames = [encode_frame(1, [bytes([n]) * 50_000]) for n in range(20)]
    sending = asyncio.gather(*(link.send(frame) for frame in frames))
    box.setblocking(False)
    got = b""
    while len(got) < sum(map(len, frames)):
        got += await asyncio.get_running_loop().sock_recv(box, 1 << 16)
    await sending
    assert sorted(got[at : at + len(frames[0])] for at in range(0, len(got), len(frames[0]))) == sorted(frames)


async def test_a_box_that_does_not_read_is_given_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "WRITE_TIMEOUT_S", 0.2)
    reader, writer, _box = pair
    link = Link(reader, writer, multiplexed=False)
    with pytest.raises(BoxGone, match="stopped reading"):
        await link.send(encode_frame(1, [b"x" * (16 << 20)]))
    with pytest.raises(BoxGone):
        await link.send(b"more")


async def test_a_box_that_has_closed_is_gone(pair: Pair) -> None:
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=False)
    box.close()
    frame = encode_frame(1, [b"x" * (4 << 20)])
    with pytest.raises(BoxGone):
        await asyncio.gather(*(link.send(frame) for _ in range(3)))


async def test_abort_is_the_end_of_the_boxs_input_and_may_come_twice(pair: Pair) -> None:
    reader, writer, box = pair
    link = Link(reader, writer, multiplexed=False)
    await link.send(b"last")
    link.abort()
    link.abort()
    await asyncio.sleep(0)
    assert box.recv(100) == b"last"
    assert box.recv(100) == b""
    assert [frame async for frame in link.frames()] == []
    with pytest.raises(BoxGone):
        await link.send(b"x")
