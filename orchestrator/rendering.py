"""What people and models are shown of a cell: the root its output, cut to size; a terminal nothing it would obey.

Output of a cell is text that the document may have written, so it stands between two marks that it can't foresee
(`render_observation`). It is not changed otherwise: the root sees what the cell printed. A terminal, a log or a
status line gets `escape_terminal` of it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.errors import ConfigError
from sandbox.cell import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.cell import CellError, CellResult, CellStatus

_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

# Controls but \n and \t; invisible and direction-changing format characters; line separators; lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_FRAME_KEY = secrets.token_bytes(16)
"""Of this process: nobody outside can compute a frame's mark, however well an output can be foreseen."""
_NEWLINE_OR_TAB = re.compile("[\n\t]")

OUTCOMES: Final[dict[CellStatus, str]] = {
    "ok": "ran",
    "error": "was ended by an error",
    "interrupted": "was stopped",
    "lost": "was lost with all variables",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """One cell of a turn, as the root is to see it.

    Attributes:
        cell: What it did.
        notes: Lines of the host's own, for example that a limit stopped the cell and its variables are lost. Not cut.
        lines: Lines of its code, as the host sent it. The box can't name a line beyond them.
    """

    cell: CellResult
    notes: tuple[str, ...] = ()
    lines: int = 0


def truncate_output(text: str, max_length: int = 20_000, *, true_length: int | None = None) -> str:
    """Keep the first and the last half of a text that is too long, with a line between that names the true size.

    Args:
        text: The text, or what an earlier cut left of it: equal parts of its start and its end.
        max_length: Most characters returned, the line included; 1 and more. Too few for the line, and only the
            text's start is returned.
        true_length: Characters before that earlier cut; None where there was none.

    Raises:
        ConfigError: `max_length` is below 1.
    """
    if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        raise ConfigError(f"max_length: {max_length!r} is not an integer from 1")
    size = max(len(text), true_length or 0)
    if size <= max_length and size == len(text):
        return text
    # The number left out has at most as many digits as the size: a marker of that length always fits.
    kept = min(len(text), max_length - len(_marker(size, size)))
    if kept < 0:
        return text[:max_length]
    tail = kept // 2
    return text[: kept - tail] + _marker(size - kept, size) + text[len(text) - tail :]


def _marker(left_out: int, size: int) -> str:
    return f"\n[... {left_out:,} of {size:,} characters left out ...]\n"


def render_observation(cells: Sequence[CellView], max_chars: int = 20_000) -> str:
    """What the root is shown after its cells have run.

    All outputs of a turn share `max_chars`: what is short is shown whole, the rest is cut to equal shares. The frame
    around them comes on top, about 100 characters an output. Each output stands between ``[NAME ID: ...]`` and
    ``[end ID]``. ID is a digest of all the outputs of the turn (48 bits), so no output can hold its own without some
    2**48 tries: what looks like a frame, a note or a new turn inside an output is output.

    Args:
        cells: In the order they ran.
        max_chars: Most characters of output shown, 1 and more.
    """
    sections = [_sections(view.cell) for view in cells]
    outputs = [output for named in sections for _, output in named]
    shares = iter(_share([_size(output) for output in outputs], max_chars))
    boundary = _boundary(outputs)
    parts = []
    for number, (view, named) in enumerate(zip(cells, sections, strict=True), start=1):
        which = f"Cell {number} of {len(cells)}" if len(cells) > 1 else "The cell"
        parts.append(f"{which} {OUTCOMES[view.cell.status]}" + ("." if named else " and showed nothing."))
        parts += [_frame(name, output, next(shares), boundary) for name, output in named]
        parts += [f"Note: {note}" for note in view.notes]
    return "\n".join(parts)


def frame(name: str, text: str) -> str:
    """One text that somebody else may have written, between marks that it can't foresee; `text` is short enough."""
    output = Text(text=text)
    return _frame(name, output, len(text), _boundary([output]))


def plain_output(cell: CellResult, max_chars: int = 20_000) -> str:
    """What a cell showed, without frames: stdout, stderr and the last value, together cut to `max_chars`.

    Raises:
        ConfigError: `max_chars` is below 1.
    """
    texts = [text for text in (cell.stdout, cell.stderr, cell.result) if text]
    cut = (truncate_output(text.text, max_chars, true_length=text.true_chars).rstrip("\n") for text in texts)
    return truncate_output("\n".join(cut), max_chars)


def _sections(cell: CellResult) -> list[tuple[str, Text]]:
    named = [("stdout", cell.stdout), ("stderr", cell.stderr), ("value of the last expression", cell.result)]
    if cell.error is not None:
        named.append(("error", Text(text=_error_text(cell.error))))
    return [(name, output) for name, output in named if _size(output)]


def _size(output: Text) -> int:
    """The true size. Never below what is here, whatever the box claims."""
    return max(len(output.text), output.true_chars)


def _error_text(error: CellError) -> str:
    lines = [error.traceback.rstrip("\n")] if error.traceback.strip() else []
    last = f"{error.name}: {error.message}" if error.message else error.name
    return strip_colours("\n".join([*lines, last]))


def _frame(name: str, output: Text, share: int, boundary: str) -> str:
    size = _size(output)
    cut = "" if size <= share and size == len(output.text) else ", cut"
    plural = "" if size == 1 else "s"
    shown = truncate_output(output.text, share, true_length=output.true_chars) if share else ""
    newline = "" if shown.endswith("\n") else "\n"
    return f"[{name} {boundary}: {size:,} character{plural}{cut}]\n{shown}{newline}[end {boundary}]"


def _boundary(outputs: Sequence[Text]) -> str:
    digest = hashlib.blake2b(key=_FRAME_KEY, digest_size=6)
    for output in outputs:
        digest.update(output.text.encode("utf-8", "surrogatepass"))
        digest.update(b"\xff")  # in no UTF-8 text, so outputs can't be shifted into each other
    return digest.hexdigest()


def _share(sizes: Sequence[int], budget: int) -> list[int]:
    """Give each size what it needs while there is an equal share left for all that need more."""
    shares = [0] * len(sizes)
    by_size = sorted(range(len(sizes)), key=sizes.__getitem__)
    for served, index in enumerate(by_size):
        shares[index] = min(sizes[index], budget // (len(sizes) - served))
        budget -= shares[index]
    return shares


def strip_colours(text: str) -> str:
    """`text` without ANSI colour and cursor sequences (CSI). No protection: a terminal needs `escape_terminal`."""
    return _COLOUR.sub("", text)


def escape_terminal(text: str, *, one_line: bool = False) -> str:
    r"""`text` with all that a terminal obeys, hides or reorders by turned into visible escapes such as ``\x1b``.

    Escaped are C0 and C1 controls, direction marks, zero-width and other invisible characters, line separators and
    lone surrogates; so the result can be encoded. Newline and tab stay, letters of all scripts too. An emoji joined
    from several shows as its parts. Not reversible: a literal backslash is left alone.

    Args:
        text: Anything.
        one_line: Escape newline and tab too, so that no text can forge a line of a log or of a status display.
    """
    safe = _UNSAFE.sub(_escape, text)
    return _NEWLINE_OR_TAB.sub(_escape, safe) if one_line else safe


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
