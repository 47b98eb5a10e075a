"""The only place where bytes from a box become anything else.

The bytes are hostile: the box holds no secret of ours, so a signature would prove nothing, and a cell can write any
frame it likes. Every length is checked before memory is taken for it, every message must stand in the table of legal
types, and only the fields we read are looked at. Whatever an honest box would never send is a `ProtocolViolation`,
for which the caller kills the box. Identity never comes from a message: whose box it is, the caller knows.

Channel 0 belongs to the relay (JSON), the others carry Jupyter messages: identities, ``<IDS|MSG>``, signature, header,
parent header, metadata, content, buffers. `sandbox.frames` cuts the stream.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from sandbox import shapes
from sandbox.errors import ProtocolViolation, ValueUnavailable
from sandbox.messages import (
    CALLS,
    CONTROL,
    DELIMITER,
    IOPUB,
    RELAY,
    SHELL,
    Answer,
    Asked,
    AskedTool,
    Hello,
    Idle,
    KernelExit,
    Message,
    Output,
    Piece,
    Query,
    Reply,
    Report,
    Unread,
    Welcome,
)
from sandbox.terms import Terms
from sandbox.value_size import fits_memory
from sandbox.variables import Variable, Variables

MAX_JSON_BYTES: Final = 320 << 10
"""All other JSON: an error's name, text and traceback as the kernel clips them, a batch's indexes, a full report."""
MAX_HEADER_BYTES: Final = 64 << 10
MAX_PIECE_BYTES: Final = 1 << 20
"""Of a context on its way to a child run."""

_T = TypeVar("_T")


def decode(channel: int, parts: list[bytes], terms: Terms) -> Message:
    """Turn one frame into a message.

    Args:
        channel: The frame's channel.
        parts: The frame's parts.
        terms: What the box was told.

    Raises:
        ProtocolViolation: The message is not one of the legal types, or not well-formed.
    """
    if channel == RELAY:
        return _decode_relay(parts)
    try:
        start = parts.index(DELIMITER, 0, 3) + 2
        raw_header, raw_parent, raw_metadata, raw_content = parts[start : start + 4]
    except ValueError:
        raise ProtocolViolation("not a Jupyter message") from None
    msg_type = _json(raw_header, shapes.Header, MAX_HEADER_BYTES).msg_type
    parent_id = _json(raw_parent, shapes.Parent, MAX_HEADER_BYTES).msg_id
    buffers = parts[start + 4 :]
    if channel == IOPUB:
        return _decode_iopub(msg_type, parent_id, raw_content, buffers, terms)
    if channel == CALLS and msg_type == "comm_msg":
        return _decode_call(raw_content, buffers, terms)
    if channel in (SHELL, CONTROL) and msg_type.endswith("_reply"):
        return _decode_reply(msg_type, parent_id, raw_metadata, raw_content, buffers)
    raise ProtocolViolation(f"message type {msg_type[:64]!a} on channel {channel}")


def _decode_relay(parts: list[bytes]) -> Message:
    if len(parts) != 1:
        raise ProtocolViolation("the relay speaks in one part")
    event = _json(parts[0], shapes.RelayEvent, MAX_HEADER_BYTES)
    return Hello() if event.event == "hello" else KernelExit(event.code)


def _decode_iopub(msg_type: str, parent_id: str, content: bytes, buffers: list[bytes], terms: Terms) -> Message:
    match msg_type:
        case "stream":
            stream = _json(content, shapes.Stream, terms.output_bytes)
            return Output(parent_id, stream.name, stream.text)
        case "execute_result":
            return Output(parent_id, "result", _json(content, shapes.Result, terms.output_bytes).data.text)
        case "status":
            return Idle(parent_id) if _json(content, shapes.Status).execution_state == "idle" else Unread()
        case "comm_msg":
            return _decode_told(content, buffers, terms)
        case "iopub_welcome":
            return Welcome()
        case "comm_open" | "comm_close":
            return Unread()
    raise ProtocolViolation(f"message type {msg_type[:64]!a} on iopub")


def _decode_reply(msg_type: str, parent_id: str, metadata: bytes, content: bytes, buffers: list[bytes]) -> Message:
    if msg_type not in _REPLIES:
        raise ProtocolViolation(f"reply type {msg_type[:64]!a}")
    if msg_type == "kernel_info_reply":
        return Unread()
    reply = _json(content, shapes.ReplyContent)
    facts = _json(metadata, shapes.Metadata, MAX_HEADER_BYTES).airlock
    return Reply(
        parent_id=parent_id,
        msg_type=msg_type,
        ok=reply.status == "ok",
        error_name=reply.ename,
        error_text=reply.evalue,
        traceback="\n".join(reply.traceback),
        true_chars={"stdout": facts.stdout_chars, "stderr": facts.stderr_chars, "result": facts.result_chars},
        error_line=facts.error_line,
        buffers=tuple(buffers) if msg_type == "airlock_value_reply" else (),
    )


_REPLIES: Final = frozenset(
    {
        "execute_reply",
        "airlock_setup_reply",
        "airlock_load_reply",
        "airlock_value_reply",
        "kernel_info_reply",
    }
)


def _decode_told(content: bytes, buffers: list[bytes], terms: Terms) -> Message:
    """What has no answer, in its order with the cell's output."""
    told = _json(content, shapes.Told)
    _check_comm(told.comm_id, terms)
    if isinstance(told.data, shapes.Report):
        return Report(told.data.values)
    if len(buffers) != 1:
        raise ProtocolViolation("an answer has one buffer")
    return Answer(buffers[0])


