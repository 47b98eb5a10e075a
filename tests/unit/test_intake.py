"""Which contexts come in by way of the store, and that none stays there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, ConfigError, ContextError, ScriptedProvider
from orchestrator.context import context_note, format_context_info
from orchestrator.documents import documents_of
from orchestrator.intake import SPARE_BYTES, is_large_file, is_lazy, take_in, take_in_now, taken_in
from orchestrator.limits import MIB
from sandbox.store import StoredContext, shared_store

MEMORY = 800
"""Of a box that has room for 100 bytes, were there one as small."""


@pytest.fixture(autouse=True)
def blobs(tmp_path: Path) -> Iterator[Path]:
    """The store's files, of which none is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
        folder = shared_store().folder / "blobs"
        yield folder
        assert os.listdir(folder) == []
        shared_store().close()


def test_lazy_is_what_would_not_fit_four_times() -> None:
    for memory, spare in ((MEMORY, 400), (1024 * MIB, SPARE_BYTES), (256 * MIB, SPARE_BYTES)):
        assert not is_lazy((memory - spare) // 4, "auto", memory)
        assert is_lazy((memory - spare) // 4 + 1, "auto", memory)
    assert not is_lazy(1 << 40, "str", MEMORY)
    assert is_lazy(0, "lazy", MEMORY)


@pytest.mark.parametrize(
    "value", ["a" * 100, ["a" * 1000], {"a": "b" * 1000}, ""], ids=["text", "list", "dict", "empty"]
)
async def test_what_fits_is_a_value(value: Any) -> None:
    async with taken_in(value, "auto", MEMORY) as taken:
        assert taken is value


@pytest.mark.parametrize("text", ["a" * 101, "é" * 51, "a\ud800" * 40], ids=["ascii", "wide", "surrogates"])
async def test_a_text_that_does_not_fit_is_lazy(text: str, blobs: Path) -> None:
    async with taken_in(text, "auto", MEMORY) as taken:
        assert isinstance(taken, StoredContext)
        assert taken.lazy
        assert len(os.listdir(blobs)) == 2
        assert documents_of(taken)[0].sha256 == taken.digest == documents_of(text)[0].sha256
        assert format_context_info(taken) == f"a lazy text of {len(text):,} characters with 0 newlines"
        assert context_note(taken)
    async with taken_in(text, "str", MEMORY) as taken:
        assert taken is text
        assert not context_note(taken)


async def test_a_file_is_read_or_copied_by_its_size(tmp_path: Path, blobs: Path) -> None:
    file = tmp_path / "a"
    file.write_text("\ufeffline\n" * 10)
    async with taken_in(file, "auto", MEMORY) as taken:
        assert taken == "line\n" + "\ufeffline\n" * 9
    file.write_text("line\n" * 21)
    async with taken_in(file, "auto", MEMORY) as taken:
        assert isinstance(taken, StoredContext)
        assert taken.lazy
        assert format_context_info(taken) == "a lazy text of 105 characters with 21 newlines"
        assert len(os.listdir(blobs)) == 2


async def test_a_str_from_a_file_of_any_size_takes_no_memory_here(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    os.truncate(file, 257 * MIB)  # NUL is a character
    async with taken_in(file, "str", MEMORY) as taken:
        assert isinstance(taken, StoredContext)
        assert not taken.lazy
        assert format_context_info(taken) == "a string of 269,484,032 characters in 1 line"
        assert not context_note(taken)


def test_what_is_wrong_with_a_large_file_is_said_as_of_a_small_one(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for raw in (b"\xff\xfe" * 200, b"a" * 200 + b"\xe9 "):
        said = []
        for memory in (MEMORY, 1 << 40):
            file.write_bytes(raw)
            with pytest.raises(ContextError) as raised:
                take_in_now(file, "auto", memory)
            said.append(str(raised.value))
        assert said[0] == said[1]
    with pytest.raises(ContextError, match="no such file"):
        take_in_now(tmp_path / "missing", "lazy", MEMORY)
    with pytest.raises(ContextError, match="is a directory"):
        take_in_now(tmp_path, "lazy", MEMORY)
    os.truncate(file, 1 << 43)
    with pytest.raises(ContextError, match=r"a: has 8,796,093,022,208 bytes, and .* set AIRLOCK_STATE"):
        take_in_now(file, "auto", MEMORY)
    assert is_large_file(file, "auto", MEMORY)
    assert not is_large_file("a\0b", "lazy", MEMORY)


async def test_who_is_cancelled_leaves_no_copy(tmp_path: Path, blobs: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    os.truncate(file, 4096 * MIB)  # seconds of work
    taking = asyncio.create_task(take_in(file, "auto", MEMORY))
    while not os.listdir(blobs):
        await asyncio.sleep(0.01)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert os.listdir(blobs) == []


async def test_settings_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="context_mode: 'mmap' is none of auto, str, lazy"):
        RLM(ScriptedProvider([]), context_mode="mmap")  # type: ignore[arg-type]
    rlm = RLM(ScriptedProvider([]), context_mode="lazy", journal_dir=tmp_path / "journal")
    with pytest.raises(ConfigError, match="journal_dir: a journal keeps no text"):
        await rlm.arun("?", "text")
