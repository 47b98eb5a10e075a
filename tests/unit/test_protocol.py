"""Bytes from a box: whatever they are, they become a message of the table or a `ProtocolViolation`."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.encoding import encode_frame, encode_message, encode_results, new_id
from sandbox.errors import ProtocolViolation, ValueUnavailable
from sandbox.frames import MAX_FRAME_BYTES, MAX_PARTS, FrameDecoder
from sandbox.messages import (
    CALLS,
    CONTROL,
    DELIMITER,
    IOPUB,
    RELAY,
    SHELL,
    Answer,
    Asked,
    Hello,
    Idle,
    KernelExit,
    Message,
    Output,
    Query,
    Reply,
    SubCallFailure,
    Unread,
    Welcome,
)
from sandbox.protocol import (
    MAX_HEADER_BYTES,
    MAX_JSON_BYTES,
    decode,
    decode_json_value,
    decode_text,
)
from sandbox.shapes import MAX_BATCH
from sandbox.spec import KernelSettings
from sandbox.terms import Terms

COMM = "c" * 32
CALL = "0123456789abcdef" * 2
TERMS = Terms.of(COMM, KernelSettings())
SEEDED = settings(derandomize=True, max_examples=100, deadline=None)


def message(
    channel: int,
    msg_type: str,
    content: Any,
    *,
    parent: Any = {"msg_id": "p"},  # noqa: B006 - never changed
    metadata: Any = {},  # noqa: B006 - never changed
    buffers: tuple[bytes, ...] = (),
) -> Message:
    """Decode one well-formed message; the JSON parts may be given as bytes."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (parent, metadata, content)]
    header = json.dumps({"msg_type": msg_type, "msg_id": "m", "session": "s"}).encode()
    return decode(channel, [DELIMITER, b"", header, *parts, *buffers], TERMS)


def comm(data: Any, *buffers: bytes, comm_id: str = COMM) -> Message:
    channel = IOPUB if data.get("kind") in ("answer", "report") else CALLS
    return message(channel, "comm_msg", {"comm_id": comm_id, "data": data}, buffers=buffers)


class TestFrames:
    FRAMES: ClassVar = [(3, [b"a", b"", b"\0" * 30]), (0, [b"{}"]), (255, []), (1, [b"x" * 100])]

    @SEEDED
    @given(st.lists(st.integers(0, 200), max_size=20))
    def test_frames_come_out_of_any_chunks_as_they_went_in(self, cuts: list[int]) -> None:
        stream = b"".join(encode_frame(channel, parts) for channel, parts in self.FRAMES)
        edges = [0, *sorted(cuts), len(stream)]
        decoder, out = FrameDecoder(), []
        for start, end in pairwise(edges):
            out += list(decoder.feed(stream[start:end]))
        assert out == self.FRAMES

    @SEEDED
    @given(st.lists(st.binary(max_size=50)))
    def test_any_bytes_are_frames_or_a_violation(self, chunks: list[bytes]) -> None:
        decoder = FrameDecoder()
        try:
            for chunk in chunks:
                for channel, parts in decoder.feed(chunk):
                    assert 0 <= channel <= 255
                    assert all(isinstance(part, bytes) for part in parts)
        except ProtocolViolation:
            pass

    @SEEDED
    @given(st.binary(min_size=1, max_size=60))
    def test_any_frame_body_is_parts_or_a_violation(self, body: bytes) -> None:
        try:
            ((channel, parts),) = FrameDecoder().feed(len(body).to_bytes(4) + body)
        except ProtocolViolation:
            return
        assert encode_frame(channel, parts) == len(body).to_bytes(4) + body

    @pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**31, 2**32 - 1])
    def test_an_illegal_length_is_refused_from_its_four_bytes(self, length: int) -> None:
        with pytest.raises(ProtocolViolation, match="a frame of"):
            list(FrameDecoder().feed(length.to_bytes(4)))

    def test_the_largest_legal_frame_passes(self) -> None:
        part = b"x" * (MAX_FRAME_BYTES - 5)
        assert list(FrameDecoder().feed(encode_frame(3, [part]))) == [(3, [part])]

    @pytest.mark.parametrize("body", [b"\3\0", b"\3\0\0\0", b"\3\0\0\0\2x", b"\3\xff\xff\xff\xff", b"\3\0\0\0\1xyy"])
    def test_parts_that_do_not_add_up_are_refused(self, body: bytes) -> None:
        with pytest.raises(ProtocolViolation, match="part"):
            list(FrameDecoder().feed(len(body).to_bytes(4) + body))

    def test_the_number_of_parts_is_bounded(self) -> None:
        assert len(next(FrameDecoder().feed(encode_frame(3, [b""] * MAX_PARTS)))[1]) == MAX_PARTS
        with pytest.raises(ProtocolViolation, match="parts"):
            list(FrameDecoder().feed(encode_frame(3, [b""] * (MAX_PARTS + 1))))

    def test_it_holds_one_frame_and_one_read_at_most(self) -> None:
        decoder = FrameDecoder()
        chunk = b"x" * (1 << 16)
        tracemalloc.start()
        try:
            for _ in range(3):  # three frames of the largest size, which never end within one read
                assert (
                    list(decoder.feed((MAX_FRAME_BYTES).to_bytes(4) + b"\3" + (MAX_FRAME_BYTES - 5).to_bytes(4))) == []
                )
                sent = 5
                while sent < MAX_FRAME_BYTES:
                    piece = chunk[: MAX_FRAME_BYTES - sent]
                    sent += len(piece)
                    frames = list(decoder.feed(piece))
                    assert len(decoder._buffer) <= MAX_FRAME_BYTES + len(chunk)
                assert len(frames) == 1
                del frames
            assert len(decoder._buffer) == 0
            assert tracemalloc.get_traced_memory()[1] < 5 * MAX_FRAME_BYTES
        finally:
            tracemalloc.stop()

    def test_a_violation_in_a_later_frame_keeps_the_earlier_ones(self) -> None:
        frames = FrameDecoder().feed(encode_frame(0, [b"{}"]) + b"\0\0\0\0")
        assert next(frames) == (0, [b"{}"])
        with pytest.raises(ProtocolViolation):
            next(frames)


