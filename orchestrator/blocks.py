"""A reply's fenced blocks: the code to run, the blocks that are not run, and the prose between them.

CommonMark's rule for fences, with the exceptions that `orchestrator.parsing` lists and explains.
"""

from __future__ import annotations

import re

CODE_LANGUAGES = frozenset({"repl", "python", "py", "python3"})
"""First info words, lower case, of the fenced blocks that are run."""

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})(.*)", re.DOTALL)
STRING_MARK = re.compile(r"\\.|'''|\"\"\"|'|\"|#", re.DOTALL)
"""What opens, closes or hides the end of a Python string: an escaped character, quotes, a comment."""


class _StringState:
    """Follows Python's quotes through code, line by line, to know whether a triple-quoted string is open."""

    def __init__(self) -> None:
        self.delimiter = ""

    @property
    def in_triple(self) -> bool:
        return len(self.delimiter) == 3

    def feed(self, line: str) -> None:
        for match in STRING_MARK.finditer(line):
            mark = match.group()
            if mark[0] == "\\":
                continue
            if not self.delimiter:
                if mark == "#":
                    break
                self.delimiter = mark
            elif mark == self.delimiter or (len(self.delimiter) == 1 and mark == self.delimiter * 3):
                self.delimiter = ""  # in the second case the two marks left over are an empty string
        if len(self.delimiter) == 1 and not line.endswith("\\"):
            self.delimiter = ""  # a plain string ends with its line


class Blocks:
    """A reply split into the code to run, the blocks that are not run, and the prose between them."""

    def __init__(self, text: str) -> None:
        self.cells: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self.prose: list[str] = []
        self.unclosed = False
        self._follow_strings = True
        self._lines = text.split("\n")
        self._read()

    def _read(self) -> None:
        prose: list[str] = []
        number = 0
        while number < len(self._lines):
            line = self._lines[number]
            number += 1
            fence = _opening(line)
            if fence is not None:
                self.prose.append("\n".join(prose))
                prose = []
                number = self._read_block(number, *fence)
            elif line.strip() == "</think>":
                self.cells, self.skipped, self.prose, prose = [], [], [], []
            else:
                prose.append(line)
        self.prose.append("\n".join(prose))

    def _read_block(self, start: int, indent: str, fence: str, language: str) -> int:
        """Store the block whose content starts at line `start`; return the number of the line behind it."""
        is_code = language.lower() in CODE_LANGUAGES
        end = self._find_end(start, fence, is_code)
        self.unclosed = end == len(self._lines)
        content = "\n".join(_dedent(line, len(indent)) for line in self._lines[start:end])
        if is_code:
            self.cells.append(content)
        else:
            self.skipped.append((language, content))
        return end + 1

    def _find_end(self, start: int, fence: str, is_code: bool) -> int:
        strings = _StringState()
        first: int | None = None
        for number in range(start, len(self._lines)):
            line = self._lines[number]
            if _closes(line, fence):
                if not (is_code and self._follow_strings and strings.in_triple):
                    return number
                first = number if first is None else first
            if is_code and self._follow_strings:
                strings.feed(line)
        if first is None:
            return len(self._lines)
        self._follow_strings = False  # once is enough: reading to the end for every block would be quadratic
        return first


def _opening(line: str) -> tuple[str, str, str] | None:
    """Indentation, fence and first info word of a line that opens a block."""
    match = _FENCE.fullmatch(line)
    if match is None:
        return None
    indent, fence, info = match.groups()
    if fence[0] == "`" and "`" in info:
        return None  # inline code
    words = info.split(maxsplit=1)
    return indent, fence, words[0] if words else ""


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    return len(mark) >= len(fence) and mark == fence[0] * len(mark)


def _dedent(line: str, width: int) -> str:
    """`line` without up to `width` characters of white space: what a fence inside a list item is indented by."""
    margin = line[:width]
    return line[len(margin) - len(margin.lstrip()) :] if width else line
