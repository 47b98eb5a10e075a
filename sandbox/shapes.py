"""What `sandbox.protocol` reads of each message from a box. Only shapes: nothing is decoded here.

Unknown fields are skipped, missing or mistyped ones are a violation.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

MAX_BATCH: Final = 500
MAX_REPORTED: Final = 400
"""Most values of a report, and most items of one of them."""

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Id = Annotated[str, msgspec.Meta(max_length=64)]
_Index = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
_ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_CallId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
_ReportedText = Annotated[str, msgspec.Meta(max_length=64)]
_Scalar = bool | int | float | _ReportedText | None
_Reported = (
    _Scalar
    | Annotated[list[_Scalar], msgspec.Meta(max_length=MAX_REPORTED)]
    | Annotated[dict[_ReportedText, _Scalar], msgspec.Meta(max_length=MAX_REPORTED)]
)


class Header(msgspec.Struct):
    msg_type: Annotated[str, msgspec.Meta(max_length=64)]


class Parent(msgspec.Struct):
    msg_id: _Id = ""


class RelayEvent(msgspec.Struct):
    event: Literal["hello", "kernel_exit"]
    code: Annotated[int, msgspec.Meta(ge=-64, le=255)] = 0


class Status(msgspec.Struct):
    execution_state: Literal["busy", "idle", "starting"]


class Stream(msgspec.Struct):
    name: Literal["stdout", "stderr"]
    text: str


class PlainText(msgspec.Struct):
    text: str = msgspec.field(name="text/plain", default="")


class Result(msgspec.Struct):
    data: PlainText


class ReplyContent(msgspec.Struct):
    status: Literal["ok", "error"]
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = []


class Facts(msgspec.Struct):
    stdout_chars: _Size = 0
    stderr_chars: _Size = 0
    result_chars: _Size = 0
    error_line: _Size = 0


class Metadata(msgspec.Struct):
    airlock: Facts = msgspec.field(default_factory=Facts)


class Query(msgspec.Struct, tag_field="kind", tag="query"):
    id: _CallId
    indexes: Annotated[list[_Index], msgspec.Meta(min_length=1, max_length=1)]
    has_data: Annotated[list[bool], msgspec.Meta(min_length=1, max_length=1)]
    models: Annotated[list[_ModelName | None], msgspec.Meta(min_length=1, max_length=1)] | None = None


class Batch(msgspec.Struct, tag_field="kind", tag="batch"):
    id: _CallId
    indexes: Annotated[list[_Index], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]
    has_data: Annotated[list[bool], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]
    models: Annotated[list[_ModelName | None], msgspec.Meta(min_length=1, max_length=MAX_BATCH)] | None = None


class Child(msgspec.Struct, tag_field="kind", tag="child"):
    id: _CallId
    indexes: Annotated[list[_Index], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]
    uploads: Annotated[list[_CallId | None], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class Tool(msgspec.Struct, tag_field="kind", tag="tool"):
    id: _CallId
    name: _Id


class Piece(msgspec.Struct, tag_field="kind", tag="piece"):
    id: _CallId
    form: Literal["text", "json"]


class Answer(msgspec.Struct, tag_field="kind", tag="answer"):
    pass


class Report(msgspec.Struct, tag_field="kind", tag="report"):
    values: Annotated[dict[_ReportedText, _Reported], msgspec.Meta(max_length=MAX_REPORTED)]


class Call(msgspec.Struct):
    """What a cell waits for, and the pieces of contexts that belong to it."""

    comm_id: _Id
    data: Query | Batch | Child | Tool | Piece


class Told(msgspec.Struct):
    """What has no answer."""

    comm_id: _Id
    data: Answer | Report


class Variable(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(max_length=64)]
    type: Annotated[str, msgspec.Meta(max_length=64)]
    size: _Size | None


class Variables(msgspec.Struct):
    count: _Size
    listed: Annotated[list[Variable], msgspec.Meta(max_length=100)]
