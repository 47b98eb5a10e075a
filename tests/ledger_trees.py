"""Random recursion trees on the real gate, without boxes: each node a run with an account of its own.

One seed is one tree, down to depth 4. Its calls are made all at once, over 64 places; providers fail in every way that
there is, calls and whole runs are cancelled, and what is billed is the most that can be: a token a byte, the longest
reply, each at the dearest rate. Whether a limit holds is looked at in every step, by the account itself.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from orchestrator.errors import ProviderError
from orchestrator.gate import Gate, upper_bound_tokens
from orchestrator.ledger import Ledger
from orchestrator.limits import UNLIMITED, Limits
from orchestrator.permit import Permit
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage
from orchestrator.providers.prices import Price
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.recorder import Recorder
from orchestrator.trace import TraceEvent

MAX_DEPTH = 4
CONCURRENCY = 64
OUTCOMES = ("ok",) * 6 + ("few", "refused", "broken", "passing", "crash", "no count")


@dataclass
class Tally:
    """What came of a tree."""

    overshoots: list[str] = field(default_factory=list)
    settlings: Counter[int] = field(default_factory=Counter)
    permits: list[Permit] = field(default_factory=list)
    ledgers: list[Watched] = field(default_factory=list)
    events: list[TraceEvent] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    reserved_after_overbilling: int = 0
    most_in_flight: int = 0

    @property
    def overbilled(self) -> list[dict[str, Any]]:
        """What was recorded of calls billed above their reservation."""
        return [event.facts for event in self.events if event.kind == "overbilled"]

    @property
    def unsettled(self) -> int:
        """Permits that were not settled exactly once."""
        return sum(self.settlings[id(permit)] != 1 or not permit.settled for permit in self.permits)

    @property
    def left_reserved(self) -> bool:
        """Whether anything is reserved at the end."""
        return any(ledger.reserved_tokens or ledger.reserved_usd for ledger in self.ledgers)


class Watched(Ledger):
    """Looks at itself and all its ancestors in each step."""

    def __init__(self, limits: Limits, parent: Watched | None, tally: Tally) -> None:
        super().__init__(limits, parent)
        self.limits = limits
        self.tally = tally
        tally.ledgers.append(self)

    async def reserve(self, **asked: Any) -> Permit:
        permit = await super().reserve(**asked)
        self.tally.permits.append(permit)
        self.tally.reserved_after_overbilling += self.overbilled
        self._look()
        return permit

    def charge(self, permit: Permit, usage: TokenUsage, cost_usd: Decimal | None) -> None:
        self.tally.settlings[id(permit)] += 1
        super().charge(permit, usage, cost_usd)
        self._look()

    def _look(self) -> None:
        for ledger in self._lineage():
            limits = ledger._limits
            held = {
                "max_sub_calls": ledger.sub_calls,
                "max_tokens": ledger.spent_tokens + ledger.reserved_tokens,
                "max_cost_usd": ledger.spent_usd + ledger.reserved_usd,
            }
            self.tally.overshoots += [
                f"{name}: {amount} of {getattr(limits, name)}"
                for name, amount in held.items()
                if amount > getattr(limits, name)
            ]


class Vendor:
    """What the models of one tree do."""

    def __init__(self, chance: random.Random, tally: Tally, *, overbills: bool) -> None:
        self._chance = chance
        self._tally = tally
        self._overbills = overbills
        self._in_flight = 0
        self._failed: set[str] = set()

    def model(self, name: str) -> ScriptedProvider:
        most_output = self._chance.choice((0, 1, 40, 400))

        async def reply(request: ModelRequest) -> ModelReply | str:
            self._in_flight += 1
            self._tally.most_in_flight = max(self._tally.most_in_flight, self._in_flight)
            try:
                for _ in range(self._chance.randrange(8)):
                    await asyncio.sleep(0)
                return self._reply(name, request, most_output)
            finally:
                self._in_flight -= 1

        return ScriptedProvider(reply, name=name, max_output_tokens=most_output)

    def _reply(self, name: str, request: ModelRequest, most_output: int) -> ModelReply | str:
        outcome = self._chance.choice(OUTCOMES)
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
    return ModelReply(text="yes", usage=usage)


class Tree:
    """One random tree."""

    def __init__(self, seed: int, *, overbills: bool = False) -> None:
        self._chance = random.Random(seed)
        self.tally = Tally()
        vendor = Vendor(self._chance, self.tally, overbills=overbills)
        self._root, self._sub = vendor.model("tree:root"), vendor.model("tree:sub")
        self._prices = {"tree:root": self._price(), "tree:sub": self._price()}
        self._priced = self._chance.random() < 0.9
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._names = iter(range(10**9))

    def _price(self) -> Price:
        def rate() -> Decimal:
            return Decimal(self._chance.randrange(0, 10**6)) / 1000

        return Price(
            input_usd=rate(),
            output_usd=rate(),
            cached_input_usd=self._chance.choice((None, rate())),
            cache_write_usd=self._chance.choice((None, rate())),
            long_above_tokens=self._chance.choice((None, 700)),
            long_input_factor=Decimal(2),
            long_output_factor=Decimal("1.5"),
        )

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
            await self._node(None, 0)
        return self.tally

    async def _node(self, parent: Watched | None, depth: int) -> None:
        chance = self._chance
        limits = self._limits()
        ledger = Watched(limits, parent, self.tally)
        gate = Gate(
            root=self._root,
            sub=self._sub,
            limits=limits,
            ledger=ledger,
            recorder=Recorder([self.tally.events.append]),
            depth=depth,
            slots=self._slots,
            prices=self._prices if self._priced else None,
        )
        children = chance.choice((0, 1, 2, 3)) if depth < MAX_DEPTH else 0
        work = [self._sub_call(gate) for _ in range(chance.choice((0, 1, 4, 30)))]
        work += [self._root_call(gate) for _ in range(chance.randrange(3))]
        work += [self._node(ledger, depth + 1) for _ in range(children)]
        chance.shuffle(work)
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        try:
            for task in tasks:
                if chance.random() < 0.1:
                    await self._pause()
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:  # a run that is cancelled waits for the end of all below it
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pause(self) -> None:
        for _ in range(self._chance.randrange(6)):
            await asyncio.sleep(0)

    async def _sub_call(self, gate: Gate) -> None:
        await gate.handle(f"{next(self._names)}" + "x" * self._chance.randrange(300), None)

    async def _root_call(self, gate: Gate) -> None:
        text = f"{next(self._names)}" + "\u20ac" * self._chance.randrange(300)
        await gate.ask_root([Message(role="user", content=text)])
