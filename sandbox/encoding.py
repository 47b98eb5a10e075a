"""What the host sends to a box: frames of Jupyter messages. Unsigned, since the box holds no key worth the name."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sandbox.messages import CALLS, DELIMITER, SubCallFailure

PROTOCOL_VERSION: Final = "5.4"


def encode_frame(channel: int, parts: Sequence[bytes]) -> bytes:
    """One frame for the box."""
    pieces = [struct.pack(">IB", 1 + sum(4 + len(part) for part in parts), channel)]
    for part in parts:
        pieces += (struct.pack(">I", len(part)), part)
    return b"".join(pieces)


def encode_message(
    channel: int,
    msg_type: str,
    content: dict[str, Any],
    *,
    msg_id: str,
    buffers: Sequence[bytes] = (),
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """One Jupyter message for the kernel, as a frame. Unsigned: the kernel's key is empty."""
    header = {
        "msg_id": msg_id,
        "msg_type": msg_type,
        "username": "airlock",
        "session": "airlock",
        "date": datetime.now(UTC).isoformat(),
        "version": PROTOCOL_VERSION,
    }
    body = [msgspec.json.encode(part) for part in (header, {}, metadata or {}, content)]
    return encode_frame(channel, [DELIMITER, b"", *body, *buffers])


def encode_results(
    comm_id: str,
    call_id: str,
    results: Sequence[tuple[int, str | SubCallFailure]],
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """The host's answer to (a part of) a `Query`: pairs of the guest's index and a text or a failure."""
    entries: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for index, result in results:
        if isinstance(result, SubCallFailure):
            entries.append({"index": index, "error": result.kind, "message": encodable(result.message)})
        else:
            entries.append({"index": index})
            buffers.append(result.encode("utf-8", "replace"))
    content = {"comm_id": comm_id, "data": {"id": call_id, "results": entries}}
    return encode_message(CALLS, "comm_msg", content, msg_id=new_id(), buffers=buffers, metadata=metadata)


def new_id() -> str:
    """A 128-bit id that a box can't guess."""
    return secrets.token_hex(16)


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 does not have, as question marks."""
    return text.encode("utf-8", "replace").decode()
