"""Contexts: read, checked, and described without a word of their text."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.context import check_context, format_context_info, load_document, load_documents
from orchestrator.errors import ContextError
from tests.datasets import load_naughty_strings

CANARY = "canary-7f3a"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_file_is_read_exactly(tmp_path: Path) -> None:
    text = "\u4e2d\r\n\x00\u2028\U0001f600\n\n"
    assert load_document(write(tmp_path / "a.txt", text)) == text
    assert load_document(str(tmp_path / "a.txt")) == text
    assert load_document(write(tmp_path / "empty", "")) == ""


def test_a_byte_order_mark_goes(tmp_path: Path) -> None:
    assert load_document(write(tmp_path / "a", b"\xef\xbb\xbfabc\xef\xbb\xbf")) == "abc\ufeff"


def test_naughty_strings_come_back_from_a_file(shared_data: Path, tmp_path: Path) -> None:
    for text in load_naughty_strings(shared_data):
        assert load_document(write(tmp_path / "a", text)) == text.removeprefix("\ufeff")


def test_bytes_that_are_not_utf8_are_located(tmp_path: Path) -> None:
    path = write(tmp_path / "latin.txt", b"caf\xe9!")
    with pytest.raises(ContextError, match=r"latin\.txt: is not UTF-8 text: byte 0xe9 at offset 3\..*iconv -f LATIN1"):
        load_document(path)
    with pytest.raises(ContextError, match="byte 0xe9 at offset 4,003"):
        load_document(write(path, b"\xef\xbb\xbf" + b"a" * 4_000 + b"\xe9 "))
    with pytest.raises(ContextError, match=r"offset 0.*iconv -f UTF-16"):
        load_document(write(path, "abc".encode("utf-16")))


def test_what_is_no_readable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="missing: no such file"):
        load_document(tmp_path / "missing")
    with pytest.raises(ContextError, match="is a directory"):
        load_document(tmp_path)
    with pytest.raises(ContextError, match="is no regular file"):
        load_document("/dev/null")
    with pytest.raises(ContextError, match="can't be read: Not a directory"):
        load_document(write(tmp_path / "file", "x") / "below")
    with pytest.raises(ContextError, match="can't be read: embedded null byte"):
        load_document("a\0b")


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "x" * 1_001)
    assert len(load_document(path, max_bytes=1_001)) == 1_001
    with pytest.raises(ContextError, match="larger than 1,000 bytes"):
        load_document(path, max_bytes=1_000)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("abc",))
    writer.start()
    assert load_document(path) == "abc"
    writer.join()


def test_one_document_is_a_string_and_several_are_a_dict(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.txt", "A"), write(tmp_path / "b.txt", "B")
    assert load_documents([a]) == "A"
    assert load_documents([str(b), a]) == {"b.txt": "B", "a.txt": "A"}


def test_equal_names_are_told_apart_by_the_shortest_end_of_their_paths(tmp_path: Path) -> None:
    names = ["x/one/a.txt", "y/one/a.txt", "two/a.txt", "b.txt"]
    paths = [write(tmp_path / name, name) for name in names]
    documents = load_documents(paths)
    assert isinstance(documents, dict)
    assert documents == dict(zip(["x/one/a.txt", "y/one/a.txt", "two/a.txt", "b.txt"], names, strict=True))


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    st.sets(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join), min_size=2, max_size=8)
)
def test_each_document_gets_a_name_of_its_own(names: set[str]) -> None:
    from orchestrator.context import _distinct_names

    paths = sorted(names)
    distinct = _distinct_names([f"/r/{path}" for path in paths])
    assert len(set(distinct)) == len(paths)
    assert all(f"/r/{path}".endswith(f"/{name}") for path, name in zip(paths, distinct, strict=True))


def test_documents_that_can_not_be_named_or_loaded_are_refused(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", "AAA"), write(tmp_path / "b", "BBB")
    with pytest.raises(ContextError, match="no document"):
        load_documents([])
    with pytest.raises(ContextError, match="is given twice"):
        load_documents([a, b, tmp_path / "x" / ".." / "a"])
    with pytest.raises(ContextError, match="b: is larger than 2 bytes"):
        load_documents([a, b], max_bytes=5)
    strange = os.path.join(os.fsencode(tmp_path), b"\xff")
    Path(os.fsdecode(strange)).write_text("x")
    with pytest.raises(ContextError, match="name is not UTF-8"):
        load_documents([a, os.fsdecode(strange)])


@pytest.mark.parametrize(
    "context",
    ["", "text", "\ud800", [], ["a", ""], {}, {"a": "b", "c": [1, 2.5, None, True, {"d": ["e"]}]}, {"": 10**4000}],
)
def test_a_good_context_is_returned_as_it_is(context: Any) -> None:
    assert check_context(context) is context


def test_paths_and_tuples_are_brought_to_their_normal_form(tmp_path: Path) -> None:
    assert check_context(write(tmp_path / "a", "abc")) == "abc"
    assert check_context(("a", "b")) == ["a", "b"]


def itself() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["a"] = {"b": loop}
    return loop


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (["a", 7, "b"], r"context\[1\]: a list holds strings only, this is of type int"),
        (["a", None], r"context\[1\].*of type NoneType"),
        ({"a": {"b": [1, {2}]}}, r"context\['a'\]\['b'\]\[1\]: of type set is no JSON value"),
        ({"a": {3: "x"}}, r"context\['a'\]: the key 3 is of type int, not a string"),
        ({"a": float("nan")}, r"context\['a'\]: the number is not JSON"),
        ({"a": [float("-inf")]}, r"context\['a'\]\[0\]: the number is not JSON"),
        ({"a": 10**5000}, "the number is not JSON"),
        ({"k" * 500: b"x"}, r"context\['k{39}\.\.\.\]: of type bytes"),
        (itself(), "refers to itself"),
        (nested(65), "nested more than 64 levels"),
        (b"abc", "of type bytes is no string.*decode it to a string first"),
        (None, "of type NoneType"),
        (7, "of type int"),
        ({"a", "b"}, "of type set"),
    ],
)
def test_a_bad_context_is_refused_with_its_place(context: object, message: str) -> None:
    with pytest.raises(ContextError, match=message):
        check_context(context)


def test_the_deepest_context_allowed() -> None:
    assert check_context(nested(64))


@pytest.mark.parametrize(
    ("context", "info"),
    [
        ("", "a string of 0 characters: it is empty"),
        ("a", "a string of 1 character in 1 line"),
        ("ab\ncd\n" * 1_000, "a string of 6,000 characters in 2,001 lines"),
        ([], "a list of 0 strings: it is empty"),
        (["abc"], "a list of 1 string; the strings have 3 characters in total: shortest 3, median 3, longest 3"),
        (
            ["a" * 5_000, "", "bb"],
            "a list of 3 strings; the strings have 5,002 characters in total: shortest 0, median 2, longest 5,000",
        ),
        ({}, "a dict of 0 keys"),
        (
            {"a": "xx", "b": "yyyy", "c": [1], "d": None, "e": 2, "f": True},
            (
                "a dict of 6 keys with values: 2 strings, 1 list, 1 null, 1 number, 1 boolean; "
                "the strings have 6 characters in total: shortest 2, median 3, longest 4"
            ),
        ),
        ({"a": {"b": "c"}}, "a dict of 1 key with values: 1 dict"),
    ],
)
def test_the_description_names_type_length_and_structure(context: Any, info: str) -> None:
    assert format_context_info(context) == info


@pytest.mark.parametrize(
    "context",
    [
        CANARY,
        [CANARY, f"x{CANARY}\n"],
        {CANARY: "x", "y": CANARY},
        {"a": {CANARY: [CANARY, {CANARY: CANARY}]}},
        {CANARY: CANARY},
    ],
)
def test_no_text_and_no_key_is_in_the_description(context: Any) -> None:
    assert CANARY not in format_context_info(context)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=12,
    ).map(lambda value: {"k": value})
)
def test_the_description_depends_on_shape_alone(context: dict[str, Any]) -> None:
    assert format_context_info(check_context(context)) == format_context_info(masked(context))


def masked(value: Any) -> Any:
    """The same shape with other text and other keys of the same lengths."""
    if isinstance(value, str):
        return "".join("\n" if character == "\n" else "\u2588" for character in value)
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, dict):
        return {f"{number}": masked(item) for number, item in enumerate(value.values())}
    return value
