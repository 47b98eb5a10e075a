"""The context of a run: read from files, checked, and described to the root without a word of its text.

A context is a string, a list of strings, or a dict of JSON values. The root is told its type, lengths and structure
only. Keys are not shown either: in a dict that came from a stranger's JSON they are the stranger's text, and a file's
name may be chosen by whoever sent the file. A cell can print them.
"""

from __future__ import annotations

import codecs
import math
import os
import stat
import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import ContextError
from orchestrator.limits import MIB
from sandbox.store import StoredContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Context = str | list[str] | dict[str, Any]
"""What `check_context` returns. Values of a dict are JSON values."""

MAX_DOCUMENT_BYTES: Final = 256 * MIB
"""Largest document read by default. Decoded it may take four times as much memory in the box."""

_LAZY_TEXT: Final = """\
`context` is too large for a str here: it is a lazy text, which reads what you look at. Positions are characters.
- `len(context)`, `context[i:j]` (a str), `context.find(s, start)`, `rfind`, `count`, `s in context`: as of a str.
- `for line in context` and `context.lines()` give lines without their newlines; `context.lines()[m:n]` is a list of \
them, found at once, and `context.line_number(i)` the line of a position.
- `context.search(pattern, start, end, flags=0)`, `finditer` and `findall`: regular expressions, as of `re`, for \
matches of up to a million characters. `re.search(pattern, context)` can't work.
- `context.chunks(size_chars, overlap_chars=0)` gives pieces, one after the other.
- `str(context)` and large slices raise MemoryError. Other methods of str are those of slices. Going through all of it \
takes seconds a gigabyte, with a pattern up to a minute: do it in several cells, by `start` and `end`.\
"""
_MAX_DEPTH: Final = 64
_MAX_INTEGER_BITS: Final = 14_000  # Python's own JSON reader refuses more than 4,300 digits
_SHOWN_CHARS: Final = 40
_JSON_NAMES: Final = {str: "string", list: "list", dict: "dict", bool: "boolean", int: "number", float: "number"}


def load_document(file_path: str | os.PathLike[str], *, max_bytes: int = MAX_DOCUMENT_BYTES) -> str:
    """Read one UTF-8 text file, exactly: line ends stay as they are, only a leading byte order mark goes.

    Args:
        file_path: A file, or a pipe.
        max_bytes: Largest size accepted.

    Raises:
        ContextError: The file is missing, unreadable, no file, too large, or not UTF-8 (names offset and byte).
    """
    path = os.fspath(file_path)
    data = _read_bytes(path, max_bytes)
    mark = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    try:
        return str(memoryview(data)[mark:], "utf-8")
    except UnicodeDecodeError as error:
        offset = error.start + mark
        raise ContextError(describe_bad_bytes(path, data, data[offset], offset)) from None


def load_documents(
    paths: Sequence[str | os.PathLike[str]], *, max_bytes: int = MAX_DOCUMENT_BYTES
) -> str | dict[str, str]:
    """Read text files: one becomes a string, several a dict of name to string, in the order given.

    A name is the file's base name; files of equal base name are told apart by the shortest end of their paths.

    Args:
        paths: At least one file.
        max_bytes: Largest size accepted of all together.

    Raises:
        ContextError: As for `load_document`; also for no file at all, one given twice, or a name that is not UTF-8.
    """
    if not paths:
        raise ContextError("no document was given")
    if len(paths) == 1:
        return load_document(paths[0], max_bytes=max_bytes)
    documents: dict[str, str] = {}
    left = max_bytes
    for path, name in zip(paths, _distinct_names([os.fspath(path) for path in paths]), strict=True):
        documents[name] = load_document(path, max_bytes=left)
        left -= len(documents[name].encode())
    return documents


def check_context(context: object) -> Context:
    """Return the context in its normal form: a path is read (`load_document`), a tuple becomes a list.

    Empty strings, lists and dicts are allowed; the root is told. Lone surrogates are kept. The value is not copied
    where it already is in its normal form, so don't change it while the run lasts.

    Raises:
        ContextError: It is of another type, or an item or value is; names the index or key.
    """
    if isinstance(context, os.PathLike):
        return load_document(context)
    if isinstance(context, str):
        return context
    if isinstance(context, list | tuple):
        for index, item in enumerate(context):
            if not isinstance(item, str):
                raise ContextError(f"context[{index}]: a list holds strings only, this is {_type_name(item)}")
        return list(context) if isinstance(context, tuple) else context
    if isinstance(context, dict):
        _check_json(context, "context", ())
        return context
    hint = "; decode it to a string first" if isinstance(context, bytes | bytearray) else ""
    raise ContextError(f"context: {_type_name(context)} is no string, list of strings, dict or path{hint}")


