"""The documents of a run, by size and digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from orchestrator.documents import MAX_LISTED, documents_of


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def test_a_text_is_one_document_with_the_digest_of_its_file() -> None:
    (document,) = documents_of("gr\u00fcn\ud800")
    raw = b"gr\xc3\xbcn\xed\xa0\x80"
    assert (document.name, document.kind, document.size_bytes) == ("context", "text", len(raw))
    assert (document.sha256, document.loaded) == (sha256(raw), False)


def test_several_files_are_a_document_each() -> None:
    found = documents_of({"a.txt": "one", "b.txt": "\u20ac"})
    assert [(document.name, document.size_bytes, document.sha256) for document in found] == [
        ("a.txt", 3, sha256(b"one")),
        ("b.txt", 3, sha256("\u20ac".encode())),
    ]


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        ([], "list"),
        (["a", "\u20ac"], "list"),
        ({}, "dict"),
        ({"a": "text", "b": [1, None]}, "dict"),
        ({str(number): "x" for number in range(MAX_LISTED + 1)}, "dict"),
    ],
)
def test_all_else_is_one_document(context: Any, kind: str) -> None:
    (document,) = documents_of(context)
    raw = json.dumps(context, ensure_ascii=False).encode()
    assert (document.kind, document.size_bytes, document.sha256) == (kind, len(raw), sha256(raw))
