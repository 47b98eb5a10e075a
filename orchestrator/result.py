"""What a run gives back: the answer, why it stopped, what it used, and every turn of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from orchestrator.limits import Usage
from orchestrator.providers.base import ModelReply, TokenUsage
from orchestrator.tool_record import ToolCall

MAX_SHORT_PROMPT_CHARS = 200

AnswerKind = Literal["final", "best_effort", "partial"]
"""``final``: the run accepted it. ``best_effort``: no turns were left, and the root was asked once more.
``partial``: what there was when a limit or a failure ended the run, not accepted and perhaps wrong."""


class StopReason(StrEnum):
    """Why a run ended. The first is success; limits return a partial answer; the last six raise."""

    ANSWERED = "answered"
    TURN_LIMIT = "turn_limit"
    TOKEN_LIMIT = "token_limit"  # noqa: S105 - no password
    COST_LIMIT = "cost_limit"
    CALL_LIMIT = "call_limit"
    TIME_LIMIT = "time_limit"
    NO_PROGRESS = "no_progress"
    OVERBILLED = "overbilled"
    POLICY_REFUSED = "policy_refused"
    DIVERGED = "diverged"
    """It was resumed from a journal (`orchestrator.journal`) and did not do what is recorded there."""
    PROVIDER_ERROR = "provider_error"
    SANDBOX_ERROR = "sandbox_error"
    PROTOCOL_VIOLATION = "protocol_violation"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


@dataclass(slots=True, kw_only=True)
class SubCall:
    """One question a cell asked a sub-model.

    Attributes:
        model: Name of the provider that was asked last, "" where the run has none of that name.
        prompt: The question, as the cell wrote it.
        data: The text it is about, or None.
        reply: The answer, or None where it failed.
        error_kind: Name of the exception the cell got, or None.
        error: That exception's text, or None.
        usage: Tokens of the attempt that succeeded.
        wall_s: Seconds, waiting for a free slot and retries included.
        depth: 1 for a sub-call of the first root, one more for each level below.
        child: Of a child run (`rlm_query`): how it ended, with its turns. Its usage stands in there.
        number: From 1, in the order in which a run's sub-calls were sent to a model; 0: nothing was sent.
        name: The name of ``sub_llms`` by which the cell asked for the model; None: it named none of them.
        cached: Whether the answer is an earlier sub-call's, which cost nothing.
    """

    model: str
    prompt: str
    data: str | None = None
    reply: str | None = None
    error_kind: str | None = None
    error: str | None = None
    usage: TokenUsage | None = None
    wall_s: float = 0.0
    depth: int = 1
    child: RunResult | None = None
    number: int = 0
    name: str | None = None
    cached: bool = False

    def answered(self, reply: ModelReply) -> None:
        """Take over what the model answered."""
        self.reply = reply.text
        self.usage = reply.usage

    def shorten(self) -> None:
        """Keep little of a call that never reached a model: a cell can make any number of them."""
        self.prompt = self.prompt[:MAX_SHORT_PROMPT_CHARS]
        self.data = None

    def failed(self, kind: str, message: str) -> None:
        """Take over why it was not answered."""
        self.error_kind = kind
        self.error = message


@dataclass(slots=True, kw_only=True)
class Cell:
    """One cell of a turn.

    Attributes:
        code: What ran.
        output: What it showed: stdout, stderr and the last value, together cut to ``max_output_chars``.
        status: ``ok``, ``error``, ``interrupted`` (a clock ran out) or ``lost`` (the box is gone).
        error: ``Name: text`` of the exception, or None.
        wall_s: Seconds it took.
        sub_calls: What it asked, in the order of the answers.
        tool_calls: The tools it called, likewise.
    """

    code: str
    output: str = ""
    status: str = "ok"
    error: str | None = None
    wall_s: float = 0.0
    sub_calls: list[SubCall] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Turn:
    """One reply of the root and what came of it.

    Attributes:
        number: From 1.
        response: The root's text.
        usage: Tokens of the reply.
        wall_s: Seconds the root took.
        cells: The cells that ran.
        values: In ``observe="typed"``: what of the box reached the root, by name. Numbers, booleans and labels.
    """

    number: int
    response: str
    usage: TokenUsage | None = None
    wall_s: float = 0.0
    cells: list[Cell] = field(default_factory=list)
    values: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def sub_calls(self) -> list[SubCall]:
        """The sub-calls of all its cells."""
        return [call for cell in self.cells for call in cell.sub_calls]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecision:
    """What a policy did, where it did not just allow.

    Attributes:
        policy: Its name.
        hook: ``on_request``, ``on_reply`` or ``on_answer``.
        action: ``redact``, ``refuse`` or ``report`` (it let pass what it noticed).
        count: Places redacted; else 1.
        reason: In the policy's words.
        role: Whose request or reply it was, ``root`` or ``sub``.
        depth: Of that model.
        model: The provider's name; "" for an answer.
    """

    policy: str
    hook: str
    action: str
    count: int
    reason: str
    role: str
    depth: int
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Something that a resumed run did otherwise than its journal says, and that was paid for.

    Attributes:
        run: Number of the run, 0 for the first.
        turn: Its turn.
        cell: The turn's cell.
        what: In the host's words.
    """

    run: int
    turn: int
    cell: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document of a run.

    Attributes:
        name: Its key in a context of several texts; else ``context``. Whoever sent the file may have chosen it.
        kind: ``text``, ``list`` or ``dict``; of a child run ``text`` or ``json``, which is either of the others.
        size_bytes: UTF-8 bytes; of a list or dict those of its JSON.
        sha256: Of the same bytes.
        loaded: Whether a box had it, where code could read it.
    """

    name: str
    kind: str
    size_bytes: int
    sha256: str
    loaded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubReply:
    """One sub-model's reply that was given to a cell. What the cell showed of it to the root, the host can't tell.

    Attributes:
        turn: The turn whose cell got it; 0 outside of any.
        model: Who replied.
        size_bytes: UTF-8 bytes.
        sha256: Of the same bytes.
    """

    turn: int
    model: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceInfo:
    """The trace that was written of a run.

    Attributes:
        path: The file.
        head: SHA-256 of its last line, the anchor for `airlock verify`. Only of use where it is kept elsewhere.
        digest_key: Key of the texts' digests in it, in hex (`orchestrator.trace`).
        redactions: Secrets that were replaced in it.
    """

    path: str
    head: str
    digest_key: str
    redactions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended.

    Attributes:
        answer: The answer; at a limit a partial one where there is one; else None.
        stop_reason: Why it ended.
        usage: What it spent.
        turns: Every turn.
        answer_kind: What the answer is worth; None where there is none.
        valid: With an ``output_schema``: whether the answer fits it; None without a schema or an answer.
        value: The answer as the schema has it, where it fits: a model, a dataclass, or JSON's values.
        stop_detail: Of a stop by a limit or a policy: the numbers that did not fit, or the policy and its reason, in
            the host's own words; None where there is no more to say.
        run: Number of a child run in its recursion tree, as the trace has it; 0: the first run.
        isolation: The least level that a box of it was given, ``container`` or ``gvisor``; it may be more than was
            demanded. None where no box came up.
        documents: What it was asked about.
        sub_replies: Replies of sub-models that reached the root's cells.
        decisions: What policies redacted, refused or reported, in order; of sub-calls' at most 100.
        decision_count: How many there were.
        redactions: Places that policies redacted: in ``prompts``, ``replies`` and the ``answer``. Those in the trace
            are counted in `trace`.
        violations: What the box did that no honest box does; the first one ends the run.
        trace: The trace file, where one was written; without one the journal, which is a trace too.
        divergences: Of a run that was resumed from a journal with ``allow_divergence``: what it did otherwise.
    """

    answer: str | None
    stop_reason: StopReason
    usage: Usage
    turns: tuple[Turn, ...]
    isolation: str | None
    documents: tuple[Document, ...] = ()
    sub_replies: tuple[SubReply, ...] = ()
    decisions: tuple[PolicyDecision, ...] = ()
    decision_count: int = 0
    redactions: dict[str, int] = field(default_factory=dict)
    violations: tuple[str, ...] = ()
    trace: TraceInfo | None = None
    answer_kind: AnswerKind | None = None
    valid: bool | None = None
    value: Any = field(default=None, metadata={"json": False})
    stop_detail: str | None = None
    run: int = 0
    divergences: tuple[Divergence, ...] = ()


