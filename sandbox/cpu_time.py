"""CPU time of a box by its cgroup, where that is on this machine: some engines take a second to say the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sandbox.audit.proc import BoxProcess, Unreadable, read_bounded

_USAGE_US: Final = re.compile(r"^usage_usec (\d{1,18})$", re.MULTILINE)
_USAGE_NS: Final = re.compile(r"(\d{1,20})\n?")


def cpu_reader(pid: int, container: str) -> Callable[[], float | None] | None:
    """What reads the CPU seconds of a container so far; None where its cgroup can't be seen from here.

    Args:
        pid: Its first process, as the engine numbers it.
        container: Its ID. A cgroup that does not carry it may be that of others, too.

    Returns:
        A function that takes some 0.02 ms, and returns None when the container has ended.
    """
    try:
        with BoxProcess(pid, container, "") as process:
            file, version = process.cpu_time_file()
    except Unreadable:
        return None
    if container not in file.parts[-2]:
        return None

    def read() -> float | None:
        try:
            text = read_bounded(str(file))
        except (OSError, Unreadable):
            return None
        found = _USAGE_US.search(text) if version == 2 else _USAGE_NS.fullmatch(text)
        return int(found[1]) / (1e6 if version == 2 else 1e9) if found else None

    return read
