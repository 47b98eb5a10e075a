"""Texts that are larger than the box that works on them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from orchestrator import RLM, Limits, REPLEnvironment
from sandbox.host import Host
from sandbox.large_text import put_text_file
from sandbox.spec import MIB, CellLimits, SandboxSpec
from sandbox.store import StoredContext, shared_store
from tests.boxes import Box
from tests.conftest import missing
from tests.events import Checked
from tests.runs import code, script, shown

LINE = "line %08d: Größe 漢字, e\u0301, \U0001f600" + " and so on" * 50 + "\r\n"
LINES = 2_000
END = "and the NEEDLE ist hier\u2028ÄÖÜ"
SMALLEST = 128 * MIB


def write(path: Path, size_bytes: int) -> int:
    """A text of many lines, each with its number, in blocks of `LINES`; returns how many lines."""
    block = "".join(LINE % number for number in range(LINES)).encode()
    blocks = size_bytes // len(block) + 1
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(block)
        file.write(END.encode())
    return blocks * LINES


def cold(path: Path) -> None:
    """Drop a file's pages: whoever reads them next is charged for them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A file larger than the smallest box, and its lines."""
    path = tmp_path_factory.mktemp("large") / "text"
    yield path, write(path, SMALLEST + 40 * MIB)
    path.unlink()


async def read_through(box: Box, lines: int) -> None:
    """Every way through all of it; each is right to the character."""
    line = len(LINE % 0)
    chars = lines * line + len(END)
    needle = lines * line + END.index("NEEDLE")
    for expression, expected in {
        "len(context)": chars,
        "context[-13:]": END[-13:],
        f"context[{lines // 2 * line}:{lines // 2 * line + line}]": LINE % (lines // 2 % LINES),
        "context.find('NEEDLE')": needle,
        "context.count('漢字')": lines,
        f"context.count('Größe', {-len(END) - 10 * line})": 10,
        "len(context.lines())": lines + 1,
        "context.lines()[-2]": (LINE % (LINES - 1)).rstrip("\n"),
        f"context.line_number({needle})": lines,
        "sum(len(line) + 1 for line in context) - 1": chars,
        "sum(map(len, context.chunks(1_000_000)))": chars,
        r"context.search(r'NEEDLE\s+(\w+)').span(1)": (needle + 7, needle + 10),
        rf"len(context.findall(r'(?m)(?i:^LINE 0+17: größe\b)', {chars - 2 * LINES * line}))": 2,
    }.items():
        assert await said(box, expression) == repr(expected), expression


async def said(box: Box, expression: str) -> str:
    """The value of an expression, however long it takes."""
    result = await box.execute(expression, CellLimits(wall_s=600, cpu_s=600))
    assert result.status == "ok", result
    return result.result.text


async def opened(host: Host, spec: SandboxSpec, path: Path) -> tuple[Box, StoredContext]:
    """A box with a text in it, whose pages nobody has read."""
    stored = dataclasses.replace(put_text_file(host.store, path), lazy=True)
    cold(host.store.blob(stored))
    box = await Box.open(host, spec)
    await box.load("context", stored)
    return box, stored


@pytest.mark.parametrize("isolation", ["container", "gvisor"])
async def test_a_text_larger_than_its_box(box_host: Host, large: tuple[Path, int], isolation: Any) -> None:
    if isolation == "gvisor" and "runsc" not in (await box_host.engine.info())["Runtimes"]:
        missing("the engine has no gVisor")
    box, stored = await opened(box_host, SandboxSpec(memory_bytes=SMALLEST, isolation=isolation), large[0])
    async with box:
        box_host.store.forget(stored)
        await read_through(box, large[1])
        whole = await box.execute("str(context)")
        assert whole.error
        assert whole.error.name == "MemoryError"
        assert await box.shown("context[:5]") == "'line '", "refused, and not tried"


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [600 * MIB, 10_000 * MIB], ids=["600M", "10G"])
async def test_gigabytes_in_half_a_gigabyte(box_host: Host, tmp_path: Path, size: int) -> None:
    path = tmp_path / "text"
    lines = write(path, size)
    box, stored = await opened(box_host, SandboxSpec(memory_bytes=512 * MIB), path)
    path.unlink()
    box_host.store.forget(stored)
    async with box:
        if size > 1000 * MIB:
            assert await said(box, "context.find('NEEDLE')") == str(lines * len(LINE % 0) + END.index("NEEDLE"))
            assert await said(box, "context.lines()[-2][:13]") == repr("line 00001999")
        else:
            await read_through(box, lines)


@pytest_asyncio.fixture
async def blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_id: str) -> AsyncIterator[Path]:
    """The store of this test, in which nothing is left."""
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
    yield shared_store().folder
    assert [path for path in shared_store().folder.rglob("*") if path.is_file()] == []
    shared_store().close()


LOOKS = "print(type(context).__name__, len(context), context.find('NEEDLE'), context.lines()[1][:13])"


@pytest.mark.parametrize("given", ["file", "str"])
async def test_a_run_about_a_text_that_does_not_fit(blobs: Path, tmp_path: Path, given: str) -> None:
    path = tmp_path / "document"
    lines = write(path, 20 * MIB)
    text = path.read_bytes().decode()
    chars = len(text)
    root = script(code(LOOKS), "FINAL(seen)")
    checked = Checked()
    rlm = RLM(root, limits=Limits(memory_bytes=144 * MIB))
    result = await rlm.arun("?", path if given == "file" else text, listeners=[checked])
    assert checked.faults == []
    assert result.answer == "seen"
    assert result.turns[0].cells[0].output == f"LazyText {chars} {chars - len(END) + 8} line 00000001"
    first = shown(root, 0)
    assert first.startswith(f"`context` is a lazy text of {chars:,} characters with {lines:,} newlines.")
    assert "re.search(pattern, context)` can't work" in first
    assert [(one.kind, one.size_bytes, one.loaded) for one in result.documents] == [("text", path.stat().st_size, True)]


async def test_the_same_text_as_a_str_where_it_is_asked_for(blobs: Path, tmp_path: Path) -> None:
    (tmp_path / "document").write_text("a\n" * 5_000_000)
    root = script(code("print(type(context).__name__, len(context))"), "FINAL(seen)")
    rlm = RLM(root, limits=Limits(memory_bytes=160 * MIB), context_mode="str")
    result = await rlm.arun("?", tmp_path / "document")
    assert result.turns[0].cells[0].output == "str 10000000"
    assert "lazy" not in shown(root, 0)


async def test_a_session_gives_its_texts_back(blobs: Path) -> None:
    root = script(code("print(repr(context), len(context_1))"), "FINAL(one)", "FINAL(two)")
    async with RLM(root, context_mode="lazy").session("a\nb", more=["é" * 100]) as session:
        first = await session.ask("?")
        assert first.turns[0].cells[0].output.startswith("<LazyText of 3 characters in 2 lines;")
        assert first.turns[0].cells[0].output.endswith(" 100")
        await session.add_context("more")
        assert (await session.ask("?")).answer == "two"


def test_an_environment_with_a_lazy_text(blobs: Path) -> None:
    environment = REPLEnvironment("one\ntwo", context_mode="lazy")
    with environment as repl:
        assert repl.execute("print(*context, sep='|')").output.strip() == "one|two"
        assert repl.execute("import os; os.kill(os.getpid(), 9)").success is False
        assert repl.execute("print(context[-3:])").output.strip() == "two", "bound again in a fresh box"
        failed = repl.execute("import re; re.search('a', context)")
        assert "TypeError" in failed.output
        assert "LazyText" in failed.output
    del environment, repl
