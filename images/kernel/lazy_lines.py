"""The lines of a text that is no str."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from lazy_file import IndexedFile


class Lines(Sequence[str]):
    """What stands between a text's newlines (U+000A and no other), without them. Slices are lists."""

    def __init__(self, file: IndexedFile) -> None:
        self._file = file

    def __len__(self) -> int:
        file = self._file
        return file.newlines + (file.window(file.size - 1, file.size) not in (b"", b"\n"))

    def __repr__(self) -> str:
        return f"<{len(self):,} lines of a LazyText; slices of it are lists of str>"

    def __getitem__(self, key: Any) -> Any:
        numbers = range(len(self))[key]
        if isinstance(numbers, int):
            start = self._file.line_begin(numbers)
            return self._file.decoded(start, self._file.line_end(start))
        if numbers.step != 1:
            return [self[number] for number in numbers]
        return list(islice(self._from(numbers.start), len(numbers))) if numbers else []

    def __iter__(self) -> Iterator[str]:
        return self._from(0)

    def _from(self, line: int) -> Iterator[str]:
        """The lines from one on: a window at a time, cut at its last newline."""
        file = self._file
        start = file.line_begin(line)
        while start < file.size:
            end = start + file.window(start, file.size).rfind(b"\n")
            if end < start:
                end = file.line_end(start)
            yield from file.decoded(start, end).split("\n")
            start = end + 1
