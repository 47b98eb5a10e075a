"""Random recursion trees on the real gate, ledgers, child runs and turns of boxes; the boxes themselves are left out.

One seed is one tree: each node a run with an account of its own, down to depth 4. Its calls are made all at once, over
64 places; providers fail in every way that there is, calls and whole runs are cancelled, and what is billed is the most
that can be: a token a byte, the longest reply, each at the dearest rate. Whether a limit holds is looked at in every
step, by the account itself. `tests.box_trees` does the like in real boxes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any

from orchestrator.boxes import Boxes
from orchestrator.children import ChildRuns
from orchestrator.errors import ProviderError, RLMError
from orchestrator.gate import Gate
from orchestrator.limits import UNLIMITED, Limits, Usage
from orchestrator.permit import upper_bound_tokens
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage
from orchestrator.providers.prices import Price
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.recorder import Recorder
from orchestrator.result import RunResult, StopReason
from sandbox.messages import Asked
from tests.watched import Tally, Watched

MAX_DEPTH = 5
"""A run at depth 4 is the deepest then: its own sub-calls are at 5."""
CONCURRENCY = 64
OUTCOMES = ("ok",) * 6 + ("few", "refused", "broken", "passing", "crash", "no count")


class Vendor:
    """What the models of one tree do."""

    def __init__(self, chance: random.Random, tally: Tally, *, overbills: bool = False, longest_s: float = 0) -> None:
        self._chance = chance
        self._tally = tally
        self._overbills = overbills
        self._longest_s = longest_s
        self._in_flight = 0
        self._failed: set[str] = set()

    def model(
        self, name: str, text: Callable[[ModelRequest], str] = lambda _: "yes", *, failures: float = 1
    ) -> ScriptedProvider:
        """A model that says `text`, where it does not fail; `failures`: so often as the others, 0 to 1."""
        most_output = self._chance.choice((0, 1, 40, 400))

        async def reply(request: ModelRequest) -> ModelReply | str:
            self._in_flight += 1
            self._tally.most_in_flight = max(self._tally.most_in_flight, self._in_flight)
            try:
                for _ in range(self._chance.randrange(8)):
                    await asyncio.sleep(self._chance.random() * self._longest_s)
                outcome = self._chance.choice(OUTCOMES) if self._chance.random() < failures else "ok"
                reply = self._reply(name, request, most_output, outcome)
                return replace(reply, text=text(request)) if isinstance(reply, ModelReply) else reply
            finally:
                self._in_flight -= 1

        return ScriptedProvider(reply, name=name, max_output_tokens=most_output)

    def _reply(self, name: str, request: ModelRequest, most_output: int, outcome: str) -> ModelReply | str:
        most_input = upper_bound_tokens(request.messages)
        if self._overbills and self._chance.random() < 0.05:
            outcome, most_input, most_output = "overbilled", most_input * 3 + 1, most_output * 3 + 1
        prompt = request.messages[-1].content
        if outcome == "passing" and prompt in self._failed:  # the second retry would wait
            outcome = "ok"
        self._tally.outcomes[outcome] += 1
        match outcome:
            case "few":
                return _billed(1, 0)
            case "refused":
                raise ProviderError("no", provider=name, status=400, refused=True)
            case "broken":
                raise ProviderError("cut", provider=name)
            case "passing":
                self._failed.add(prompt)
                raise ProviderError("gone", provider=name, retryable=True)
            case "crash":
                raise ZeroDivisionError
            case "no count":
                return ""
        written = self._chance.choice((0, most_input))
        cached = self._chance.choice((0, most_input - written))
        return _billed(most_input, most_output, cached=cached, written=written)


def _billed(input_tokens: int, output_tokens: int, *, cached: int = 0, written: int = 0) -> ModelReply:
    usage = TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )
    return ModelReply(text="", usage=usage)


def random_price(chance: random.Random) -> Price:
    """Any rates, the dearest of which may be any of the four."""

    def rate() -> Decimal:
        return Decimal(chance.randrange(0, 10**6)) / 1000

    return Price(
        input_usd=rate(),
        output_usd=rate(),
        cached_input_usd=chance.choice((None, rate())),
        cache_write_usd=chance.choice((None, rate())),
        long_above_tokens=chance.choice((None, 700)),
        long_input_factor=Decimal(2),
        long_output_factor=Decimal("1.5"),
    )


class Tree:
    """One random tree."""

    def __init__(self, seed: int, *, overbills: bool = False) -> None:
        self._chance = random.Random(seed)
        self.tally = Tally()
        vendor = Vendor(self._chance, self.tally, overbills=overbills)
        self._root, self._sub = vendor.model("tree:root"), vendor.model("tree:sub")
        self._fallback = self._chance.choice(([], [], [vendor.model("tree:other")]))
        self._prices = {name: random_price(self._chance) for name in ("tree:root", "tree:sub", "tree:other")}
        self._priced = self._chance.random() < 0.9
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._max_boxes = self._chance.choice((1, 2, 8))
        self._boxes = Boxes(max_boxes=self._max_boxes, max_live_boxes=self._chance.choice((2, 6, 1000)))
        self._names = iter(range(10**9))

    def _limits(self) -> Limits:
        chance = self._chance
        cost: Decimal | float = Decimal(chance.randrange(0, 100_000)) / 1000 if self._priced else UNLIMITED
        return Limits(
            max_depth=MAX_DEPTH,
            max_concurrency=CONCURRENCY,
            max_sub_calls=chance.choice((0, 20, 100, 300, UNLIMITED)),
            max_tokens=chance.choice((UNLIMITED, chance.randrange(1, 50_000), chance.randrange(1, 400_000))),
            max_cost_usd=chance.choice((UNLIMITED, cost)),
        )

    async def run(self) -> Tally:
        """Make all its calls; what they raise or return is of no interest here."""
        async with asyncio.timeout(60):
            with contextlib.suppress(RLMError):
                await self._run(None, 0)
        self.tally.boxes_left = self._boxes.live + abs(self._max_boxes - self._boxes._running._value)
        return self.tally

    async def _run(self, parent: Watched | None, depth: int) -> RunResult:
        """One run, as `orchestrator.run` has it: a box, and turns in which its cells ask."""
        with self._boxes.alive():
            self.tally.boxes += 1
            limits = self._limits()
            ledger = Watched(limits, parent, self.tally)
            gate = Gate(
                root=self._root,
                sub=self._sub,
                limits=limits,
                ledger=ledger,
                recorder=Recorder([self.tally.events.append]),
                fallback=self._fallback,
                depth=depth,
                slots=self._slots,
                prices=self._prices if self._priced else None,
            )
            await self._work(gate, ledger, depth)
            if self._chance.random() < 0.1:
                raise ProviderError("its root is out", provider="tree:root")
            answer = self._chance.choice(("an answer", None))
            return RunResult(
                answer=answer, stop_reason=StopReason.ANSWERED, usage=Usage(), turns=(), isolation="container"
            )

    async def _work(self, gate: Gate, ledger: Watched, depth: int) -> None:
        """Cells that ask, and root calls beside them, all at once; some of it is cancelled."""
        chance, turns = self._chance, self._boxes.turns()
        children = ChildRuns(
            gate=gate,
            recorder=gate.recorder,
            turns=turns,
            start=lambda question, context, number: self._run(ledger, depth + 1),
            next_run=lambda: next(self._names),
            model="tree:root",
            depth=depth + 1,
        )
        for _ in range(chance.choice((1, 1, 1, 2))):
            async with turns.cell():
                work = [self._sub_call(gate) for _ in range(chance.choice((0, 1, 4, 30)))]
                work += [self._root_call(gate) for _ in range(chance.randrange(3))]
                work += [self._child(children) for _ in range(chance.choice((0, 1, 2, 3)))]
                await self._all_at_once(work)

    async def _all_at_once(self, work: list[Coroutine[Any, Any, None]]) -> None:
        chance = self._chance
        chance.shuffle(work)
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        try:
            for task in tasks:
                if chance.random() < 0.1:
                    await self._pause()
                    task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # a run that is cancelled waits for the end of all below it
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, RLMError):
                raise end

    async def _pause(self) -> None:
        for _ in range(self._chance.randrange(6)):
            await asyncio.sleep(0)

    async def _sub_call(self, gate: Gate) -> None:
        await gate.handle(Asked(f"{next(self._names)}" + "x" * self._chance.randrange(300)))

    async def _root_call(self, gate: Gate) -> None:
        text = f"{next(self._names)}" + "\u20ac" * self._chance.randrange(300)
        await gate.ask_root([Message(role="user", content=text)])

    async def _child(self, children: ChildRuns) -> None:
        await children.handle(f"{next(self._names)}", None)
