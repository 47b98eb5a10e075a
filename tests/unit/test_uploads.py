"""Contexts on their way to child runs: bounded, and gone on every way out."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import uploads as uploads_module
from sandbox.errors import ProtocolViolation
from sandbox.messages import Piece, SubCallFailure
from sandbox.store import Store, StoredContext
from sandbox.uploads import MAX_OPEN_UPLOADS, StoreQuota, Uploads

ID = "0" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_pieces_become_one_context_whose_digest_the_host_made(store: Store, tmp_path: Path) -> None:
    quota = StoreQuota(100)
    uploads = Uploads(store, quota)
    for raw in (b"ab", b"", b"c"):
        assert await uploads.add(Piece(ID, "text", raw))
    taken = await uploads.take(ID)
    assert taken == StoredContext(digest=hashlib.sha256(b"abc").hexdigest(), form="text", size_bytes=3, is_ascii=True)
    assert quota.used_bytes == 3
    assert [path.read_bytes() for path in files(tmp_path)] == [b"abc"]
    uploads.release(taken)
    assert (quota.used_bytes, files(tmp_path)) == (0, [])


async def test_what_exceeds_the_quota_is_dropped_and_frees_its_room(store: Store, tmp_path: Path) -> None:
    quota = StoreQuota(10)
    uploads = Uploads(store, quota)
    assert await uploads.add(Piece(ID, "text", b"x" * 8))
    assert not await uploads.add(Piece(ID, "text", b"x" * 8))
    assert not await uploads.add(Piece(ID, "text", b"x")), "the rest of it is not kept either"
    assert (quota.used_bytes, files(tmp_path)) == (0, [])
    failure = await uploads.take(ID)
    assert isinstance(failure, SubCallFailure)
    assert failure.kind == "LimitExceeded"


async def test_clear_leaves_neither_files_nor_a_claim(store: Store, tmp_path: Path) -> None:
    quota = StoreQuota(100)
    uploads = Uploads(store, quota)
    for index in range(5):
        await uploads.add(Piece(f"{index:032x}", "json", b"[]"))
    await uploads.clear()
    assert (quota.used_bytes, files(tmp_path)) == (0, [])
    assert isinstance(await uploads.take(ID), SubCallFailure)


async def test_too_many_at_once_and_two_forms_are_violations(store: Store) -> None:
    uploads = Uploads(store, StoreQuota(10_000))
    await uploads.add(Piece(ID, "text", b""))
    with pytest.raises(ProtocolViolation, match="two forms"):
        await uploads.add(Piece(ID, "json", b""))
    for index in range(1, MAX_OPEN_UPLOADS):
        await uploads.add(Piece(f"{index:032x}", "text", b""))
    with pytest.raises(ProtocolViolation, match="at once"):
        await uploads.add(Piece("f" * 32, "text", b""))


async def test_a_piece_that_is_being_written_when_all_ends_does_not_come_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, go_on, append = threading.Event(), threading.Event(), uploads_module._append

    def slow(*args: Any) -> None:
        written.set()
        go_on.wait(10)
        append(*args)

    monkeypatch.setattr(uploads_module, "_append", slow)
    quota = StoreQuota(100)
    uploads = Uploads(store, quota)
    adding = asyncio.create_task(uploads.add(Piece(ID, "text", b"secret")))
    await asyncio.to_thread(written.wait, 10)
    adding.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(adding, return_exceptions=True)
    await uploads.clear()
    assert (quota.used_bytes, files(tmp_path)) == (0, [])


async def test_a_context_whose_taking_is_cancelled_is_given_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking, go_on, adopt = threading.Event(), threading.Event(), store.adopt

    def slow(*args: Any, **named: Any) -> StoredContext:
        taking.set()
        go_on.wait(10)
        return adopt(*args, **named)

    quota = StoreQuota(100)
    uploads = Uploads(store, quota)
    await uploads.add(Piece(ID, "text", b"secret"))
    monkeypatch.setattr(store, "adopt", slow)
    task = asyncio.create_task(uploads.take(ID))
    await asyncio.to_thread(taking.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    assert (quota.used_bytes, files(tmp_path)) == (0, [])