class Trajectory:
    """The turns of a run: iterate over it, index it, or turn it into JSON."""

    def __init__(self, result: RunResult) -> None:
        self.result = result

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.result.turns)

    def __len__(self) -> int:
        return len(self.result.turns)

    def __getitem__(self, index: int) -> Turn:
        return self.result.turns[index]

    def __repr__(self) -> str:
        usage = self.result.usage
        return f"Trajectory({self.stop_reason.value}, {usage.turns} turns, {usage.sub_calls} sub-calls)"

    @property
    def stop_reason(self) -> StopReason:
        """Why the run ended."""
        return self.result.stop_reason

    @property
    def value(self) -> Any:
        """The answer as the ``output_schema`` has it, where it fits; else None."""
        return self.result.value

    @property
    def usage(self) -> Usage:
        """What the run spent."""
        return self.result.usage

    @property
    def sub_calls(self) -> list[SubCall]:
        """The sub-calls of all turns."""
        return [call for turn in self for call in turn.sub_calls]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        plain: dict[str, Any] = json_values(self.result)
        return plain

    def to_json(self, *, indent: int | None = None) -> str:
        """Everything as JSON. It holds the document's text wherever a cell or a prompt did."""
        return json.dumps(self.to_dict(), indent=indent)


def json_values(value: Any) -> Any:
    """Dataclasses, tuples and enumerations of a result as dicts, lists and strings; money as a number."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.metadata.get("json", True)]
        return {name: json_values(getattr(value, name)) for name in fields}
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    if isinstance(value, dict):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return float(value)
    return value.value if isinstance(value, StrEnum) else value
