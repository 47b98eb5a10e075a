"""Extra modules for the REPL: Python source that the caller wants cells to import. Read here, never executed here.

They lie beside the contexts in the box, on the same read-only mount, and are looked up last: they can't stand before a
module of the box's. What they do, they do in the box, with a cell's rights.
"""

from __future__ import annotations

import keyword
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigError
from orchestrator.limits import MIB
from orchestrator.regular_file import open_regular

Modules = Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]
"""Paths of ``.py`` files and of folders that are packages; or, by the name to import, such a path (a `Path`) or the
source itself (a str)."""

MAX_FILES: Final = 500
MAX_BYTES: Final = 8 * MIB
"""Of all files together: each box has a copy."""
MAX_FOLDERS_DEEP: Final = 8

_TO_ANSWER: Final = ("FINAL", "FINAL_VAR", "SUBMIT", "answer", "report", "declare_labels")
_TO_ASK: Final = (
    *("llm_query", "llm_query_batched", "llm_query_as_completed", "rlm_query", "rlm_query_batched"),
    *("budget", "SHOW_VARS"),
)
_OF_PYTHON: Final = ("In", "Out", "get_ipython", "exit", "quit", "open", "display")

NAMES_OF_OURS: Final = frozenset(("context", "history", *_TO_ANSWER, *_TO_ASK, *_OF_PYTHON))
"""What the namespace has, or may have: no context and no module has such a name."""


MAX_SETUP_BYTES: Final = 1 * MIB


def checked_setup(code: str) -> str:
    """The setup code.

    Raises:
        ConfigError: It is no str, or larger than 1 MiB.
    """
    if not isinstance(code, str):
        raise ConfigError(f"setup_code: of type {type(code).__name__}; give Python source as a str")
    if (size := len(code.encode("utf-8", "replace"))) > MAX_SETUP_BYTES:
        raise ConfigError(f"setup_code: {size:,} bytes; at most {MAX_SETUP_BYTES:,} are allowed; put it into modules")
    return code


def read_modules(given: Modules) -> dict[str, bytes]:
    """Read modules into memory.

    Returns:
        Their source by their path in the box, such as ``tables.py`` or ``tables/read.py``.

    Raises:
        ConfigError: A name can't be used, a file can't be read or is no Python source, there is a symbolic link, or
            there is too much of it.
    """
    if isinstance(given, str | os.PathLike) or not isinstance(given, Sequence | Mapping):
        raise ConfigError(f"modules: of type {type(given).__name__}; give a list of paths, or a dict by name")
    files: dict[str, bytes] = {}
    for name, source in _named(given):
        where = f"modules[{name!r:.80}]"
        _check_name(name, where)
        if name in {path.split("/")[0].removesuffix(".py") for path in files}:
            raise ConfigError(f"{where}: is given twice")
        found = {f"{name}.py": source.encode("utf-8", "replace")} if isinstance(source, str) else _read(name, source)
        files |= found
        _check_size(files)
    return files


def _named(given: Modules) -> Iterator[tuple[str, str | Path]]:
    if isinstance(given, Mapping):
        for name, source in given.items():
            if not isinstance(name, str) or not isinstance(source, str | os.PathLike):
                raise ConfigError(f"modules[{name!r:.80}]: give the source as a str, or a path as a pathlib.Path")
            yield name, source if isinstance(source, str) else Path(source)
        return
    for index, item in enumerate(given):
        if not isinstance(item, str | os.PathLike):
            raise ConfigError(f"modules[{index}]: of type {type(item).__name__}; give a path")
        path = Path(item)
        yield path.name.removesuffix(".py"), path


def _check_name(name: str, where: str) -> None:
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or name.startswith("_"):
        raise ConfigError(f"{where}: is no name that code can import")
    if name in NAMES_OF_OURS or name.startswith("context_"):
        raise ConfigError(f"{where}: the REPL has a variable or function of that name")
    if name in sys.stdlib_module_names:
        raise ConfigError(f"{where}: Python has a module of that name")


def _read(name: str, path: Path) -> dict[str, bytes]:
    where = f"modules[{name!r:.80}]: {str(path)!r}"
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and path.suffix == ".py":
            return {f"{name}.py": _read_file(path)}
        if stat.S_ISDIR(mode):
            found: dict[str, bytes] = {}
            for inner, text in _read_folder(path, name, where, 1):
                found[inner] = text
                _check_size(found)  # before more is read
            if f"{name}/__init__.py" not in found:
                raise ConfigError(f"{where}: is no package: it has no __init__.py")
            return found
    except OSError as error:
        raise ConfigError(f"{where}: can't be read: {error.strerror}") from error
    what = "a symbolic link" if stat.S_ISLNK(mode) else "no .py file and no folder"
    raise ConfigError(f"{where}: is {what}")


def _read_folder(folder: Path, name: str, where: str, depth: int) -> Iterator[tuple[str, bytes]]:
    """Sources alone; whatever else would be missing in the box without a word is refused."""
    if depth > MAX_FOLDERS_DEEP:
        raise ConfigError(f"{where}: has more than {MAX_FOLDERS_DEEP} folders in each other")
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for count, entry in enumerate(found):
        if count > MAX_FILES:
            raise ConfigError(f"{where}: has more than {MAX_FILES} files")
        if entry.name in ("__pycache__", "py.typed") or entry.name.startswith("."):
            continue
        if entry.is_symlink():
            raise ConfigError(f"{where}: holds the symbolic link {entry.name!r}")
        if entry.is_dir(follow_symlinks=False):
            yield from _read_folder(Path(entry.path), f"{name}/{entry.name}", where, depth + 1)
        elif entry.is_file(follow_symlinks=False) and entry.name.endswith(".py"):
            yield f"{name}/{entry.name}", _read_file(Path(entry.path))
        else:
            raise ConfigError(f"{where}: holds {entry.name!r}; only .py files can be given")


def _read_file(path: Path) -> bytes:
    """Not through a link that took the file's place just now, and not from a pipe that never ends."""
    with open_regular(path, os.O_NOFOLLOW) as file:
        raw = file.read(MAX_BYTES + 1)
    _check_size({str(path): raw})
    return raw


def _check_size(files: Mapping[str, bytes]) -> None:
    size_bytes = sum(map(len, files.values()))
    if len(files) > MAX_FILES or size_bytes > MAX_BYTES:
        raise ConfigError(
            f"modules: more than {MAX_FILES} files or {MAX_BYTES:,} bytes; "
            "give what the cells need, or put data into the context"
        )