def format_context_info(context: Context | StoredContext) -> str:
    """Describe a context to the root: type, lengths, structure, and not one character of its text or keys."""
    if isinstance(context, StoredContext):
        return describe_stored(context)
    if isinstance(context, str):
        return f"a string of {_describe_text(context)}"
    if isinstance(context, list):
        return f"a list of {_count(len(context), 'string')}{_describe_lengths(context)}"
    kinds = Counter(_JSON_NAMES.get(type(value), "null") for value in context.values())
    texts = [value for value in context.values() if isinstance(value, str)]
    values = ", ".join(_count(number, kind) for kind, number in kinds.most_common())
    return (
        f"a dict of {_count(len(context), 'key')}"
        + (f" with values: {values}" if kinds else "")
        + (_describe_lengths(texts) if texts else "")
    )


def context_note(context: Context | StoredContext) -> str:
    """What the root must know to work with a context, beside what it is; "" where it is a str, a list or a dict."""
    return _LAZY_TEXT if isinstance(context, StoredContext) and context.lazy else ""


def describe_stored(context: StoredContext) -> str:
    """Describe a context of the store, which the host has not read, but may have counted."""
    if context.counts is not None:
        chars, newlines = context.counts.chars, context.counts.newlines
        if context.lazy:
            return f"a lazy text of {_count(chars, 'character')} with {_count(newlines, 'newline')}"
        if not chars:
            return f"a string of {_describe_text('')}"
        return f"a string of {_count(chars, 'character')} in {_count(newlines + 1, 'line')}"
    what = "a string of" if context.form == "text" else "a list or dict whose JSON has"
    return f"{what} {context.size_bytes:,} bytes"


def _describe_text(text: str) -> str:
    if not text:
        return "0 characters: it is empty"
    return f"{_count(len(text), 'character')} in {_count(text.count(chr(10)) + 1, 'line')}"


def _describe_lengths(texts: Iterable[str]) -> str:
    lengths = sorted(len(text) for text in texts)
    if not lengths:
        return ": it is empty"
    median = int(statistics.median(lengths))
    return (
        f"; the strings have {_count(sum(lengths), 'character')} in total: "
        f"shortest {lengths[0]:,}, median {median:,}, longest {lengths[-1]:,}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _read_bytes(path: str, max_bytes: int) -> bytes:
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ContextError(f"{path}: is a directory; name its files")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ContextError(f"{path}: is no regular file")
        with Path(path).open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ContextError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        if isinstance(error, ContextError):
            raise
        raise ContextError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > max_bytes:
        raise ContextError(
            f"{path}: is larger than {max_bytes:,} bytes; cut it into parts, or ask about it alone, with no journal"
        )
    return data


def describe_bad_bytes(path: str, head: bytes, byte: int, offset: int) -> str:
    """Why a file is not read: it is no UTF-8 text.

    Args:
        path: The file.
        head: How it begins.
        byte: The first wrong one.
        offset: Where that is.
    """
    encoding = "UTF-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "LATIN1"
    return (
        f"{path}: is not UTF-8 text: byte 0x{byte:02x} at offset {offset:,}. If it is text in another "
        f"encoding, convert it (iconv -f {encoding} -t UTF-8); if it is a PDF or an Office file, extract its text first"
    )


def _distinct_names(paths: list[str]) -> list[str]:
    # Not Path.resolve(): a link has the name it was given by.
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    seen: dict[tuple[str, ...], str] = {}
    for path, own in zip(paths, parts, strict=True):
        if own in seen:
            raise ContextError(f"{path}: is given twice")
        seen[own] = path
    endings = Counter(own[-width:] for own in parts for width in range(1, len(own) + 1))
    return [_shortest_ending(own, endings) for own in parts]


def _shortest_ending(parts: tuple[str, ...], endings: Counter[tuple[str, ...]]) -> str:
    width = next(width for width in range(1, len(parts) + 1) if endings[parts[-width:]] == 1)
    name = "/".join(parts[-width:])
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ContextError(f"{name!r}: the file's name is not UTF-8; rename it") from None
    return name


def _check_json(value: object, where: str, parents: tuple[int, ...]) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int) and value.bit_length() <= _MAX_INTEGER_BITS:
        return
    if isinstance(value, float) and math.isfinite(value):
        return
    if isinstance(value, dict | list | tuple):
        _check_container(value, where, parents)
        return
    if isinstance(value, int | float):
        raise ContextError(f"{where}: the number is not JSON (NaN, infinite, or more than 4,200 digits)")
    raise ContextError(f"{where}: {_type_name(value)} is no JSON value")


def _check_container(value: dict[Any, Any] | list[Any] | tuple[Any, ...], where: str, parents: tuple[int, ...]) -> None:
    if id(value) in parents:
        raise ContextError(f"{where}: refers to itself")
    if len(parents) >= _MAX_DEPTH:
        raise ContextError(f"{where}: is nested more than {_MAX_DEPTH} levels deep")
    inside = (*parents, id(value))
    if not isinstance(value, dict):
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]", inside)
        return
    for key, item in value.items():
        if not isinstance(key, str):
            raise ContextError(f"{where}: the key {_shorten(repr(key))} is {_type_name(key)}, not a string")
        _check_json(item, f"{where}[{_shorten(repr(key))}]", inside)


def _type_name(value: object) -> str:
    return f"of type {type(value).__name__}"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
