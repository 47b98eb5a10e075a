"""The wire's decoder under streams that were valid and have been changed, and under noise.

Each example is a stream of many frames: 100 examples of 10^3 frames each in `make test`, ten times as many in
`make test-long`. What must hold, whatever comes: only a `ProtocolViolation` ends a stream; what stood before the damage
is decoded as it was; how the stream was cut into reads changes nothing; and never is more held than a frame and a read.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.encoding import encode_frame
from sandbox.errors import ProtocolViolation
from sandbox.frames import MAX_FRAME_BYTES, FrameDecoder
from sandbox.messages import CALLS, CONTROL, DELIMITER, IOPUB, RELAY, SHELL, Message
from sandbox.protocol import decode
from sandbox.spec import KernelSettings
from sandbox.terms import Terms
from sandbox.tools import Tools, ToolSpec
from tests.fuzz.counted import decoded

COMM, CALL = "c" * 32, "0123456789abcdef" * 2
TOOLS = Tools(specs=(ToolSpec(name="lookup", argument_bytes=200),))
TERMS = Terms.of(COMM, KernelSettings(output_chars=100, tools=TOOLS))
STREAMS, FRAMES = 1000, 1000
READ_BYTES = 1 << 16

Frame = tuple[int, list[bytes]]

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**53, 2**64, 10**400, 0.5, -0.0, 1e308, "", "x", "\0", "\u202e", "é" * 70, "😀"),
    *(CALL, COMM, "idle", "busy", "ok", "error", "stdout", "query", "batch", "answer", "report", "tool", "lookup"),
    *([], [0], [True], [[]], [None] * 600, {}, {"a": {}}, {"msg_id": "p"}, {"airlock": {"stdout_chars": -1}}),
    {"kind": "query", "id": CALL, "indexes": [0], "has_data": [False]},
    {"kind": "tool", "id": CALL, "name": "lookup"},
]
RAW = [
    *(
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b"\xff",
        b"{}{}",
        b"nul",
    ),
    *(b'{"a":1,"a":2}', b"[" * 3000, b"[" * 2000 + b"]" * 2000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b"9" * 5000),
    *(b'"' + b"\\u0000" * 50 + b'"', b" " * 100),
]


def honest(rng: random.Random) -> Frame:
    """One frame that an honest box may send."""
    text = "".join(rng.choices("ab\n\u202e\x1b😀é", k=rng.randrange(20)))
    pick = rng.randrange(13)
    if pick == 0:
        return RELAY, [json.dumps({"event": "kernel_exit", "code": rng.randrange(-64, 256)}).encode()]
    return said(rng, pick, text) if pick < 9 else asked(rng, pick, text)


def said(rng: random.Random, pick: int, text: str) -> Frame:
    """What has no answer."""
    buffers: list[bytes] = []
    metadata: Any = {}
    content: Any
    channel, kind = IOPUB, "comm_msg"
    if pick in (1, 2):
        kind, content = "stream", {"name": rng.choice(["stdout", "stderr"]), "text": text}
    elif pick == 3:
        kind, content = "execute_result", {"data": {"text/plain": text, "text/html": text}}
    elif pick == 4:
        kind, content = "status", {"execution_state": rng.choice(["busy", "idle"])}
    elif pick == 5:
        content, buffers = {"comm_id": COMM, "data": {"kind": "answer"}}, [text.encode()]
    elif pick == 6:
        values = {"n": rng.random(), "l": [rng.getrandbits(40), None], "d": {"x": True}}
        content = {"comm_id": COMM, "data": {"kind": "report", "values": values}}
    elif pick == 7:
        channel, kind, content = SHELL, "airlock_value_reply", {"status": "ok"}
        buffers = [text.encode()]
    else:
        channel, kind = rng.choice([SHELL, CONTROL]), "execute_reply"
        content = {"status": "error", "ename": text, "evalue": text, "traceback": [text]}
        metadata = {"airlock": {"stdout_chars": rng.getrandbits(50), "error_line": 3}}
    return channel, jupyter(kind, {"msg_id": "p"}, metadata, content, buffers)


def asked(rng: random.Random, pick: int, text: str) -> Frame:
    """What a cell waits for, and a piece of a context on its way to a child run."""
    count = rng.randrange(1, 6)
    buffers = [text.encode()] * count
    data: Any = {"id": f"{rng.getrandbits(128):032x}"}
    if pick == 9:
        flags = [rng.random() < 0.5 for _ in range(count)]
        models = [rng.choice([None, "fast", text or "x"]) for _ in flags] if rng.random() < 0.5 else None
        data |= {"kind": "batch", "indexes": [*range(count)], "has_data": flags, "models": models}
        buffers = [text.encode()] * (count + sum(flags))
    elif pick == 10:
        data |= {"kind": "tool", "name": "lookup"}
        buffers = [json.dumps({"name": text}).encode()]
    elif pick == 11:
        data |= {"kind": "piece", "form": rng.choice(["text", "json"])}
        buffers = [text.encode()]
    else:
        uploads = [rng.choice([None, f"{rng.getrandbits(128):032x}"]) for _ in range(count)]
        data |= {"kind": "child", "indexes": [*range(count)], "uploads": uploads}
    return CALLS, jupyter("comm_msg", {"msg_id": "p"}, {}, {"comm_id": COMM, "data": data}, buffers)


def jupyter(kind: str, parent: Any, metadata: Any, content: Any, buffers: list[bytes]) -> list[bytes]:
    header = {"msg_type": kind, "msg_id": "m"}
    return [DELIMITER, b"", *(json.dumps(part).encode() for part in (header, parent, metadata, content)), *buffers]


# --- changes -------------------------------------------------------------------------------------------------------


def other_json(rng: random.Random, part: bytes) -> bytes:
    """A JSON part with another value in one of its places, of any depth."""
    try:
        value = json.loads(part)
    except (ValueError, RecursionError):
        return rng.choice(RAW)
    places: list[tuple[Any, Any]] = []

    def find(inside: Any) -> None:
        for key in inside if isinstance(inside, dict) else range(len(inside)) if isinstance(inside, list) else ():
            places.append((inside, key))
            find(inside[key])

    find(value)
    if not places or rng.random() < 0.1:
        return json.dumps(rng.choice(VALUES)).encode()
    where, key = rng.choice(places)
    if rng.random() < 0.3:
        del where[key]
    else:
        where[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(value).encode()


def changed_parts(rng: random.Random, frame: Frame) -> bytes:
    """The frame with a part changed, left out, doubled, moved or put on another channel; its lengths are right."""
    channel, parts = frame[0], list(frame[1])
    for _ in range(rng.randrange(1, 3)):
        at = rng.randrange(len(parts)) if parts else 0
        match rng.randrange(7):
            case 0 | 1 if parts:
                parts[at] = other_json(rng, parts[at])
            case 2 if parts:
                parts[at] = rng.choice(RAW)
            case 3 if parts:
                del parts[at]
            case 4:
                parts.insert(at, rng.choice([*parts, b"{}", DELIMITER]))
            case 5:
                rng.shuffle(parts)
            case _:
                channel = rng.randrange(256) if rng.random() < 0.3 else rng.randrange(CALLS + 1)
    return encode_frame(channel, parts)


def changed_bytes(rng: random.Random, frame: Frame) -> bytes:
    """The frame's bytes with bits flipped, bytes lost or added, or another length in front."""
    data = bytearray(encode_frame(*frame))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0 | 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                del data[at : at + rng.randrange(1, 8)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 8))
            case _:
                data[:4] = rng.choice([0, 1, len(data), rng.getrandbits(16), MAX_FRAME_BYTES, 2**32 - 1]).to_bytes(4)
        if not data:
            break
    return bytes(data)


