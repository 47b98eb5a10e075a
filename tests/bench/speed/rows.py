"""What is in the table: its rows, its columns, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["ms", "MB"]

MB = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured.

    Attributes:
        name: By which the measuring processes call it.
        label: For readers.
        unit: What its figures are shown in; they are seconds or bytes.
    """

    name: str
    label: str
    unit: Unit = "ms"


ROWS = (
    Row("start", "start to first cell, cold"),
    Row("engine_start", "of that, the engine: create, attach, start"),
    Row("cell", "one cell"),
    Row("host_call", "`llm_query` or another call of the host, answered at once"),
    Row("value", "1 MiB into a variable, the subject's own way"),
    Row("value_as_reply", "1 MiB as the reply to a call of the host"),
    Row("value_as_code", "1 MiB as a literal in a cell"),
    Row("context", "the context into a variable, the subject's own way"),
    Row("context_by_file", "the context by a file of the host that the kernel opens"),
    Row("cell_with_context", "one cell, with the context loaded"),
    Row("pss_bytes", "memory of a ready box, PSS", "MB"),
    Row("cgroup_bytes", "memory of a ready box, by its cgroup", "MB"),
)

SUBJECTS = {
    "airlock": "Airlock, runc",
    "airlock_gvisor": "Airlock, gVisor",
    "open_kernel": "open ipykernel",
    "docker_run": "`docker run`",
    "pipe": "Python behind a pipe",
    "rlms": "rlms, Docker",
    "llm_sandbox": "llm-sandbox, Docker",
    "smolagents": "smolagents, Docker",
}


@dataclass(frozen=True, slots=True)
class Aim:
    """What a median shall be at most.

    Attributes:
        row: Of the figure.
        most: How many times the figure that it is held against; bytes or seconds where there is none.
        against: Subject whose figure that is, or None.
        against_row: Its row, where it is another one.
        subject: Whose figure it is.
        why: What a missed aim is owed to, as profiles said.
    """

    row: str
    most: float
    against: str | None = None
    against_row: str | None = None
    subject: str = "airlock"
    why: str = ""


_INPUT_IS_BARE = (
    "the open kernel's call is input(): one message each way on one socket, from the main thread, to one that looks "
    "at nothing. Ours passes the box's PID 1, is numbered, checked, and answered beside those of other threads"
)
_PTRACE = (
    "without KVM this gVisor intercepts each system call of the box by ptrace; what was cut for both runtimes has cut "
    "the runc box, against which it is held, by more"
)

_ENGINE_ALONE = (
    "what the engine does for a container with Python alone in it (`docker run` in the table) takes longer than this "
    "aim, and nothing of ours is in that"
)
_HASHED = (
    "SHA-256 of these 50 MB takes 28 ms of the 45 that the aim leaves, and each MB of memory that is touched for the "
    "first time 0.6 ms on this virtual machine: for the encoded text, the file and the str in the box. An open kernel "
    "that just opens the file is no faster"
)

AIMS = (
    Aim("start", 0.5, "open_kernel"),
    Aim("start", 0.25, "rlms", why=_ENGINE_ALONE),
    Aim("cell", 0.6, "open_kernel"),
    Aim("host_call", 0.2, "open_kernel", why=_INPUT_IS_BARE),
    Aim("value", 0.05, "open_kernel"),
    Aim("context", 0.02, "open_kernel"),
    Aim("context", 0.02, "rlms", why=_HASHED),
    Aim("cell_with_context", 1.1, "airlock", "cell"),  # "nothing per cell", and a tenth for noise
    Aim("pss_bytes", 45 * MB),
    *(
        Aim(row, 4, "airlock", subject="airlock_gvisor", why=_PTRACE)
        for row in ("start", "cell", "host_call", "value", "context")
    ),
)
