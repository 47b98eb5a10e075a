"""A variable's value, as a kernel hands it out."""

from __future__ import annotations

import re
from typing import Final

from sandbox.errors import ProtocolViolation, ValueUnavailable
from sandbox.messages import Reply

_TOO_LARGE: Final = re.compile(r"([0-9]{1,15}) bytes of at most [0-9]{1,15}\Z")


def value_in(reply: Reply, *, most_bytes: int, has_bytes: bool = True) -> bytes:
    """The bytes in the answer to ``airlock_value_request``.

    Args:
        reply: The answer.
        most_bytes: What was asked for at most.
        has_bytes: Whether there must be any.

    Raises:
        ValueUnavailable: There is no such variable, or it can't be had.
        ProtocolViolation: The answer has no bytes, or more than were asked for.
    """
    if not reply.ok:
        size = _TOO_LARGE.match(reply.error_text) if reply.error_name == "TooLarge" else None
        raise ValueUnavailable(
            f"{quote(reply.error_name)}: {quote(reply.error_text)}",
            undefined=reply.error_name == "NameError",
            size_bytes=int(size[1]) if size else None,
        )
    if has_bytes and (len(reply.buffers) != 1 or len(reply.buffers[0]) > most_bytes):
        raise ProtocolViolation("a value without its bytes, or with too many")
    return reply.buffers[0] if reply.buffers else b""


def quote(text: str) -> str:
    """A few words of the box, safe to show."""
    return text[:200].encode("unicode_escape").decode()
