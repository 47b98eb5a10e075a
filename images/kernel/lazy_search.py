"""Regular expressions over a text that is no str: through windows of it, with the matches that `re` would find."""

import re
from collections.abc import Iterator
from typing import Any

from lazy_file import IndexedFile

MATCH_CHARS = 1 << 20
AROUND_CHARS = 1 << 16
SCAN_CHARS = 1 << 22


class MatchTooLong(ValueError):
    """A match is longer than `max_chars`, so it may reach further than what was looked at."""


class Match:
    """A match, as `re.Match` is one; its positions are those in the whole text. It keeps its own text and no more."""

    def __init__(self, match: re.Match[str], shift: int) -> None:
        self.re = match.re
        self.lastindex = match.lastindex
        self.lastgroup = match.lastgroup
        self._texts = (match.group(), *match.groups())
        self._spans = [_shifted(match.span(group), shift) for group in range(len(self._texts))]

    def _number(self, group: Any) -> int:
        number = self.re.groupindex.get(group, -1) if isinstance(group, str) else group
        if not 0 <= number < len(self._texts):
            raise IndexError("no such group")
        return int(number)

    def __getitem__(self, group: Any) -> Any:
        return self._texts[self._number(group)]

    def group(self, *groups: Any) -> Any:
        """The text of a group, or of several as a tuple."""
        return tuple(self[group] for group in groups) if len(groups) > 1 else self[groups[0] if groups else 0]

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        """The texts of all groups."""
        return tuple(default if text is None else text for text in self._texts[1:])

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        """The texts of the groups that have a name."""
        named = {name: self._texts[number] for name, number in self.re.groupindex.items()}
        return {name: default if text is None else text for name, text in named.items()}

    def span(self, group: Any = 0) -> tuple[int, int]:
        """Where a group begins and ends."""
        return self._spans[self._number(group)]

    def start(self, group: Any = 0) -> int:
        """Where a group begins."""
        return self.span(group)[0]

    def end(self, group: Any = 0) -> int:
        """Where a group ends."""
        return self.span(group)[1]

    def as_found(self) -> Any:
        """What `re.findall` has for it."""
        groups = self.groups("")
        if len(groups) == 1:
            return groups[0]
        return groups or self._texts[0]

    def __repr__(self) -> str:
        return f"<Match object; span={self.span()}, match={self._texts[0]!r:.50}>"


def matches(file: IndexedFile, pattern: re.Pattern[str], at: int, last: int, max_chars: int) -> Iterator[Match]:
    """All matches that begin at `at` or later and end at `last` or earlier.

    Of each window only the matches that begin before `cut` count, so that each has all it may reach around it. Where
    the next window begins, no match is split and none counts twice: the last one has ended by then, and an empty one at
    that very place begins in the next window.
    """
    while at <= last:
        low = max(0, at - AROUND_CHARS)
        cut = at + SCAN_CHARS
        window = file.text(low, min(last, cut + max_chars + AROUND_CHARS))
        at_next = cut
        for match in pattern.finditer(window, at - low):
            if low + match.start() >= cut:
                break
            if match.end() - match.start() > max_chars:
                raise MatchTooLong(
                    f"a match at {low + match.start():,} is longer than max_chars={max_chars:,}: "
                    "let the pattern end sooner, or give a larger max_chars"
                )
            at_next = max(cut, low + match.end())
            yield Match(match, low)
        at = at_next


def _shifted(span: tuple[int, int], shift: int) -> tuple[int, int]:
    return span if span == (-1, -1) else (span[0] + shift, span[1] + shift)