def noise(rng: random.Random, _: Frame) -> bytes:
    """No frame at all, or one around noise."""
    data = rng.randbytes(rng.randrange(60))
    return data if rng.random() < 0.3 else len(data).to_bytes(4) + data


CHANGES: list[Callable[[random.Random, Frame], bytes]] = [changed_parts, changed_parts, changed_bytes, noise]


# --- what must hold ------------------------------------------------------------------------------------------------


def read(stream: bytes, cuts: Iterator[int]) -> tuple[list[Frame], bool]:
    """All frames of a stream that comes in reads of these sizes, and whether it ended in a violation."""
    decoder, frames, at = FrameDecoder(), [], 0
    try:
        while at < len(stream):
            size = next(cuts)
            for frame in decoder.feed(stream[at : at + size]):
                frames.append(frame)  # noqa: PERF402 - those before a violation count
            assert len(decoder._buffer) <= 4 + MAX_FRAME_BYTES
            at += size
    except ProtocolViolation:
        return frames, True
    return frames, False


def told(frame: Frame) -> Message | str:
    """What one frame says, or the violation's words."""
    try:
        return decode(*frame, TERMS)
    except ProtocolViolation as violation:
        said = str(violation)
    assert len(said) < 300
    return said


def cuts(rng: random.Random) -> Iterator[int]:
    while True:
        yield rng.choice([1, 2, 3, 5, 17, 100, 1000, READ_BYTES])


