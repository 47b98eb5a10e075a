"""The file of `airlock ask --audit-anchor`: a trace's head, which only helps where it is kept apart from the trace."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from orchestrator.cli.messages import UsageError

_ANCHOR: Final = re.compile(rb"([0-9a-f]{64}\n?)?")
_READ_BYTES: Final = 66  # one more than an anchor has


class AnchorFile:
    """Where the head is put at the end of a run. Nothing is written before.

    Args:
        file: A file that does not exist yet, is empty, or holds an earlier anchor.
        documents: What the run is asked about; none of them can be the anchor.

    Raises:
        UsageError: It is a document, holds something else, or can't be written.
    """

    def __init__(self, file: str, documents: Sequence[str]) -> None:
        self._file = file
        if any(_is_same(file, document) for document in documents):
            raise self._error("is one of the documents")
        try:
            if not self._exists():
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
                Path(file).unlink()
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
            raise self._cannot(error) from None

    def write(self, head: str) -> None:
        """Put the head in. An earlier one is as long, so no moment leaves the file empty.

        Raises:
            UsageError: The file was changed during the run, or can't be written any more.
        """
        try:
            self._exists()
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(head + "\n")
        except OSError as error:
            raise self._cannot(error) from None

    def _exists(self) -> bool:
        """Whether the file is there; then it is one that may be overwritten."""
        try:
            mode = Path(self._file).stat().st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(mode):
            raise self._error("is no regular file")
        with Path(self._file).open("r+b") as file:
            if not _ANCHOR.fullmatch(file.read(_READ_BYTES)):
                raise self._error("exists and holds no earlier anchor (64 hex digits); name a new file")
        return True

    def _cannot(self, error: Exception) -> UsageError:
        return self._error(f"can't be written: {getattr(error, 'strerror', None) or error}")

    def _error(self, why: str) -> UsageError:
        return UsageError(f"--audit-anchor: {self._file!r:.200} {why}")


def _is_same(file: str, document: str) -> bool:
    if os.path.realpath(file) == os.path.realpath(document):
        return True
    try:
        return os.path.samefile(file, document)
    except (OSError, ValueError):
        return False
