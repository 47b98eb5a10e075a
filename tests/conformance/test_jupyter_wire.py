"""Our reading and writing of Jupyter's wire protocol against Jupyter's own implementation of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jupyter_client.jsonutil import json_clean
from jupyter_client.session import Session

from sandbox.encoding import encode_message, encode_results, new_id
from sandbox.frames import FrameDecoder
from sandbox.messages import (
    CALLS,
    CONTROL,
    IOPUB,
    SHELL,
    Answer,
    Asked,
    Idle,
    Message,
    Output,
    Query,
    Reply,
    SubCallFailure,
    Unread,
    Welcome,
)
from sandbox.protocol import decode
from sandbox.spec import KernelSettings
from sandbox.terms import Terms

COMM, CALL = "c" * 32, "a" * 32


@pytest.fixture
def session() -> Session:
    return Session(key=b"")


def written(session: Session, frame: bytes) -> tuple[int, dict[str, Any]]:
    """One of the host's frames as Jupyter reads it."""
    ((channel, parts),) = FrameDecoder().feed(frame)
    _, rest = session.feed_identities(parts)
    return channel, session.deserialize(rest)


def read(
    session: Session, channel: int, msg_type: str, content: dict[str, Any], *buffers: bytes, **fields: Any
) -> Message:
    """One of Jupyter's messages as the host reads it."""
    parent = session.msg("execute_request")
    parent["header"]["msg_id"] = "p"
    message = session.msg(msg_type, content, parent=parent, **fields)
    parts = session.serialize(message, ident=[b"kernel.topic"] if channel == IOPUB else None)
    return decode(channel, [*parts, *buffers], Terms.of(COMM, KernelSettings()))


@pytest.mark.parametrize(
    ("channel", "msg_type", "content"),
    [
        (SHELL, "execute_request", {"code": "print('é\u2028')", "silent": False, "user_expressions": {}}),
        (SHELL, "kernel_info_request", {}),
        (CONTROL, "comm_msg", {"comm_id": "c", "data": {"id": "i", "results": []}}),
        (SHELL, "airlock_value_request", {"name": "x", "form": "json", "max_bytes": 5}),
    ],
)
def test_jupyter_reads_what_we_write(session: Session, channel: int, msg_type: str, content: dict[str, Any]) -> None:
    msg_id = new_id()
    to, message = written(session, encode_message(channel, msg_type, content, msg_id=msg_id, buffers=[b"one", b"two"]))
    assert to == channel
    assert (message["msg_type"], message["msg_id"], message["content"]) == (msg_type, msg_id, content)
    assert message["parent_header"] == message["metadata"] == {}
    assert [bytes(buffer) for buffer in message["buffers"]] == [b"one", b"two"]
    assert message["header"].keys() == session.msg_header(msg_type).keys()
    assert message["header"]["version"].split(".")[0] == "5"
    assert message["header"]["date"].tzinfo is not None


def test_jupyter_reads_our_answers_to_sub_calls(session: Session) -> None:
    results: list[tuple[int, str | SubCallFailure]] = [(1, "text"), (0, SubCallFailure("ProviderError", "why"))]
    channel, message = written(session, encode_results(COMM, CALL, results))
    assert (channel, message["msg_type"]) == (CALLS, "comm_msg")
    assert message["content"]["comm_id"] == COMM
    assert message["content"]["data"]["id"] == CALL
    assert [bytes(buffer) for buffer in message["buffers"]] == [b"text"]


QUERY = {"kind": "query", "id": CALL, "indexes": [0], "has_data": [True]}
MESSAGES: list[tuple[int, str, dict[str, Any], tuple[bytes, ...], Message]] = [
    (IOPUB, "stream", {"name": "stdout", "text": "é\n"}, (), Output("p", "stdout", "é\n")),
    (IOPUB, "stream", {"name": "stderr", "text": "\x00\u2028"}, (), Output("p", "stderr", "\x00\u2028")),
    (
        IOPUB,
        "execute_result",
        {"execution_count": 1, "data": {"text/plain": "4", "text/html": "<b>4</b>"}, "metadata": {}},
        (),
        Output("p", "result", "4"),
    ),
    (IOPUB, "status", {"execution_state": "idle"}, (), Idle("p")),
    (IOPUB, "status", {"execution_state": "busy"}, (), Unread()),
    (IOPUB, "iopub_welcome", {"subscription": ""}, (), Welcome()),
    (IOPUB, "comm_open", {"comm_id": "x", "target_name": "y", "data": {}}, (), Unread()),
    (IOPUB, "comm_close", {"comm_id": "x", "data": {}}, (), Unread()),
    (CALLS, "comm_msg", {"comm_id": COMM, "data": QUERY}, (b"p", b"d"), Query(CALL, (0,), (Asked("p", "d"),))),
    (IOPUB, "comm_msg", {"comm_id": COMM, "data": {"kind": "answer"}}, (b"a",), Answer(b"a")),
    (SHELL, "kernel_info_reply", {"status": "ok", "banner": "x", "implementation": "y"}, (), Unread()),
]


@pytest.mark.parametrize(("channel", "msg_type", "content", "buffers", "expected"), MESSAGES)
def test_we_read_what_jupyter_writes(
    session: Session,
    channel: int,
    msg_type: str,
    content: dict[str, Any],
    buffers: tuple[bytes, ...],
    expected: Message,
) -> None:
    assert read(session, channel, msg_type, content, *buffers) == expected


@pytest.mark.parametrize(
    ("channel", "msg_type"),
    [
        (SHELL, "execute_reply"),
        (SHELL, "airlock_setup_reply"),
        (SHELL, "airlock_load_reply"),
        (SHELL, "airlock_value_reply"),
    ],
)
def test_we_read_jupyters_replies(session: Session, channel: int, msg_type: str) -> None:
    reply = read(session, channel, msg_type, {"status": "ok", "execution_count": 3, "payload": []})
    assert isinstance(reply, Reply)
    assert (reply.parent_id, reply.msg_type, reply.ok) == ("p", msg_type, True)
    failed = {"status": "error", "ename": "E", "evalue": "v", "traceback": ["one", "two"], "engine_info": {}}
    reply = read(session, channel, msg_type, failed, metadata={"airlock": {"stdout_chars": 3}, "started": "x"})
    assert isinstance(reply, Reply)
    assert (reply.ok, reply.error_name, reply.error_text, reply.traceback) == (False, "E", "v", "one\ntwo")
    assert reply.true_chars["stdout"] == 3


def test_a_signed_session_is_read_too(session: Session) -> None:
    """The signature proves nothing here, and so it is not looked at."""
    assert read(Session(key=b"key of the box"), IOPUB, "status", {"execution_state": "idle"}) == Idle("p")


def test_text_that_utf8_can_not_say_is_read_without_it(session: Session) -> None:
    """Jupyter writes a lone surrogate as it stands, which is no UTF-8."""
    message = session.msg("stream", json_clean({"name": "stdout", "text": "a\udc80b"}))
    parts = session.serialize(message)
    parts[-1] = json.dumps(message["content"], ensure_ascii=False).encode("utf-8", "surrogateescape")
    read_back = decode(IOPUB, parts, Terms.of(COMM, KernelSettings()))
    assert isinstance(read_back, Output)
    assert read_back.text == "a\ufffdb"
