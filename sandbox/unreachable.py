"""Why no container engine answers, in words for a person: where it was looked for, what is there, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

DEFAULT_ADDRESS: Final = "unix:///var/run/docker.sock"
_MOST_CHARS: Final = 200

_WORDS: Final = {
    errno.ENOENT: "there is no such socket",
    errno.ECONNREFUSED: "nothing listens there",
    errno.EACCES: "Permission denied",  # .ci/setup.sh looks for these words
    errno.EPERM: "Permission denied",
    errno.ENOTSOCK: "that is no socket",
    errno.EHOSTUNREACH: "that host can't be reached",
    errno.ENETUNREACH: "that host can't be reached",
}
_MEMBER: Final = "Become a member of its group: sudo usermod -aG docker $USER, and log in again"
_START: Final = "Start Docker, or run 'make engine' on Debian or Ubuntu"


def no_engine(error: BaseException, address: str | None) -> str:
    """One line: where no engine answers, why, and what to type.

    Args:
        error: What the client raised.
        address: Where it was looked for; None for the client's own default.
    """
    given = os.environ.get("DOCKER_HOST")
    where = f"DOCKER_HOST={given}" if given else address or DEFAULT_ADDRESS
    why = _why(error)
    advice = _MEMBER if why == _WORDS[errno.EACCES] else _START
    if given:
        advice += "; or correct or unset DOCKER_HOST"
    return f"no container engine answers at {where:.{_MOST_CHARS}}: {why}. {advice}"


def _why(error: BaseException) -> str:
    """The system's own reason where there is one, else the client's last words."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, TimeoutError) or "timed out" in str(cause):
            return "it does not answer in time"
        if isinstance(cause, OSError) and cause.errno in _WORDS:
            return _WORDS[cause.errno]
    text = str(chain[0])
    if "resolve" in text:
        return "that host has no address"
    if isinstance(chain[0], ValueError) or any(words in text for words in ("bind address", "Invalid URL")):
        return "that is no address; one looks like unix:///var/run/docker.sock or tcp://127.0.0.1:2375"
    if "paramiko" in text or text.startswith("Invalid hostname"):
        return "ssh:// is not supported here; forward the socket with ssh -L and name that"
    return text.partition("\n")[0][:_MOST_CHARS]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was raised from, or wraps as its argument, as requests and urllib3 do."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        waiting += [one for one in inner if isinstance(one, BaseException)]