def _decode_call(content: bytes, buffers: list[bytes], terms: Terms) -> Message:
    """What a cell waits for, and the pieces of contexts that belong to it."""
    call = _json(content, shapes.Call)
    _check_comm(call.comm_id, terms)
    data = call.data
    if isinstance(data, shapes.Piece):
        if len(buffers) != 1 or len(buffers[0]) > MAX_PIECE_BYTES:
            raise ProtocolViolation(f"a piece of a context has one buffer of at most {MAX_PIECE_BYTES:,} bytes")
        return Piece(data.id, data.form, buffers[0])
    if isinstance(data, shapes.Tool):
        return _decode_tool(data, buffers, terms)
    if sum(map(len, buffers)) > terms.query_bytes:
        raise ProtocolViolation(f"prompts of {sum(map(len, buffers)):,} bytes; {terms.query_bytes:,} are legal")
    return _decode_child(data, buffers) if isinstance(data, shapes.Child) else _decode_query(data, buffers)


def _check_comm(comm_id: str, terms: Terms) -> None:
    if comm_id != terms.comm_id:
        raise ProtocolViolation("a message on a comm that the host did not give")


def _decode_tool(asked: shapes.Tool, buffers: list[bytes], terms: Terms) -> Query:
    most = terms.tools.get(asked.name)
    if most is None:
        raise ProtocolViolation(f"a call of {asked.name!a}, a tool that the host did not give")
    if len(buffers) != 1 or len(buffers[0]) > most:
        raise ProtocolViolation(f"a call of a tool has one buffer, of at most {most:,} bytes here")
    return Query(asked.id, (0,), (AskedTool(asked.name, buffers[0]),))


def _decode_child(asked: shapes.Child, buffers: list[bytes]) -> Query:
    if not len(asked.indexes) == len(asked.uploads) == len(buffers):
        raise ProtocolViolation("a child run's buffers do not match its questions")
    questions = tuple(Asked(_text(buffer), upload) for buffer, upload in zip(buffers, asked.uploads, strict=True))
    return Query(asked.id, tuple(asked.indexes), questions, child=True)


def _decode_query(asked: shapes.Query | shapes.Batch, buffers: list[bytes]) -> Query:
    count = len(asked.has_data)
    models = asked.models or [None] * count
    if not len(asked.indexes) == len(models) == count or len(buffers) != count + sum(asked.has_data):
        raise ProtocolViolation("a query's buffers do not match its prompts")
    texts = iter(_text(buffer) for buffer in buffers)
    return Query(
        asked.id,
        tuple(asked.indexes),
        tuple(
            Asked(next(texts), next(texts) if has_data else None, model)
            for has_data, model in zip(asked.has_data, models, strict=True)
        ),
    )


def decode_variables(raw: bytes) -> Variables:
    """A box's list of its variables.

    Raises:
        ProtocolViolation: It is not one.
    """
    said = _json(raw, shapes.Variables)
    listed = tuple(Variable(name=one.name, type_name=one.type, size=one.size) for one in said.listed)
    return Variables(count=said.count, listed=listed)


def decode_json_value(raw: bytes) -> Any:
    """A variable's value. Lone surrogates are kept. Its size was capped by the frame.

    Raises:
        ValueUnavailable: Nested deeper, or with an integer longer, than Python's parser takes; or it would take more
            than `sandbox.value_size.MAX_VALUE_MEMORY_BYTES`.
        ProtocolViolation: Not JSON in ASCII; NaN and infinities are none.
    """
    try:
        return decode_json_text(raw.decode("ascii"))
    except UnicodeDecodeError:
        raise ProtocolViolation("a value that is not JSON") from None


def decode_json_text(text: str, *, unique: bool = False) -> Any:
    """An answer, or a tool's arguments, that should be JSON.

    Args:
        text: What it should be.
        unique: Whether an object that has a name twice is none; else the last one counts.

    Raises:
        As `decode_json_value`, but whoever asked for the text alone broke no protocol with it.
    """
    import json  # msgspec refuses the lone surrogates that an honest value may hold

    def refuse(token: str) -> None:
        raise ProtocolViolation(f"a value that is not JSON: {token}")

    if not fits_memory(text.encode("utf-8", "surrogatepass")):
        raise ValueUnavailable("it has too many items, or too long a text with emoji or the like", undefined=False)
    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=_unique if unique else None)
    except json.JSONDecodeError:
        raise ProtocolViolation("a value that is not JSON") from None
    except (ValueError, RecursionError):  # a cell may raise its own Python's bounds
        raise ValueUnavailable("it is nested too deep or too long a number", undefined=False) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ProtocolViolation("a value that is not JSON: a name twice in one object")
    return made


def decode_text(raw: bytes) -> str:
    """A variable's value as answer text."""
    return _text(raw)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _json(raw: bytes, kind: type[_T], max_bytes: int = MAX_JSON_BYTES) -> _T:
    if len(raw) > max_bytes:
        raise ProtocolViolation(f"{len(raw):,} bytes of JSON; {max_bytes:,} are legal")
    try:
        return msgspec.json.decode(raw, type=kind)
    except UnicodeDecodeError:
        return _json(_text(raw).encode(), kind, max_bytes)
    except (msgspec.MsgspecError, RecursionError):  # whose text may repeat the box's
        raise ProtocolViolation(f"not a legal {kind.__name__}") from None
