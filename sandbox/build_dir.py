"""The directory in which an image is prepared, and the programs that work in it. Both go with this process."""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from sandbox.errors import ImageError
from sandbox.owned_dir import OwnedDir, remove_orphans

PREFIX: Final = "airlock-image-"
ERROR_LINES: Final = 15
"""Of a failed step, shown."""
END_S: Final = 5.0
"""For a program to end and clean up when this process does; then it is killed."""


def temp_dir() -> Path:
    """Where the build directories are made."""
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def build_dir() -> Iterator[OwnedDir]:
    """A directory for a build; removed at its end, at the end of this process, or by the next one if it was killed.

    Raises:
        ImageError: The disk is full, or the directory for temporary files can't be written.
    """
    remove_orphans(temp_dir(), PREFIX)
    try:
        folder = OwnedDir(temp_dir(), PREFIX)
    except OSError as error:
        where = str(temp_dir())
        raise ImageError(f"a build needs room in {where!r}: {error.strerror}; TMPDIR names another") from error
    atexit.register(folder.close)  # the command leaves in the middle of a build, without waiting for its thread
    try:
        yield folder
    finally:
        atexit.unregister(folder.close)
        folder.close()


def run_tool(command: list[str], doing: str, folder: OwnedDir, **environment: str) -> None:
    """Run a program to its end, or to the end of this process.

    Args:
        command: The program and its arguments.
        doing: What it does, for the error.
        folder: Where it writes. It holds the lock too: if we are killed, the directory stays until it has ended.
        environment: More than it inherits.

    Raises:
        ImageError: It failed; the text has its last lines.
    """
    with subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[folder.lock],
        env=os.environ | environment,
        cwd=folder.path,  # where we were started may lie what strangers sent, under names that the program looks for
    ) as process:
        end = partial(_end, process)
        atexit.register(end)
        try:
            output, _ = process.communicate()
        except BaseException:
            end()
            raise
        finally:
            atexit.unregister(end)
    if process.returncode:
        said = "\n".join(output.splitlines()[-ERROR_LINES:])
        raise ImageError(f"{doing[0].upper()}{doing[1:]} failed:\n{said}")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
