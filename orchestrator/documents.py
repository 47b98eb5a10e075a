"""The documents of a run, by size and digest, for the result and the trace."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from orchestrator.result import Document
from sandbox.store import StoredContext

if TYPE_CHECKING:
    from orchestrator.context import Context

MAX_LISTED: Final = 1000
"""Texts of a dict that are listed each by itself; above, the dict is one document."""


def documents_of(context: Context | StoredContext) -> tuple[Document, ...]:
    """The documents of a context in its normal form. Takes about a second for each 200 MB.

    A dict that holds texts alone, as several files give, is one document for each; a list or another dict is one.
    """
    if isinstance(context, StoredContext):
        return (Document(name="context", kind=context.form, size_bytes=context.size_bytes, sha256=context.digest),)
    if isinstance(context, str):
        return (_document("context", "text", context),)
    if isinstance(context, dict) and 0 < len(context) <= MAX_LISTED:
        texts = {name: text for name, text in context.items() if isinstance(text, str)}
        if len(texts) == len(context):
            return tuple(_document(name, "text", text) for name, text in texts.items())
    kind = "dict" if isinstance(context, dict) else "list"
    return (_document("context", kind, json.dumps(context, ensure_ascii=False)),)


def _document(name: str, kind: str, text: str) -> Document:
    raw = text.encode("utf-8", "surrogatepass")
    return Document(name=name, kind=kind, size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
