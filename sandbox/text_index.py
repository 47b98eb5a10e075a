"""Where the characters and lines of a UTF-8 text are, counted once, for `images/kernel/lazy_file.py` in the box.

For each block of 64 KiB the index says how many characters and newlines stand before it. With that the box finds any
character or line of a text of any size by looking into one block. Nothing is decoded here but to check it.
"""

from __future__ import annotations

import codecs
from array import array
from dataclasses import dataclass
from typing import Final

from sandbox.errors import NotUtf8

BLOCK_BYTES: Final = 64 * 1024
"""Of text for each entry. Finding a character decodes one block, which takes 30 microseconds; an index of such blocks
has 0.025 % of the text's size."""
CHUNK_BYTES: Final = 1024 * 1024
"""Read at once; a multiple of `BLOCK_BYTES`."""

_CONTINUATION: Final = bytes(range(0x80, 0xC0))
"""Bytes that begin no character."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCounts:
    """What a text has.

    Attributes:
        chars: Unicode code points, as `len` of a str counts them.
        newlines: Line feeds (U+000A).
    """

    chars: int
    newlines: int


class TextIndex:
    """Counts a text that comes in chunks.

    Args:
        block_bytes: Of text for each entry.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._size_bytes = 0
        self._chars = 0
        self._newlines = 0
        self._chars_before = array("Q")
        self._newlines_before = array("Q")

    def add(self, chunk: bytes) -> None:
        """Count what comes next. Every chunk but the last is a multiple of the block's size."""
        ascii_only = chunk.isascii()
        for start in range(0, len(chunk), self._block_bytes):
            end = min(start + self._block_bytes, len(chunk))
            self._chars_before.append(self._chars)
            self._newlines_before.append(self._newlines)
            self._chars += end - start if ascii_only else len(chunk[start:end].translate(None, _CONTINUATION))
            self._newlines += chunk.count(b"\n", start, end)
        self._size_bytes += len(chunk)

    @property
    def counts(self) -> TextCounts:
        """Of all that was added."""
        return TextCounts(chars=self._chars, newlines=self._newlines)

    def to_bytes(self) -> bytes:
        """The index as the box reads it: unsigned numbers of 64 bits in this machine's order.

        The block's size, the text's size, its characters and newlines; then for each block the characters before it,
        and for each block the newlines before it.
        """
        header = array("Q", [self._block_bytes, self._size_bytes, self._chars, self._newlines])
        return (header + self._chars_before + self._newlines_before).tobytes()


class Utf8Check:
    """Checks that a text which comes in chunks is UTF-8, with no more memory than for one chunk.

    Args:
        offset: Of the first chunk in its file.
    """

    def __init__(self, offset: int = 0) -> None:
        self._taken = offset
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        """Check what comes next.

        Raises:
            NotUtf8: It is not; names the first wrong byte.
        """
        if not self._rest and chunk.isascii():
            self._taken += len(chunk)
            return
        self._check(self._rest + chunk, final=False)

    def finish(self) -> None:
        """Check that the text has not ended within a character.

        Raises:
            NotUtf8: It has.
        """
        self._check(self._rest, final=True)

    def _check(self, data: bytes, *, final: bool) -> None:
        try:
            _, used = codecs.utf_8_decode(data, "strict", final)
        except UnicodeDecodeError as error:
            offset = self._taken + error.start
            raise NotUtf8(offset=offset, byte=data[error.start]) from None
        self._taken += used
        self._rest = data[used:]
