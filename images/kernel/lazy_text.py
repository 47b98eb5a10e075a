"""`context` where the text is too large for a str: read from the mounted file where it is looked at, and only there."""

import re
from collections.abc import Iterator
from typing import Any

from lazy_file import IndexedFile
from lazy_lines import Lines
from lazy_search import MATCH_CHARS, Match, matches

STEP_CHARS = 1 << 16
STR_METHODS = frozenset(name for name in dir(str) if not name.startswith("_"))


class LazyText:
    """A text in a file. It is no str, but has what one needs of it; slices are str.

    - `len(context)`, `context[i]`, `context[i:j]`: characters, exactly as in a str.
    - `for line in context`, `context.lines()`: its lines, without their newline. `lines()` has a length, and
      `lines()[n]` and `lines()[m:n]` are found at once; `line_number(i)` is the line that the character i stands in.
    - `find`, `rfind`, `index`, `rindex`, `count`, `in`, `startswith`, `endswith`: as in a str.
    - `search`, `finditer`, `findall`: regular expressions, see `search`. `re.search(pattern, context)` can't work.
    - `chunks(size_chars, overlap_chars=0)`: pieces, one after the other.
    """

    def __init__(self, path: str, index_path: str, memory_bytes: int = 0) -> None:
        self._file = IndexedFile(path, index_path, memory_bytes)

    def __len__(self) -> int:
        return self._file.chars

    def __getitem__(self, key: Any) -> str:
        if isinstance(key, slice):
            wanted = range(*key.indices(len(self)))
            return self._file.text(wanted.start, wanted.stop) if wanted.step == 1 else self._stepped(wanted)
        char = range(len(self))[key]
        return self._file.text(char, char + 1)

    def _stepped(self, wanted: range) -> str:
        """A piece at a time, so that little is read for what is left out."""
        if wanted.step < 0:
            return self._stepped(wanted[::-1])[::-1]
        if wanted.step > STEP_CHARS:
            return "".join(self[char] for char in wanted)
        span = STEP_CHARS // wanted.step * wanted.step
        starts = range(wanted.start, wanted.stop, span)
        return "".join(self._file.text(start, min(start + span, wanted.stop))[:: wanted.step] for start in starts)

    def __str__(self) -> str:
        """The whole text.

        Raises:
            MemoryError: It would not fit the box's memory.
        """
        return self._file.text(0, len(self))

    def __repr__(self) -> str:
        return f"<LazyText of {len(self):,} characters in {len(self.lines()):,} lines; slices of it are str>"

    def __getattr__(self, name: str) -> Any:
        if name in STR_METHODS:
            raise AttributeError(f"this text is no str and has no .{name}(); a slice is one: context[i:j].{name}()")
        raise AttributeError(f"'LazyText' object has no attribute {name!r}")

    # ----------------------------------------------------------------------------------------------------------- search

    def __contains__(self, sub: str) -> bool:
        return self.find(sub) >= 0

    def find(self, sub: str, start: int | None = None, end: int | None = None) -> int:
        """The first position of a str, or -1."""
        needle, low, high = _raw("find", sub), *self._offsets(start, end)
        found = self._file.find(needle, low, high) if low <= high else -1
        return found if found < 0 else self._file.char_at(found)

    def rfind(self, sub: str, start: int | None = None, end: int | None = None) -> int:
        """The last position of a str, or -1."""
        needle, low, high = _raw("rfind", sub), *self._offsets(start, end)
        found = self._file.rfind(needle, low, high) if low <= high else -1
        return found if found < 0 else self._file.char_at(found)

    def index(self, sub: str, start: int | None = None, end: int | None = None) -> int:
        """As `find`, but raises ValueError where there is none."""
        return _found(self.find(sub, start, end))

    def rindex(self, sub: str, start: int | None = None, end: int | None = None) -> int:
        """As `rfind`, but raises ValueError where there is none."""
        return _found(self.rfind(sub, start, end))

    def count(self, sub: str, start: int | None = None, end: int | None = None) -> int:
        """How often a str stands in the text, without overlaps."""
        needle = _raw("count", sub)
        if not needle:
            first, last = self._bounds(start, end)
            return max(0, last - first + 1)
        return self._file.count(needle, *self._offsets(start, end))

    def startswith(self, prefix: str | tuple[str, ...], start: int | None = None, end: int | None = None) -> bool:
        """Whether the text begins with a str, or with one of several."""
        first, last = self._bounds(start, end)
        return any(
            first + len(one) <= last and self._file.text(first, first + len(one)) == one for one in _several(prefix)
        )

    def endswith(self, suffix: str | tuple[str, ...], start: int | None = None, end: int | None = None) -> bool:
        """Whether the text ends with a str, or with one of several."""
        first, last = self._bounds(start, end)
        return any(
            first + len(one) <= last and self._file.text(last - len(one), last) == one for one in _several(suffix)
        )

    def _bounds(self, start: int | None, end: int | None) -> tuple[int, int]:
        """As a str's methods take them: from the end where negative, cut to the text. The first may lie behind it."""
        length = len(self)
        first = 0 if start is None else start
        last = length if end is None else end
        return max(0, first + length if first < 0 else first), max(0, last + length if last < 0 else min(last, length))

    def _offsets(self, start: int | None, end: int | None) -> tuple[int, int]:
        """Likewise, in bytes; the first lies behind the last where there is nothing, not even an empty text."""
        first, last = self._bounds(start, end)
        return (1, 0) if first > last else (self._file.offset_of(first), self._file.offset_of(last))

    def search(
        self, pattern: Any, start: int = 0, end: int | None = None, *, flags: int = 0, max_chars: int = MATCH_CHARS
    ) -> Match | None:
        r"""The first match of a regular expression, or None. Finds what `re.search` finds in a str of the whole text.

        What differs: a match has at most `max_chars` characters, and what it sees around it (look-ahead, look-behind,
        `$`, `\b`) reaches 65,536 characters. A match that is longer raises `MatchTooLong`, or is missed: write `.*?`
        or `[^\n]*` where `.*` with DOTALL would run to the end of the text.

        Args:
            pattern: A str, or a compiled one.
            start: Where to begin, as `pos` of `re.Pattern.search`.
            end: Where to end, as its `endpos`.
            flags: Of `re`, for a str.
            max_chars: The longest match.
        """
        return next(self.finditer(pattern, start, end, flags=flags, max_chars=max_chars), None)

    def finditer(
        self, pattern: Any, start: int = 0, end: int | None = None, *, flags: int = 0, max_chars: int = MATCH_CHARS
    ) -> Iterator[Match]:
        """All matches, one after the other, without overlaps. See `search`."""
        compiled: re.Pattern[Any] = re.compile(pattern, flags)
        if not isinstance(compiled.pattern, str):
            raise TypeError("the pattern is a str, or made of one")
        if max_chars < 1:
            raise ValueError("max_chars is 1 and more")
        length = len(self)
        last = length if end is None else min(max(0, end), length)
        return matches(self._file, compiled, min(max(0, start), length), last, max_chars)

    def findall(
        self, pattern: Any, start: int = 0, end: int | None = None, *, flags: int = 0, max_chars: int = MATCH_CHARS
    ) -> list[Any]:
        """All matches as `re.findall` has them: the text of each, or of its groups. See `search`."""
        return [match.as_found() for match in self.finditer(pattern, start, end, flags=flags, max_chars=max_chars)]

    # ------------------------------------------------------------------------------------------------- lines and pieces

    def __iter__(self) -> Iterator[str]:
        """The lines, as of a file but without their newlines. A str would give its characters."""
        return iter(self.lines())

    def lines(self) -> Lines:
        """All lines, without their newlines: a sequence that reads what is asked for."""
        return Lines(self._file)

    splitlines = lines

    def line_number(self, char: int) -> int:
        """The line that a character stands in, counted from 0: `context.lines()[context.line_number(i)]`."""
        return self._file.line_at(self._file.offset_of(range(len(self) + 1)[char]))

    def chunks(self, size_chars: int, overlap_chars: int = 0) -> Iterator[str]:
        """Pieces of `size_chars` characters, each starting with the last `overlap_chars` of the one before.

        The last one may be shorter; it is never wholly inside the one before it.
        """
        if size_chars < 1 or not 0 <= overlap_chars < size_chars:
            raise ValueError("chunks: size_chars is 1 and more, overlap_chars 0 to size_chars - 1")
        length = len(self)
        last_start = max(1, length - overlap_chars) if length else 0
        starts = range(0, last_start, size_chars - overlap_chars)
        return (self._file.text(start, min(start + size_chars, length)) for start in starts)


def _raw(name: str, sub: object) -> bytes:
    if not isinstance(sub, str):
        raise TypeError(f"{name}: what to look for must be str, not {type(sub).__name__}")
    return sub.encode("utf-8", "surrogatepass")


def _several(affix: str | tuple[str, ...]) -> tuple[str, ...]:
    several = affix if isinstance(affix, tuple) else (affix,)
    if not all(isinstance(one, str) for one in several):
        raise TypeError("startswith and endswith take a str or a tuple of str")
    return several


def _found(char: int) -> int:
    if char < 0:
        raise ValueError("substring not found")
    return char
