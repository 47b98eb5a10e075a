"""Text on its way: told in pieces, of which neither size nor number is for its sender to say; and who is told."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from orchestrator.audience import Audience
from orchestrator.live import INTERVAL_S, LiveText
from orchestrator.policies.base import Allow, Decision, IncomingReply, Policy
from orchestrator.policies.canary import Canary
from orchestrator.policies.chain import PolicyChain
from orchestrator.policies.limits import MaxPrompt
from orchestrator.providers.base import ModelReply, TokenUsage
from orchestrator.recorder import Recorder
from orchestrator.trace import TraceEvent, TraceFile

Piece = tuple[str, str, bool]


def heard(most_chars: int) -> tuple[list[Piece], LiveText]:
    said: list[Piece] = []
    return said, LiveText(lambda stream, text, cut: said.append((stream, text, cut)), most_chars)


async def test_a_million_small_pieces_are_one_of_the_head_alone() -> None:
    said, live = heard(1_000)
    for _ in range(1_000_000):
        live.add("stdout", "x")
    live.close()
    assert said == [("stdout", "x" * 1_000, True)]


async def test_streams_are_told_apart_and_the_last_piece_says_that_more_came() -> None:
    said, live = heard(4)
    for stream, text in (("stdout", "a"), ("stderr", "b"), ("stdout", "c"), ("stderr", "dd")):
        live.add(stream, text)
    live.close()
    assert said == [("stdout", "ac", False), ("stderr", "bd", True)]


async def test_it_is_told_while_it_comes_and_nothing_behind_the_end() -> None:
    said, live = heard(100)
    live.add("stdout", "one")
    assert said == []
    async with asyncio.timeout(5):
        while not said:
            await asyncio.sleep(INTERVAL_S / 5)
    live.add("stdout", "two")
    live.close()
    live.add("stdout", "three")
    live.close()
    await asyncio.sleep(2 * INTERVAL_S)
    assert said == [("stdout", "one", False), ("stdout", "two", False)]


async def test_a_pair_that_came_in_two_pieces_is_one_character_and_half_of_one_is_no_text() -> None:
    said, live = heard(100)
    live.add("reply", "\ud83d")
    live.add("reply", "\ude00 \ud83d")
    live.close()
    assert said == [("reply", "\U0001f600 \ufffd", False)]


# --- who is told ---


def test_a_watcher_that_raises_is_left_out_and_the_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    kinds: list[str] = []

    def broken(event: TraceEvent) -> None:
        raise ZeroDivisionError(event.texts["answer"])

    recorder = Recorder([broken, lambda event: kinds.append(event.kind)])
    with caplog.at_level(logging.WARNING):
        recorder.emit("setup", {"doing": "x"}, answer="the document's words")
        recorder.child(run=1, depth=1).emit("setup", {"doing": "x"}, answer="the document's words")
    assert kinds == ["setup", "setup"]
    (warning,) = caplog.messages
    assert "broken raised ZeroDivisionError and is left out" in warning
    assert "document" not in warning


def test_a_trace_that_can_not_be_written_ends_the_run_before_a_watcher_hears(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path, keep_text=True)
    trace.close()
    told: list[TraceEvent] = []
    with pytest.raises(ValueError, match="closed"):
        Recorder([told.append, trace]).emit("setup", {"doing": "x"})
    assert told == []


async def test_where_nobody_watches_nothing_transient_is_made(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path, keep_text=True)
    recorder = Recorder([trace])
    assert not Audience([trace]).watches
    assert recorder.reply_begins() is None
    turn = recorder.turn(ModelReply(text="x", usage=TokenUsage(input_tokens=1, output_tokens=1)), 0.1)
    recorder.cell_starts(turn, "1")
    recorder.output("stdout", "x")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    trace.close()


def test_a_policy_that_is_to_see_replies_first_is_known_from_one_that_is_not() -> None:
    class Reads(Policy):
        def on_reply(self, reply: IncomingReply) -> Decision:
            return Allow()

    class Inherits(Reads):
        pass

    assert not PolicyChain([]).reads_replies
    assert not PolicyChain([Policy(), MaxPrompt(5)]).reads_replies
    assert PolicyChain([MaxPrompt(5), Inherits()]).reads_replies
    assert PolicyChain([Canary()]).reads_replies
