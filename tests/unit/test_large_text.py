"""Large texts on their way into the store: whole, checked, counted, and in no more memory than a chunk takes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from sandbox.errors import NotUtf8, SandboxError
from sandbox.large_text import Stopped, index_text, put_text_file
from sandbox.store import Store, StoredContext
from sandbox.text_index import CHUNK_BYTES, TextCounts

LINE = "Съешь же ещё этих 😀 мягких булок\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, path: Path, raw: bytes) -> StoredContext:
    path.write_bytes(raw)
    return put_text_file(store, path)


def left(store: Store) -> list[str]:
    return sorted(os.listdir(store.folder / "blobs"))


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_is_taken_whole_and_counted(store: Store, tmp_path: Path, mark: str) -> None:
    text = LINE * 100_000 + "no newline, and a \ufeff"
    stored = put(store, tmp_path / "a", (mark + text).encode())
    raw = text.encode()
    assert len(raw) > 4 * CHUNK_BYTES
    assert stored == StoredContext(
        digest=hashlib.sha256(raw).hexdigest(),
        form="text",
        size_bytes=len(raw),
        counts=TextCounts(chars=len(text), newlines=100_000),
        is_ascii=text.isascii(),
    )
    assert store.blob(stored).read_bytes() == raw
    (tmp_path / "a").write_bytes(b"changed")
    assert store.blob(stored).read_bytes() == raw


def test_a_text_that_is_there_already_is_counted_alike(store: Store, tmp_path: Path) -> None:
    text = LINE * 50_000
    from_file = put(store, tmp_path / "a", text.encode())
    index = store.blob(from_file).with_suffix(".index").read_bytes()
    store.forget(from_file)
    assert left(store) == []
    from_text = store.put(text)
    assert index_text(store, from_text) == from_file
    assert store.blob(from_text).with_suffix(".index").read_bytes() == index


def test_the_index_is_there_as_long_as_the_text(store: Store, tmp_path: Path) -> None:
    whole = put(store, tmp_path / "a", b"text\n")
    lazy = dataclasses.replace(put(store, tmp_path / "a", b"text\n"), lazy=True)
    box = store.new_box_dir()
    assert store.link(whole, box) == whole.digest
    assert os.listdir(box) == [whole.digest]
    store.link(lazy, box)
    assert sorted(os.listdir(box)) == [whole.digest, f"{whole.digest}.index"]
    assert {file.stat().st_mode & 0o777 for file in box.iterdir()} == {0o444}
    store.unlink(lazy, box)
    assert os.listdir(box) == []
    store.forget(whole)
    store.link(lazy, box)
    store.forget(lazy)
    assert left(store) == []


def test_it_takes_the_memory_of_a_chunk(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(LINE.encode() * (32 * CHUNK_BYTES // len(LINE.encode())))
    tracemalloc.start()
    try:
        stored = put_text_file(store, path)
        index_text(store, stored)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * CHUNK_BYTES < stored.size_bytes


@pytest.mark.parametrize("before", [0, CHUNK_BYTES - 1, 3 * CHUNK_BYTES], ids=str)
@pytest.mark.parametrize("bad", [b"\xe9 ", b"\xf0\x9f\x98", b"\xed\xa0\x80"], ids=["latin1", "cut", "surrogate"])
def test_what_is_not_utf8_leaves_nothing(store: Store, tmp_path: Path, before: int, bad: bytes) -> None:
    with pytest.raises(NotUtf8) as raised:
        put(store, tmp_path / "a", b"\xef\xbb\xbf" + b"a" * before + bad)
    assert raised.value.offset == 3 + before, "counted from the file's beginning, the mark included"
    assert left(store) == []


def test_what_can_not_be_taken_leaves_nothing(store: Store, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    huge.touch()
    os.truncate(huge, 1 << 43)  # holes: it takes no room, but its copy would
    with pytest.raises(SandboxError, match=r"has 8,796,093,022,208 bytes, and .* set AIRLOCK_STATE"):
        put_text_file(store, huge)
    with pytest.raises(SandboxError, match="is no regular file"):
        put_text_file(store, Path("/dev/null"))
    with pytest.raises(FileNotFoundError):
        put_text_file(store, tmp_path / "missing")
    huge.write_bytes(LINE.encode() * 200_000)
    asked = iter([False, True])
    with pytest.raises(Stopped):
        put_text_file(store, huge, stopped=lambda: next(asked))
    with pytest.raises(SandboxError, match="grows while it is read"):
        put_text_file(store, huge, stopped=lambda: grow(huge))
    assert left(store) == []


def grow(path: Path) -> bool:
    with path.open("ab") as file:
        file.write(LINE.encode() * 100)
    return False


def test_several_at_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(LINE.encode() * 100_000)
    found: list[StoredContext] = []
    threads = [threading.Thread(target=lambda: found.append(put_text_file(store, tmp_path / "a"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(left(store)) == 2
    for stored in found:
        store.forget(stored)
    assert left(store) == []
