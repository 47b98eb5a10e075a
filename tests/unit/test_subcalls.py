"""Sub-calls of one box: answered as their answers come, bounded, and ended with their cell or their box."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from sandbox import subcalls
from sandbox.errors import ProtocolViolation
from sandbox.link import Link
from sandbox.messages import CALLS, Asked, Query, SubCallFailure
from sandbox.pace import Pace
from sandbox.subcalls import MAX_ANSWER_CHARS, MAX_OPEN_BYTES, PROMPT_COST_BYTES, SubCalls


class Cell:
    """As much of an open cell as sub-calls see."""

    def __init__(self) -> None:
        self.stopping = False
        self.in_flight = self.calls = 0

    def call_started(self) -> None:
        self.in_flight += 1
        self.calls += 1

    def call_ended(self) -> None:
        self.in_flight -= 1


class Guest:
    """The box's end of a link, and the sub-calls at the other."""

    def __init__(self, link: Link, own: Link) -> None:
        self.calls = SubCalls(link, "c" * 32, self.handle, Pace())
        self.cell = Cell()
        self.release = asyncio.Event()
        self.asked: list[str] = []
        self._frames = own.frames()

    async def handle(self, asked: Asked) -> str | SubCallFailure:
        self.asked.append(asked.prompt)
        if asked.prompt.startswith("wait"):
            await self.release.wait()
        if asked.prompt == "fail":
            raise RuntimeError("the host's secret")
        return SubCallFailure("LimitExceeded", "no more") if asked.prompt == "refuse" else asked.prompt.upper()

    async def ask(self, number: int, prompts: Sequence[str], cell: Cell | None = None) -> None:
        count = len(prompts)
        query = Query(f"{number:032x}", tuple(range(count)), tuple(map(Asked, prompts)))
        await self.calls.open(query, cell or self.cell)

    async def results(self, count: int) -> dict[tuple[int, int], Any]:
        """(query, index) to text or kind of failure, for so many results."""
        found: dict[tuple[int, int], Any] = {}
        async for channel, parts in self._frames:
            assert channel == CALLS
            data = json.loads(parts[5])["data"]
            buffers = iter(parts[6:])
            for result in data["results"]:
                key = (int(data["id"], 16), result["index"])
                assert key not in found, "answered twice"
                found[key] = result.get("error") or next(buffers).decode()
            if len(found) >= count:
                break
        assert len(found) == count
        return found


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    ours, theirs = socket.socketpair()
    link = Link(*await asyncio.open_unix_connection(sock=ours), multiplexed=False)
    own = Link(*await asyncio.open_unix_connection(sock=theirs), multiplexed=False)
    guest = Guest(link, own)
    yield guest
    await guest.calls.aclose()
    link.abort()
    own.abort()
    await asyncio.sleep(0)


async def test_answers_go_out_as_they_come(guest: Guest) -> None:
    await guest.ask(1, ["wait", "b", "refuse", "fail"])
    assert await guest.results(3) == {(1, 1): "B", (1, 2): "LimitExceeded", (1, 3): "SubCallError"}
    assert guest.cell.in_flight == 1
    guest.release.set()
    assert await guest.results(1) == {(1, 0): "WAIT"}
    await asyncio.sleep(0)
    assert (guest.cell.in_flight, guest.cell.calls) == (0, 1)


async def test_without_a_cell_nothing_is_asked(guest: Guest) -> None:
    await guest.calls.open(Query("0" * 32, (0, 1), (Asked("a"), Asked("b"))), None)
    assert await guest.results(2) == {(0, 0): "NoCellRunning", (0, 1): "NoCellRunning"}
    assert guest.asked == []


async def test_an_id_in_flight_is_no_other_querys_but_may_come_again_later(guest: Guest) -> None:
    await guest.ask(1, ["wait"])
    with pytest.raises(ProtocolViolation, match="twice"):
        await guest.ask(1, ["b"])
    guest.release.set()
    await guest.results(1)
    await asyncio.sleep(0)
    await guest.ask(1, ["b"])
    assert await guest.results(1) == {(1, 0): "B"}


