"""The stream: events in order for a reader at its own pace, within bounds, and an end for whoever stops reading."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator.audience import Listener
from orchestrator.errors import ConfigError, ProviderError
from orchestrator.limits import Usage
from orchestrator.result import RunResult, StopReason
from orchestrator.stream import MOST_CHARS, MOST_PIECES, RunStream
from orchestrator.trace import TraceEvent

RESULT = RunResult(answer="x", stop_reason=StopReason.ANSWERED, usage=Usage(), turns=(), isolation=None)


def event(kind: str, **facts: Any) -> TraceEvent:
    return TraceEvent(kind=kind, t_s=0, facts=facts)


def piece(text: str, *, reply: int = 1, cut: bool = False) -> TraceEvent:
    facts = {"turn": 1, "reply": reply, "cut": cut}
    return TraceEvent(kind="token", t_s=0, facts=facts, texts={"text": text}, transient=True)


class Play:
    """A run that says these events, and then does something."""

    def __init__(self, *events: TraceEvent, then: Callable[[], Awaitable[Any]] | None = None) -> None:
        self.events, self.then = events, then
        self.started = self.cleaned = False

    async def __call__(self, listener: Listener) -> RunResult:
        self.started = True
        try:
            for said in self.events:
                listener(said)
            if self.then is not None:
                await self.then()
            listener(event("run_end"))
            return RESULT
        finally:
            await asyncio.sleep(0.01)  # a box takes a moment to go
            self.cleaned = True


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_events_come_in_order_and_then_the_result() -> None:
    stream = RunStream(Play(event("run_start"), event("turn")))
    before = stream.result
    assert [said.kind async for said in stream] == ["run_start", "turn", "run_end"]
    assert (before, stream.result) == (None, RESULT)
    assert [said async for said in stream] == []


async def test_nothing_starts_before_the_first_event_is_asked_for() -> None:
    play = Play()
    async with RunStream(play):
        await asyncio.sleep(0.01)
    assert not play.started


async def test_pieces_of_one_text_become_one_for_a_slow_reader_and_those_of_two_do_not() -> None:
    pieces = [piece("a"), piece("b"), piece("c", cut=True), piece("d", reply=2), event("turn"), piece("e", reply=2)]
    said = [(got.kind, got.texts.get("text"), got.facts.get("cut")) async for got in RunStream(Play(*pieces))]
    assert said == [
        ("token", "abc", True),
        ("token", "d", False),
        ("turn", None, None),
        ("token", "e", False),
        ("run_end", None, None),
    ]


async def test_a_slow_reader_makes_nothing_grow_but_loses_no_event_that_says_how_the_run_went() -> None:
    many = [said for number in range(5_000) for said in (piece("x", reply=number), event("sub_call", number=number))]
    large = [piece("y" * 1000, reply=9_999) for _ in range(5_000)]
    stream = RunStream(Play(*many, *large))
    got = [said async for said in stream]
    assert [said.facts["number"] for said in got if said.kind == "sub_call"] == list(range(5_000))
    tokens = [said.texts["text"] for said in got if said.kind == "token"]
    assert len(tokens) == MOST_PIECES
    assert stream.left_out_chars == 5_000 - MOST_PIECES + 5_000_000
    stream = RunStream(Play(*large))
    (whole,) = [said.texts["text"] async for said in stream if said.kind == "token"]
    assert MOST_CHARS - 1000 < len(whole) <= MOST_CHARS
    assert stream.left_out_chars == 5_000_000 - len(whole)


async def test_a_reader_that_keeps_up_loses_nothing() -> None:
    async def write(listener: Listener) -> RunResult:
        for _ in range(3 * MOST_PIECES):
            listener(piece("z" * 1000))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return RESULT

    stream = RunStream(write)
    assert sum([len(said.texts["text"]) async for said in stream]) == 3_000 * MOST_PIECES
    assert stream.left_out_chars == 0


@pytest.mark.parametrize("leave", ["break", "aclose", "raise"])
async def test_whoever_leaves_ends_the_run_and_waits_until_it_has_cleaned_up(leave: str) -> None:
    play = Play(event("run_start"), then=forever)
    if leave == "aclose":
        stream = RunStream(play)
        await anext(stream)
        await stream.aclose()
        await stream.aclose()
    else:
        try:
            async with RunStream(play) as stream:
                async for _ in stream:
                    if leave == "break":
                        break
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert leave == "raise"
    assert play.cleaned
    assert stream.result is None
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_the_cancellation_of_the_reader_ends_the_run_and_waits_too() -> None:
    play = Play(event("run_start"), then=forever)
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in RunStream(play):
            begun.set()

    reader = asyncio.create_task(read())
    await begun.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert play.cleaned


async def test_a_plain_break_ends_the_run_too() -> None:
    play = Play(event("run_start"), then=forever)
    async for _ in RunStream(play):
        break
    gc.collect()
    async with asyncio.timeout(5):
        while not play.cleaned:
            await asyncio.sleep(0.005)


async def test_what_the_run_raises_is_raised_behind_its_last_event_and_once() -> None:
    failure = ProviderError("broke", provider="p")
    failure.result = RESULT

    async def fail() -> None:
        raise failure

    stream = RunStream(Play(event("run_start"), event("run_end"), then=fail))
    assert [(await anext(stream)).kind, (await anext(stream)).kind] == ["run_start", "run_end"]
    with pytest.raises(ProviderError, match="broke"):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert stream.result is RESULT


async def test_what_is_refused_before_the_run_is_raised_without_an_event() -> None:
    async def refuse(_: Listener) -> RunResult:
        raise ConfigError("query: '' is not a question")

    stream = RunStream(refuse)
    with pytest.raises(ConfigError):
        await anext(stream)
    assert stream.result is None


async def test_a_failure_that_nobody_asks_for_is_not_reported_as_forgotten() -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async def fail() -> None:
        raise ProviderError("broke", provider="p")

    stream = RunStream(Play(event("run_start"), then=fail))
    await anext(stream)
    await asyncio.sleep(0.05)
    await stream.aclose()
    del stream
    gc.collect()
    assert said == []
