"""Cuts the byte stream of a box into frames, by their lengths alone. What is in them, `sandbox.protocol` decodes.

A frame is ``u32 length | u8 channel | parts``, a part is ``u32 length | bytes``, big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from sandbox.errors import ProtocolViolation

MAX_FRAME_BYTES: Final = (4 << 20) + (64 << 10)
"""Largest frame of an honest box: one prompt, answer or value of 4 MiB with its envelope."""
MAX_PARTS: Final = 1100
"""Most parts of an honest frame: a batch of 500 prompts with their data, and the envelope."""

_LENGTH: Final = struct.Struct(">I")


class FrameDecoder:
    """Cuts the byte stream of one box into frames; holds at most one frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (channel, parts) for each frame that `data` completes.

        Raises:
            ProtocolViolation: A frame is empty, too long, or its parts do not add up.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= 4:
                (length,) = _LENGTH.unpack_from(buffer, at)
                if not 1 <= length <= MAX_FRAME_BYTES:
                    raise ProtocolViolation(f"a frame of {length:,} bytes; 1 to {MAX_FRAME_BYTES:,} are legal")
                end = at + 4 + length
                if len(buffer) < end:
                    return
                frame = buffer[at + 4], _split_parts(buffer, at + 5, end)
                at = end
                if length > len(data):  # a large one: give its bytes back before they become a message
                    del buffer[:at]
                    at = 0
                yield frame
        finally:
            del buffer[:at]  # once: deleting frame by frame is quadratic for many small ones


def _split_parts(buffer: bytearray, at: int, end: int) -> list[bytes]:
    parts: list[bytes] = []
    with memoryview(buffer) as view:
        while at < end:
            if len(parts) == MAX_PARTS or at + 4 > end:
                raise ProtocolViolation("a frame's parts do not add up")
            (length,) = _LENGTH.unpack_from(buffer, at)
            at += 4
            if at + length > end:
                raise ProtocolViolation("a part is longer than its frame")
            parts.append(bytes(view[at : at + length]))
            at += length
    return parts