class TestLegalMessages:
    @pytest.mark.parametrize(
        ("event", "decoded"),
        [
            ({"event": "hello", "kernel_pid": 7}, Hello()),
            ({"event": "kernel_exit", "code": 0}, KernelExit(0)),
            ({"event": "kernel_exit", "code": -9}, KernelExit(-9)),
            ({"event": "kernel_exit", "code": 255, "more": [1]}, KernelExit(255)),
        ],
    )
    def test_of_the_relay(self, event: Any, decoded: Message) -> None:
        assert decode(RELAY, [json.dumps(event).encode()], TERMS) == decoded

    @pytest.mark.parametrize(
        ("msg_type", "content", "decoded"),
        [
            ("stream", {"name": "stdout", "text": "o"}, Output("p", "stdout", "o")),
            ("stream", {"name": "stderr", "text": ""}, Output("p", "stderr", "")),
            ("execute_result", {"data": {"text/plain": "4", "text/html": "<b>"}}, Output("p", "result", "4")),
            ("execute_result", {"data": {}}, Output("p", "result", "")),
            ("status", {"execution_state": "idle"}, Idle("p")),
            ("status", {"execution_state": "busy"}, Unread()),
            ("status", {"execution_state": "starting"}, Unread()),
            ("iopub_welcome", {}, Welcome()),
            ("comm_open", {"anything": 1}, Unread()),
            ("comm_close", {}, Unread()),
        ],
    )
    def test_on_iopub(self, msg_type: str, content: Any, decoded: Message) -> None:
        assert message(IOPUB, msg_type, content) == decoded

    def test_what_a_cell_asks(self) -> None:
        one = {"kind": "query", "id": CALL, "indexes": [4], "has_data": [False]}
        assert comm(one, b"p") == Query(CALL, (4,), (Asked("p"),))
        batch = {"kind": "batch", "id": CALL, "indexes": [0, 7], "has_data": [True, False]}
        assert comm(batch, b"a", b"d", b"b\xff") == Query(CALL, (0, 7), (Asked("a", "d"), Asked("b\ufffd")))
        named = batch | {"models": ["m" * 64, None]}
        assert comm(named, b"a", b"d", b"b") == Query(CALL, (0, 7), (Asked("a", "d", "m" * 64), Asked("b")))
        assert comm(one | {"models": ["\u202e"]}, b"p") == Query(CALL, (4,), (Asked("p", None, "\u202e"),))
        full = {"kind": "batch", "id": CALL, "indexes": [0] * MAX_BATCH, "has_data": [True] * MAX_BATCH}
        assert isinstance(comm(full, *[b"x"] * 2 * MAX_BATCH), Query)
        assert comm({"kind": "answer"}, "é".encode()) == Answer("é".encode())

    @pytest.mark.parametrize("channel", [SHELL, CONTROL])
    def test_replies(self, channel: int) -> None:
        sizes = {"airlock": {"stdout_chars": 5, "result_chars": 2**53}}
        reply = message(channel, "execute_reply", {"status": "ok"}, metadata=sizes)
        assert isinstance(reply, Reply)
        assert (reply.parent_id, reply.msg_type, reply.ok, reply.buffers) == ("p", "execute_reply", True, ())
        assert reply.true_chars == {"stdout": 5, "stderr": 0, "result": 2**53}
        content = {"status": "error", "ename": "E", "evalue": "v", "traceback": ["a", "b"]}
        reply = message(channel, "airlock_value_reply", content, buffers=(b"1", b"2"))
        assert isinstance(reply, Reply)
        assert (reply.ok, reply.error_name, reply.error_text, reply.traceback) == (False, "E", "v", "a\nb")
        assert reply.true_chars == {"stdout": 0, "stderr": 0, "result": 0}
        assert reply.buffers == (b"1", b"2")
        assert message(channel, "kernel_info_reply", {"junk": 1}) == Unread()

    def test_identities_before_the_delimiter_are_skipped(self) -> None:
        body = [b"", b'{"msg_type":"iopub_welcome"}', b"{}", b"{}", b"{}"]
        assert decode(IOPUB, [b"kernel.x.stream", DELIMITER, *body], TERMS) == Welcome()
        assert decode(IOPUB, [b"1", b"2", DELIMITER, *body], TERMS) == Welcome()

    def test_invalid_utf8_is_replaced(self) -> None:
        assert message(IOPUB, "stream", b'{"name":"stdout","text":"a\xed\xb2\x80b"}') == Output(
            "p", "stdout", "a\ufffd\ufffd\ufffdb"
        )

    def test_of_a_double_key_the_last_counts(self) -> None:
        assert message(IOPUB, "stream", b'{"name":"stdout","text":"1","text":"2"}') == Output("p", "stdout", "2")


