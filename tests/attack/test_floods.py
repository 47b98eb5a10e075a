"""Floods of output and of messages: cut at head and tail with the true size said, and no burden to the host."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import pytest

from sandbox import kernel as kernel_module
from sandbox.cell import CellResult, Text
from sandbox.errors import ProtocolViolation
from sandbox.spec import CellLimits, Isolation
from tests.attack.forge import FLOOD_OF_PROMPTS, FORGE
from tests.attack.host_memory import bounded
from tests.attack.outcomes import works
from tests.attack.report import Line, add
from tests.boxes import SETTINGS, Box, never

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEPT: Final = 2 * SETTINGS.output_chars
"""Characters kept of each text: its head and its tail."""
MB: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """A cell that pours out text.

    Attributes:
        code: The cell.
        chars: True sizes that it may say.
        field: Where the text ends up.
    """

    code: str
    chars: tuple[int, ...]
    field: str = "stdout"


PIECES: Final = "for _ in range(10_000): {write}('x' * 9_999 + '\\n')"
FLOODS: Final = {
    "one print": Flood(code="print('x' * 200_000_000)", chars=(200 * MB, 200 * MB + 1)),
    "many prints": Flood(code="for _ in range(20_000): print('x' * 9_999)", chars=(200 * MB,)),
    "stderr": Flood(code="import sys\n" + PIECES.format(write="sys.stderr.write"), chars=(100 * MB,), field="stderr"),
    "display": Flood(code="for _ in range(5_000): display('x' * 9_997)", chars=(50 * MB,)),
    "pictures and html": Flood(
        code="for _ in range(1_000): display({'text/html': 'x' * 99_999, 'image/png': 'x' * 99_999}, raw=True)",
        chars=(1_000,),
    ),
    "a value": Flood(code="'x' * 100_000_000", chars=(100 * MB + 2,), field="result"),
    "descriptor 1": Flood(
        code="import os\nfor _ in range(100):\n    left = b'x' * 50_000\n"
        "    while left: left = left[os.write(1, left):]",
        chars=(5 * MB,),
    ),
    "descriptor 2": Flood(
        code="import os\nfor _ in range(100):\n    left = b'x' * 50_000\n"
        "    while left: left = left[os.write(2, left):]",
        chars=(5 * MB,),
        field="stderr",
    ),
    "a program": Flood(code="!head -c 5000000 /dev/zero | tr '\\0' x", chars=(5 * MB,)),
    "threads": Flood(
        code="import threading\ndef f():\n    for _ in range(1_000): print('x' * 9_999)\n"
        "threads = [threading.Thread(target=f) for _ in range(8)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()",
        chars=(80 * MB,),
    ),
    "empty writes": Flood(code="import sys\nfor _ in range(100_000): sys.stdout.write('')", chars=(0,)),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_text_is_cut_and_its_true_size_is_said(level_box: Box, level: Isolation, name: str) -> None:
    flood = FLOODS[name]
    await level_box.execute("kept = 9")
    with bounded(f"{level}, {name}"):
        result = await level_box.execute(flood.code)
    assert result.status == "ok", result
    text: Text = getattr(result, flood.field)
    assert text.true_chars in flood.chars
    assert len(text.text) == min(KEPT, text.true_chars)
    add(Line(setting="output", level=level, attack=name, status="held", reason=said(result, flood.field)))
    assert await level_box.shown("kept") == "9"


def said(result: CellResult, field: str) -> str:
    """In words for the report."""
    text: Text = getattr(result, field)
    return f"{len(text.text):,} of {text.true_chars:,} characters kept, in {result.wall_s:.1f} s"


async def test_an_error_as_long_as_a_flood_is_cut(level_box: Box, level: Isolation) -> None:
    with bounded(f"{level}, an error"):
        result = await level_box.execute("raise ValueError('x' * 10_000_000)")
    assert result.error is not None
    assert (result.status, result.error.name) == ("error", "ValueError")
    assert len(result.error.message) == KEPT
    assert len(result.error.traceback) <= KEPT
    add(Line(setting="output", level=level, attack="an error", status="held", reason=f"{KEPT:,} characters kept"))
    await works(level_box, lost=False)


async def test_what_was_printed_is_not_kept_in_the_box(level_box: Box, level: Isolation) -> None:
    """800 MB in a box of 512 MiB: IPython would keep all of it for a history."""
    for _ in range(4):
        result = await level_box.execute(f"{PIECES.format(write='print')}\n'x' * 100_000_000")
        assert (result.status, result.stdout.true_chars, result.result.true_chars) == (
            "ok",
            100 * MB + 10_000,
            100 * MB + 2,
        )
    add(Line(setting="output", level=level, attack="800 MB in four cells", status="held", reason="the box keeps none"))


LATE: Final = """
import threading
go, done = threading.Event(), threading.Event()
def late():
    go.wait()
    for _ in range(2_000): print("x" * 9_999)
    done.set()