async def test_a_cell_that_stops_has_all_its_calls_refused(guest: Guest) -> None:
    await guest.ask(1, ["wait 1", "wait 2"])
    await guest.ask(2, ["wait 3"])
    await asyncio.sleep(0.01)
    guest.cell.stopping = True
    guest.calls.stop()
    await guest.ask(3, ["late"])
    assert set((await guest.results(4)).values()) == {"LimitExceeded"}
    assert guest.asked == ["wait 1", "wait 2", "wait 3"]
    async with asyncio.timeout(5):
        while guest.cell.in_flight:
            await asyncio.sleep(0)


@pytest.mark.parametrize("prompt", ["", "x" * 100_000])
async def test_the_room_closes_before_the_hosts_memory_is_full(guest: Guest, prompt: str) -> None:
    prompts = ["wait" + prompt] * 100
    fit = MAX_OPEN_BYTES // ((sys.getsizeof(prompts[0]) + sys.getsizeof(None) + PROMPT_COST_BYTES) * 100)
    for number in range(fit):
        await guest.ask(number, prompts)
        async with asyncio.timeout(1):
            await guest.calls.room()
    await guest.ask(fit, prompts)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await guest.calls.room()
    guest.release.set()
    await guest.results((fit + 1) * 100)
    async with asyncio.timeout(1):
        await guest.calls.room()


async def test_a_cell_that_asks_without_end_is_a_flood(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subcalls, "MAX_PROMPTS_PER_CELL", 10)
    await guest.ask(1, ["a"] * 10)
    with pytest.raises(ProtocolViolation, match="a flood"):
        await guest.ask(2, ["b"])
    guest.calls.count_anew()
    await guest.ask(3, ["c"])


async def test_refusals_without_end_are_a_flood(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subcalls, "MAX_REFUSED_BYTES_PER_CELL", 100_000)
    for number in range(50):
        await guest.ask(number, ["x" * 10_000])  # answered, so paid for
        await guest.results(1)
    for number in range(50, 50 + 100_000 // PROMPT_COST_BYTES):
        await guest.ask(number, ["refuse"])
        await guest.results(1)
    with pytest.raises(ProtocolViolation, match="a flood"):
        await guest.ask(99, ["refuse"])


async def test_a_box_that_takes_no_answers_is_asked_for_nothing_more(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subcalls, "MAX_UNSENT_BYTES", 1 << 20)
    prompts = [f"{n}" + "x" * 100_000 for n in range(40)]
    for number, prompt in enumerate(prompts):
        await guest.ask(number, [prompt])
    await asyncio.sleep(0.05)
    asked = len(guest.asked)
    assert 10 <= asked < 20
    await guest.results(40)
    assert len(guest.asked) == 40


async def test_long_answers_are_spread_over_messages(guest: Guest) -> None:
    """One message of them all might be longer than the relay takes."""
    long = "x" * (MAX_ANSWER_CHARS // 2)
    await guest.ask(1, [long] * 5)
    sizes = []
    async for _, parts in guest._frames:
        sizes.append(sum(map(len, parts[6:])))
        if sum(sizes) == 5 * len(long):
            break
    assert max(sizes) <= MAX_ANSWER_CHARS
    assert len(sizes) >= 3


async def test_closing_cancels_what_is_in_flight(guest: Guest) -> None:
    await guest.ask(1, ["wait"] * 50)
    await asyncio.sleep(0.01)
    await guest.calls.aclose()
    await asyncio.sleep(0)
    assert guest.cell.in_flight == 0
    assert [task for task in asyncio.all_tasks() if task.get_name() == "airlock-query"] == []


async def test_a_box_that_goes_while_it_is_answered_is_no_error_here(guest: Guest) -> None:
    await guest.ask(1, ["wait"])
    guest.calls._link.abort()
    guest.release.set()
    async with asyncio.timeout(5):
        while guest.cell.in_flight:
            await asyncio.sleep(0.01)
