"""What a box may say to the host, decoded (`sandbox.protocol`), and what a sub-call that failed looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

RELAY, SHELL, CONTROL, IOPUB = range(4)
CALLS = 6
"""Channels of a frame; 4 and 5 are kept for stdin and heartbeat. Over `CALLS` goes what a cell waits for."""

DELIMITER = b"<IDS|MSG>"
"""Stands between the identities and the body of a Jupyter message."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The relay is there."""


@dataclass(frozen=True, slots=True)
class KernelExit:
    """The kernel process ended; `code` is negative for a signal."""

    code: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The relay is subscribed to all output: nothing is lost from here on."""


@dataclass(frozen=True, slots=True)
class Idle:
    """All output of the request has been sent."""

    parent_id: str


@dataclass(frozen=True, slots=True)
class Output:
    """Text a cell wrote: stdout, stderr, or its last expression's value as plain text."""

    parent_id: str
    kind: Literal["stdout", "stderr", "result"]
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request of ours."""

    parent_id: str
    msg_type: str
    ok: bool
    error_name: str
    error_text: str
    traceback: str
    true_chars: dict[str, int]
    error_line: int
    buffers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One sub-call, as a cell asks for it; of a child run the question, and as its data the id of its context's upload.

    Attributes:
        prompt: The question.
        data: The text it is about, or None.
        model: The name of a model, or None. Any name: whether the host gave it is not known here.
    """

    prompt: str
    data: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class AskedTool:
    """One call of a tool that the kernel was told of, with its arguments: JSON that nobody has looked at."""

    name: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Sub-calls a cell asks for, or one call of a tool, each with the guest's index."""

    call_id: str
    indexes: tuple[int, ...]
    asked: tuple[Asked | AskedTool, ...]
    child: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a context for a child run; pieces of one upload come in order."""

    upload_id: str
    form: Literal["text", "json"]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The cell called FINAL or FINAL_VAR and ended well: the text's bytes, a quarter of what it may take decoded."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """Values the cell wants shown: scalars, and flat lists and dicts of them, by name. Texts in it are unchecked."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unread:
    """A legal message that nobody needs."""


@dataclass(frozen=True, slots=True)
class SubCallFailure:
    """Why a sub-call was not answered, for the cell: `kind` is a class of the guest's, for example LimitExceeded."""

    kind: str
    message: str


Message = Hello | KernelExit | Welcome | Idle | Output | Reply | Query | Piece | Answer | Report | Unread