threading.Thread(target=late).start()
threading.Timer({after_s}, go.set).start()
"""


async def test_a_flood_between_two_cells_is_dropped_and_counted(level_box: Box, level: Isolation) -> None:
    with bounded(f"{level}, a flood between two cells"):
        assert (await level_box.execute(LATE.format(after_s=0.3))).status == "ok"
        async with asyncio.timeout(20):
            while not late_chars(level_box):
                await asyncio.sleep(0.05)
        result = await level_box.execute("done.wait(); print('mine')")
    assert result.stdout.text.endswith("mine\n")
    assert 0 < result.late_chars <= KEPT
    add(Line(setting="output", level=level, attack="a thread after its cell", status="held", reason="dropped, counted"))
    await works(level_box, lost=False)


def late_chars(box: Box) -> int:
    """What the host has dropped since the last cell."""
    kernel = box.kernel
    assert kernel is not None
    return kernel._late_chars


async def test_a_flood_of_a_thread_in_a_later_cell_counts_as_that_cells(level_box: Box) -> None:
    """As in a notebook: what a thread prints belongs to the cell that runs then."""
    assert (await level_box.execute(LATE.format(after_s=600))).status == "ok"
    result = await level_box.execute("go.set(); done.wait(); print('mine')")
    assert (result.stdout.true_chars, len(result.stdout.text)) == (20 * MB + 5, KEPT)
    assert result.stdout.text.endswith("mine\n")
    assert await level_box.shown("6 * 7") == "42"


FORGED: Final = {
    "large stream messages": (  # slow enough that its queue does not fill the box's memory before the host has counted
        "while True: send('stream', {'name': 'stdout', 'text': 'x' * 60_000}); time.sleep(0.005)",
        "a flood",
    ),
    "small stream messages": ("while True: send('stream', {'name': 'stdout', 'text': 'x'})", "a flood"),
    "comm_open": ("while True: send('comm_open', {'comm_id': '0' * 32, 'target_name': 'x', 'data': {}})", "a flood"),
    "answers": ("while True: ask({'kind': 'answer'}, [b'x'])", "a second one"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_flood_of_forged_messages_is_a_violation(
    level_box: Box, level: Isolation, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's cap is left out; the host's holds. The host's own memory does not grow with what comes."""
    monkeypatch.setattr(kernel_module, "MAX_BYTES_PER_CELL", 32 << 20)  # the same, and shorter
    monkeypatch.setattr(kernel_module, "MAX_MESSAGES_PER_CELL", 5_000)
    code, words = FORGED[name]
    with bounded(f"{level}, {name}"), pytest.raises(ProtocolViolation, match=words):
        await level_box.execute(FORGE + code, CellLimits(wall_s=100, cpu_s=100))
    add(Line(setting="output", level=level, attack=f"forged: {name}", status="held", reason="a violation ends the box"))
    await level_box.restart()
    await works(level_box, lost=False)


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "never answered"])
async def test_a_flood_of_prompts_ends_as_one_or_by_a_clock_or_for_want_of_memory(box: Box, answered: bool) -> None:
    """What the host has not read yet waits in the box's own memory; which bound comes first is the machine's choice."""
    if not answered:
        box.answer = never
    try:
        with bounded("a flood of prompts"):
            result = await box.execute(FORGE + FLOOD_OF_PROMPTS, CellLimits(wall_s=20, wait_s=600, cpu_s=2))
    except ProtocolViolation:
        pass  # the host counted too many prompts
    else:
        assert result.status in ("interrupted", "lost"), result
        assert result.clock == "cpu" or "out of memory" in (result.lost_because or ""), result
    await box.restart()
    await works(box, lost=False)
