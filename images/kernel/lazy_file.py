"""A UTF-8 file whose characters and lines can be found without reading all of it.

An index that the host made says how many characters and newlines stand before each block of the file, so any of them is
found by looking into one block. Everything is read in windows: one step through a large file could not be interrupted.
"""

import codecs
import mmap
from bisect import bisect_right
from typing import Any

CONTINUATION = bytes(range(0x80, 0xC0))  # bytes that begin no character
WINDOW_BYTES = 1 << 20
SPARE_BYTES = 96 << 20  # of the box's memory, for all that is not one large str


class IndexedFile:
    """The file. Offsets are bytes, positions are characters."""

    def __init__(self, path: str, index_path: str, memory_bytes: int = 0) -> None:
        self._memory_bytes = memory_bytes
        numbers = memoryview(mapped(index_path)).cast("Q")
        self._block, self.size, self.chars, self.newlines = numbers[:4].tolist()
        blocks = (len(numbers) - 4) // 2
        self._chars_before = numbers[4 : 4 + blocks]
        self._newlines_before = numbers[4 + blocks :]
        self._raw = memoryview(mapped(path))

    def window(self, start: int, end: int) -> bytes:
        """The bytes from `start` on, a window of them at most."""
        return bytes(self._raw[start : min(end, start + WINDOW_BYTES)])

    def _in_block(self, number: int) -> tuple[int, int, bool]:
        """Where a block begins and ends, and whether all in it is ASCII."""
        start = number * self._block
        end = min(start + self._block, self.size)
        after = self._chars_before[number + 1] if number + 1 < len(self._chars_before) else self.chars
        return start, end, after - self._chars_before[number] == end - start

    def offset_of(self, char: int) -> int:
        """The byte at which a character begins; of the length, the size."""
        if char >= self.chars:
            return self.size
        number = bisect_right(self._chars_before, char) - 1
        inside = char - self._chars_before[number]
        start, end, is_ascii = self._in_block(number)
        if is_ascii:
            return start + inside
        while self._raw[start] & 0xC0 == 0x80:  # the end of a character of the block before
            start += 1
        text, _ = codecs.utf_8_decode(self._raw[start:end], "surrogatepass", False)
        return start + len(text[:inside].encode("utf-8", "surrogatepass"))

    def char_at(self, offset: int) -> int:
        """The character that begins at a byte; of the size, the length."""
        if offset >= self.size:
            return self.chars
        number = offset // self._block
        start, _, is_ascii = self._in_block(number)
        inside = offset - start if is_ascii else len(bytes(self._raw[start:offset]).translate(None, CONTINUATION))
        return self._chars_before[number] + inside

    def line_at(self, offset: int) -> int:
        """How many newlines stand before a byte."""
        if offset >= self.size:
            return self.newlines
        number = offset // self._block
        start, _, _ = self._in_block(number)
        return self._newlines_before[number] + bytes(self._raw[start:offset]).count(b"\n")

    def line_begin(self, line: int) -> int:
        """The byte at which a line begins; `line` is 0 to the number of newlines."""
        if not line:
            return 0
        number = bisect_right(self._newlines_before, line - 1) - 1
        start, end, _ = self._in_block(number)
        block = bytes(self._raw[start:end])
        inside = 0
        for _ in range(line - self._newlines_before[number]):
            inside = block.find(b"\n", inside) + 1
        return start + inside

    def line_end(self, start: int) -> int:
        """The byte of the newline that ends the line which begins at `start`, or the size."""
        end = self.find(b"\n", start, self.size)
        return self.size if end < 0 else end

    def text(self, start: int, end: int) -> str:
        """The characters from `start` to `end`, 0 <= start and end <= the length.

        Raises:
            MemoryError: They would not fit the box's memory.
        """
        if start >= end:
            return ""
        low, high = self.offset_of(start), self.offset_of(end)
        self._check_fits(high - low, end - start)
        return self._decoded(low, high)

    def decoded(self, start: int, end: int) -> str:
        """The text between two bytes at which characters begin.

        Raises:
            MemoryError: As `text`.
        """
        if end - start > WINDOW_BYTES:
            self._check_fits(end - start, self.char_at(end) - self.char_at(start))
        return self._decoded(start, end)

    def _decoded(self, start: int, end: int) -> str:
        return str(self._raw[start:end], "utf-8", "surrogatepass")

    def _check_fits(self, size: int, chars: int) -> None:
        needed = size if chars == size else 4 * chars
        if self._memory_bytes and needed > max(self._memory_bytes - SPARE_BYTES, WINDOW_BYTES):
            raise MemoryError(
                f"a str of {chars:,} characters can take {needed:,} bytes, and the box has {self._memory_bytes:,}; "
                "take smaller slices, or go through .lines(), .chunks(n), .find(s) or .finditer(pattern)"
            )

    def find(self, needle: bytes, low: int, high: int) -> int:
        """The first place of some bytes, or -1."""
        while True:  # windows that overlap by less than the needle
            end = min(low + WINDOW_BYTES + len(needle), high)
            found = bytes(self._raw[low:end]).find(needle)
            if found >= 0:
                return low + found
            if end >= high:
                return -1
            low = end - len(needle) + 1

    def rfind(self, needle: bytes, low: int, high: int) -> int:
        """The last place of some bytes, or -1."""
        while True:
            start = max(low, high - WINDOW_BYTES - len(needle))
            found = bytes(self._raw[start:high]).rfind(needle)
            if found >= 0:
                return start + found
            if start <= low:
                return -1
            high = start + len(needle) - 1

    def count(self, needle: bytes, low: int, high: int) -> int:
        """How often some bytes, at least one, stand there without overlaps."""
        overlaps = _may_overlap(needle)
        found = 0
        while high - low >= len(needle):
            end = min(low + WINDOW_BYTES + len(needle), high)
            window = bytes(self._raw[low:end])
            if overlaps:  # where the last one ends says where the next may begin
                *before, rest = window.split(needle)
                found += len(before)
                low = end - min(len(rest), len(needle) - 1)
            else:
                found += window.count(needle)
                low = end - len(needle) + 1
        return found


def _may_overlap(needle: bytes) -> bool:
    """Whether two places of it can share bytes; of a long one it is taken for granted."""
    return len(needle) > 1000 or any(needle.startswith(needle[start:]) for start in range(1, len(needle)))


def mapped(path: str) -> Any:
    """A file's bytes, read where they are looked at."""
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return b""  # nothing can't be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
