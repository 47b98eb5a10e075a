"""Opens files that somebody else may have put there: a pipe would keep us waiting, a device would never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path, flags: int = 0) -> BinaryIO:
    """Open a regular file to read, or what a link to it leads to.

    Args:
        path: The file.
        flags: Of `os.open`, beside those for reading: ``os.O_NOFOLLOW`` refuses a link.

    Raises:
        OSError: It can't be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    file = os.fdopen(descriptor, "rb")  # refuses a directory, and closes it
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no regular file")
    return file