def whole() -> Iterator[int]:
    while True:
        yield READ_BYTES


def check_stream(seed: int) -> int:
    """One stream: valid frames, some of them changed so that their neighbours stay in their places. Frames decoded."""
    rng = random.Random(seed)
    frames = [honest(rng) for _ in range(FRAMES)]
    before = [decode(*frame, TERMS) for frame in frames]
    damaged = {n: rng.choice(CHANGES[:2])(rng, frames[n]) for n in rng.sample(range(FRAMES), FRAMES // 2)}
    stream = b"".join(damaged.get(n) or encode_frame(*frame) for n, frame in enumerate(frames))
    got, violated = read(stream, whole())
    assert not violated
    assert len(got) == FRAMES
    for n, frame in enumerate(got):
        message = told(frame)
        if n not in damaged:
            assert frame == frames[n]
            assert message == before[n]
    assert read(stream, cuts(rng)) == (got, violated)
    return len(got)


def check_damage(seed: int) -> int:
    """One stream that is damaged at one place, where frames may lose their bounds: what came before is whole."""
    rng = random.Random(seed)
    frames = [honest(rng) for _ in range(100)]
    at = rng.randrange(len(frames))
    pieces = [encode_frame(*frame) for frame in frames]
    pieces[at] = rng.choice(CHANGES[2:])(rng, frames[at])
    if rng.random() < 0.3:
        tail = pieces[at:]
        rng.shuffle(tail)
        pieces[at:] = tail
    stream = b"".join(pieces)
    if rng.random() < 0.3:
        stream = stream[: rng.randrange(len(stream))]
        at = 0
    got, violated = read(stream, whole())
    assert got[:at] == frames[:at]
    for frame in got:
        told(frame)
    assert read(stream, cuts(rng)) == (got, violated)
    return len(got)


def check_noise(seed: int) -> int:
    """Frames of noise and of broken JSON, in no order that means anything, until the bounds are lost too."""
    rng = random.Random(seed)
    pieces = []
    for _ in range(100):
        some = [DELIMITER, b"{}", *RAW, rng.randbytes(rng.randrange(40))]
        parts = rng.choices(some, k=rng.randrange(9))
        pieces.append(encode_frame(rng.randrange(CALLS + 1), parts))
    stream = b"".join([*pieces, noise(rng, (0, []))])
    got, violated = read(stream, whole())
    for frame in got:
        told(frame)
    assert read(stream, cuts(rng)) == (got, violated)
    return len(got)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("check", "share"), [(check_stream, 1.0), (check_damage, 3.0), (check_noise, 1.0)])
def test_only_violations_come_out_of_any_stream(
    check: Callable[[int], int], share: float, repeats: Callable[[int], int]
) -> None:
    examples = int(repeats(STREAMS) * share)
    frames = 0

    @settings(derandomize=True, database=None, max_examples=examples, deadline=None)
    @given(st.integers(0, 2**64 - 1))
    def run(seed: int) -> None:
        nonlocal frames
        frames += check(seed)

    run()
    decoded(check.__name__, frames)
    if check is check_stream:
        assert frames >= repeats(STREAMS) * FRAMES


def test_the_honest_frames_are_of_all_kinds() -> None:
    rng = random.Random(0)
    kinds = {type(decode(*frame, TERMS)).__name__ for frame in islice(iter(lambda: honest(rng), None), 500)}
    assert kinds == {"KernelExit", "Output", "Query", "Piece", "Answer", "Report", "Reply", "Idle", "Unread"}