DEEP = b"[" * 100_000 + b"]" * 100_000
QUERY = {"kind": "query", "id": CALL, "indexes": [0], "has_data": [False]}

ILLEGAL: dict[str, Any] = {
    "a relay event in two parts": lambda: decode(RELAY, [b"{}", b"{}"], TERMS),
    "a relay event in no part": lambda: decode(RELAY, [], TERMS),
    "an unknown relay event": lambda: decode(RELAY, [b'{"event":"bye"}'], TERMS),
    "an exit code out of range": lambda: decode(RELAY, [b'{"event":"kernel_exit","code":256}'], TERMS),
    "an exit code that is no integer": lambda: decode(RELAY, [b'{"event":"kernel_exit","code":1.5}'], TERMS),
    "no parts": lambda: decode(IOPUB, [], TERMS),
    "no delimiter": lambda: decode(IOPUB, [b"", b"{}", b"{}", b"{}", b"{}"], TERMS),
    "a late delimiter": lambda: decode(IOPUB, [b"", b"", b"", DELIMITER, b"", b"{}", b"{}", b"{}", b"{}"], TERMS),
    "parts missing": lambda: decode(IOPUB, [DELIMITER, b"", b"{}", b"{}", b"{}"], TERMS),
    "no message type": lambda: decode(IOPUB, [DELIMITER, b"", b"{}", b"{}", b"{}", b"{}"], TERMS),
    "a header that is no JSON": lambda: decode(IOPUB, [DELIMITER, b"", b"x", b"{}", b"{}", b"{}"], TERMS),
    "a header that is a list": lambda: decode(IOPUB, [DELIMITER, b"", b"[]", b"{}", b"{}", b"{}"], TERMS),
    "a message type too long": lambda: message(IOPUB, "s" * 65, {}),
    "a parent id too long": lambda: message(IOPUB, "iopub_welcome", {}, parent={"msg_id": "x" * 65}),
    "a parent id that is a number": lambda: message(IOPUB, "iopub_welcome", {}, parent={"msg_id": 5}),
    "a parent that is null": lambda: message(IOPUB, "iopub_welcome", {}, parent=None),
    "a header too large": lambda: message(IOPUB, "iopub_welcome", {}, parent={"x": "y" * MAX_HEADER_BYTES}),
    "prompts too large": lambda: comm(QUERY, b"x" * (TERMS.query_bytes + 1)),
    "a reply too large": lambda: message(
        SHELL, "execute_reply", {"status": "error", "traceback": ["x"] * (MAX_JSON_BYTES // 4)}
    ),
    "a content too large": lambda: message(IOPUB, "stream", {"name": "stdout", "text": "y" * TERMS.output_bytes}),
    "a type out of the table": lambda: message(IOPUB, "display_data", {"data": {}}),
    "an error message": lambda: message(IOPUB, "error", {"ename": "x"}),
    "the echo of a cell": lambda: message(IOPUB, "execute_input", {"code": "x"}),
    "a request on iopub": lambda: message(IOPUB, "execute_request", {}),
    "a reply on iopub": lambda: message(IOPUB, "execute_reply", {"status": "ok"}),
    "a request on shell": lambda: message(SHELL, "execute_request", {"code": "x"}),
    "output on shell": lambda: message(SHELL, "stream", {"name": "stdout", "text": "x"}),
    "a query among the output": lambda: message(IOPUB, "comm_msg", {"comm_id": COMM, "data": QUERY}, buffers=(b"p",)),
    "an answer among the calls": lambda: message(
        CALLS, "comm_msg", {"comm_id": COMM, "data": {"kind": "answer"}}, buffers=(b"a",)
    ),
    "output among the calls": lambda: message(CALLS, "stream", {"name": "stdout", "text": "x"}),
    "a reply among the calls": lambda: message(CALLS, "execute_reply", {"status": "ok"}),
    "a comm message on shell": lambda: message(SHELL, "comm_msg", {"comm_id": COMM, "data": QUERY}),
    "an unknown reply": lambda: message(SHELL, "complete_reply", {"status": "ok"}),
    "an input request": lambda: message(4, "input_request", {"prompt": "password"}),
    "a channel that is none": lambda: message(255, "execute_reply", {"status": "ok"}),
    "an unknown stream": lambda: message(IOPUB, "stream", {"name": "stdlog", "text": "x"}),
    "a stream without text": lambda: message(IOPUB, "stream", {"name": "stdout"}),
    "text that is a number": lambda: message(IOPUB, "stream", {"name": "stdout", "text": 5}),
    "a result that is a list": lambda: message(IOPUB, "execute_result", {"data": []}),
    "an unknown state": lambda: message(IOPUB, "status", {"execution_state": "restarting"}),
    "a status that is neither": lambda: message(SHELL, "execute_reply", {"status": "aborted"}),
    "a traceback of numbers": lambda: message(SHELL, "execute_reply", {"status": "error", "traceback": [1]}),
    "a negative size": lambda: message(
        SHELL, "execute_reply", {"status": "ok"}, metadata={"airlock": {"stdout_chars": -1}}
    ),
    "a huge size": lambda: message(
        SHELL, "execute_reply", {"status": "ok"}, metadata={"airlock": {"stdout_chars": 10**30}}
    ),
    "a size of more digits than Python reads": lambda: message(
        SHELL, "execute_reply", {"status": "ok"}, metadata=b'{"airlock":{"stdout_chars":' + b"9" * 100_000 + b"}}"
    ),
    "a size that is a fraction": lambda: message(
        SHELL, "execute_reply", {"status": "ok"}, metadata={"airlock": {"stdout_chars": 0.5}}
    ),
    "a size that is NaN": lambda: message(
        SHELL, "execute_reply", {"status": "ok"}, metadata=b'{"airlock":{"stdout_chars":NaN}}'
    ),
    "deep JSON": lambda: message(IOPUB, "stream", DEEP),
    "deep JSON in a field nobody reads": lambda: message(
        IOPUB, "stream", b'{"name":"stdout","text":"","x":' + DEEP + b"}"
    ),
    "a deep header": lambda: message(IOPUB, "stream", {}, parent=DEEP[:30_000] + DEEP[-30_000:]),
    "an escaped lone surrogate": lambda: message(IOPUB, "stream", b'{"name":"stdout","text":"\\ud800"}'),
    "a forged comm id": lambda: comm(QUERY, b"p", comm_id="d" * 32),
    "no comm id": lambda: message(CALLS, "comm_msg", {"data": QUERY}, buffers=(b"p",)),
    "an unknown kind": lambda: comm(QUERY | {"kind": "tool"}, b"p"),
    "no kind": lambda: comm({"id": CALL, "indexes": [0], "has_data": [False]}, b"p"),
    "no data": lambda: message(CALLS, "comm_msg", {"comm_id": COMM}, buffers=(b"p",)),
    "a call id that is short": lambda: comm(QUERY | {"id": "0" * 31}, b"p"),
    "a call id with a line break": lambda: comm(QUERY | {"id": CALL + "\n"}, b"p"),
    "a call id that is no hex": lambda: comm(QUERY | {"id": "g" * 32}, b"p"),
    "a negative index": lambda: comm(QUERY | {"indexes": [-1]}, b"p"),
    "an index that is huge": lambda: comm(QUERY | {"indexes": [10**20]}, b"p"),
    "an index that is true": lambda: comm(QUERY | {"indexes": [True]}, b"p"),
    "no index": lambda: comm(QUERY | {"indexes": []}, b"p"),
    "a query of two": lambda: comm(QUERY | {"indexes": [0, 1], "has_data": [False, False]}, b"p", b"q"),
    "a batch of none": lambda: comm(QUERY | {"kind": "batch", "indexes": [], "has_data": []}),
    "a batch of too many": lambda: comm(
        QUERY | {"kind": "batch", "indexes": [0] * (MAX_BATCH + 1), "has_data": [False] * (MAX_BATCH + 1)},
        *[b""] * (MAX_BATCH + 1),
    ),
    "indexes and data of two lengths": lambda: comm(QUERY | {"kind": "batch", "has_data": [False, False]}, b"p", b"q"),
    "a model's name that is long": lambda: comm(QUERY | {"models": ["m" * 65]}, b"p"),
    "a model's name that is empty": lambda: comm(QUERY | {"models": [""]}, b"p"),
    "a model that is no name": lambda: comm(QUERY | {"models": [7]}, b"p"),
    "one model for all": lambda: comm(QUERY | {"models": "m"}, b"p"),
    "no models": lambda: comm(QUERY | {"models": []}, b"p"),
    "models and indexes of two lengths": lambda: comm(QUERY | {"kind": "batch", "models": ["m", "m"]}, b"p"),
    "a buffer too few": lambda: comm(QUERY | {"has_data": [True]}, b"p"),
    "a buffer too many": lambda: comm(QUERY, b"p", b"q"),
    "no buffer": lambda: comm(QUERY),
    "an answer without text": lambda: comm({"kind": "answer"}),
    "an answer in two parts": lambda: comm({"kind": "answer"}, b"a", b"b"),
}


@pytest.mark.parametrize("forge", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_an_illegal_message_is_a_violation(forge: Any) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        forge()
    assert len(str(caught.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "msg_type": st.sampled_from(
            ("stream", "status", "comm_msg", "execute_reply", "execute_result", "airlock_value_reply", "error")
        ),
        "msg_id": JSON,
        "name": st.sampled_from(("stdout", "stderr", 1)),
        "text": JSON,
        "execution_state": st.sampled_from(("idle", "busy", None)),
        "comm_id": st.sampled_from((COMM, "x")),
        "status": st.sampled_from(("ok", "error", "x")),
        "traceback": JSON,
        "airlock": JSON,
        "data": JSON
        | st.fixed_dictionaries(
            {"kind": st.sampled_from(("query", "batch", "answer", "x"))},
            optional={
                "id": st.sampled_from((CALL, "x")),
                "indexes": st.lists(st.integers(-1, 5), max_size=3),
                "has_data": st.lists(st.booleans(), max_size=3),
            },
        ),
    },
)
PART = st.binary(max_size=30) | FIELDS.map(lambda value: json.dumps(value).encode())
PARTS = st.lists(PART, max_size=9) | st.tuples(st.just(DELIMITER), PART, PART, PART, PART, PART, PART).map(list)


@settings(SEEDED, max_examples=500)
@given(st.integers(0, 5), PARTS)
def test_any_parts_are_a_message_or_a_violation(channel: int, parts: list[bytes]) -> None:
    try:
        decoded = decode(channel, parts, TERMS)
    except ProtocolViolation:
        return
    assert isinstance(decoded, Message)


class TestValues:
    @SEEDED
    @given(JSON)
    def test_what_json_carries_comes_back(self, value: Any) -> None:
        raw = json.dumps(value).encode()
        if b"NaN" in raw or b"Infinity" in raw:
            text_only = json.dumps(json.loads(raw, parse_constant=lambda _: None)).encode()
            if text_only != raw:
                with pytest.raises(ProtocolViolation):
                    decode_json_value(raw)
                return
        assert decode_json_value(raw) == value

    @SEEDED
    @given(st.binary(max_size=40))
    def test_any_bytes_are_a_value_or_an_error_of_ours(self, raw: bytes) -> None:
        assert isinstance(decode_text(raw), str)
        with contextlib.suppress(ProtocolViolation, ValueUnavailable):
            decode_json_value(raw)

    @pytest.mark.parametrize(
        "raw", [b"", b"{", b"nul", b"\xff", b'"\xff"', b"[1,]", b"NaN", b"[Infinity]", b"-Infinity"]
    )
    def test_no_json_is_a_violation(self, raw: bytes) -> None:
        with pytest.raises(ProtocolViolation):
            decode_json_value(raw)

    @pytest.mark.parametrize("raw", [DEEP, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b"9" * 100_000])
    def test_what_python_does_not_parse_is_an_unavailable_value(self, raw: bytes) -> None:
        with pytest.raises(ValueUnavailable) as caught:
            decode_json_value(raw)
        assert not caught.value.undefined

    @pytest.mark.parametrize("raw", [b"[" + b"[]," * 10**6 + b"1]", b"[" + b'{"a":1},' * 500_000 + b"1]"])
    def test_what_grows_to_a_hundred_megabytes_is_an_unavailable_value(self, raw: bytes) -> None:
        with pytest.raises(ValueUnavailable, match="items"):
            decode_json_value(raw)

    @pytest.mark.parametrize("value", [",[{" * 10**6, 'a"\\b,' * 500_000, [123456] * 500_000])
    def test_what_only_looks_so_is_a_value(self, value: Any) -> None:
        assert decode_json_value(json.dumps(value).encode()) == value

    def test_lone_surrogates_are_kept(self) -> None:
        assert decode_json_value(b'"\\ud800"') == "\ud800"


def test_ids_are_long_and_never_the_same() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(value) for value in ids} == {32}


def test_results_carry_texts_as_buffers_and_failures_as_words() -> None:
    frame = encode_results(COMM, CALL, [(3, "text \ud800"), (0, SubCallFailure("LimitExceeded", "no \ud800"))])
    ((channel, parts),) = FrameDecoder().feed(frame)
    assert channel == CALLS
    assert json.loads(parts[2])["msg_type"] == "comm_msg"
    assert json.loads(parts[5]) == {
        "comm_id": COMM,
        "data": {
            "id": CALL,
            "results": [{"index": 3}, {"index": 0, "error": "LimitExceeded", "message": "no ?"}],
        },
    }
    assert parts[6:] == [b"text ?"]


def test_the_hosts_frames_are_frames() -> None:
    frame = encode_message(SHELL, "execute_request", {"code": "é"}, msg_id="i", buffers=[b"1", b""])
    ((channel, parts),) = FrameDecoder().feed(frame)
    assert (channel, len(parts)) == (SHELL, 8)
