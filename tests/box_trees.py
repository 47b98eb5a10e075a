"""Random recursion trees as users have them: whole runs in real boxes, whose cells ask, fail, die and are cancelled.

One seed is one tree: `RLM` with a scripted root at each depth, which writes cells of random steps. The models fail and
bill as in `tests.ledger_trees`; the accounts of all its runs look at themselves in every step.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from unittest import mock

from orchestrator import RLM, Limits, RunResult
from orchestrator.errors import RLMError
from orchestrator.limits import UNLIMITED
from orchestrator.providers.base import ModelRequest
from orchestrator.trace import TraceEvent
from tests.ledger_trees import CONCURRENCY, MAX_DEPTH, Vendor, random_price
from tests.watched import Tally, Watched

TRY = "try:\n    said.append({call})\nexcept SubCallError as error:\n    said.append(error)"
STEPS = {
    "ask": TRY.format(call="llm_query('{name}', data=context)"),
    "ask many": "said += llm_query_batched([f'{name} {{n}}' for n in range({count})], return_exceptions=True)",
    "ask from threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    said += pool.map(lambda n: llm_query_batched([f'{name} {{n}}'], return_exceptions=True), range({count}))"
    ),
    "child": TRY.format(call="rlm_query('{name}', context)"),
    "children": (
        "said += rlm_query_batched(['{name} a', '{name} b'], [context[::2], context[1::2]], return_exceptions=True)"
    ),
}
ENDS = {
    "answer": "FINAL(str(len(said)))",
    "go on": "print(len(said))",
    "fail": "raise ValueError('no')",
    "die": "import os\nos.kill(os.getpid(), 9)",
    "hang": "import time\ntime.sleep(60)",
}
WEIGHTS = {"answer": 14, "go on": 3, "fail": 1, "die": 1, "hang": 1}


class BoxTree:
    """One random tree in real boxes."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.tally = Tally()
        self._names = iter(range(10**9))
        self._written = 0
        vendor = Vendor(self._chance, self.tally, longest_s=0.005)
        root = vendor.model("tree:root", self._write, failures=0.15)
        self._rlm = RLM(
            root,
            vendor.model("tree:sub"),
            limits=self._limits(),
            prices={name: random_price(self._chance) for name in ("tree:root", "tree:sub")},
        )
        self._cancel_at = self._chance.randrange(2, 40) if self._chance.random() < 0.25 else None

    def _limits(self) -> Limits:
        chance = self._chance
        return Limits(
            max_turns=3,
            max_depth=chance.choice((2, 3, MAX_DEPTH, MAX_DEPTH)),
            max_concurrency=CONCURRENCY,
            max_sub_calls=chance.choice((3, 20, 100, UNLIMITED)),
            max_tokens=chance.choice((UNLIMITED, chance.randrange(10_000, 1_000_000))),
            max_cost_usd=chance.choice((UNLIMITED, Decimal(chance.randrange(0, 300_000)) / 1000)),
            max_boxes=chance.choice((1, 2, 3)),
            max_live_boxes=chance.choice((2, 4, 6)),
            cell_wall_s=2,
        )

    def _write(self, request: ModelRequest) -> str:
        """A root's reply: one cell."""
        chance = self._chance
        steps = chance.choices(list(STEPS), weights=(2, 2, 1, 4, 4), k=chance.choice((1, 1, 2)))
        (end,) = chance.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))
        if not self._written:
            steps[0] = "children"  # a tree of one run is none
        self._written += 1
        lines = ["said = []"]
        lines += [STEPS[step].format(name=next(self._names), count=chance.choice((1, 5, 40))) for step in steps]
        self.tally.outcomes[end] += 1
        return "I go on.\n\n```repl\n" + "\n".join([*lines, ENDS[end]]) + "\n```"

    async def run(self) -> Tally:
        """Run it to its end, whatever that is: an answer, a limit, a failure of a model, or its cancellation."""
        self._run = run = asyncio.ensure_future(self._rlm.arun("go", "some text\n" * 20, listeners=[self._listen]))
        with accounts_in(self.tally):
            try:
                await asyncio.wait([run])
            finally:  # Ctrl-C: its boxes go first
                run.cancel()
                await asyncio.wait([run])
        self.tally.outcomes[_end_of(run)] += 1
        return self.tally

    def _listen(self, event: TraceEvent) -> None:
        self.tally.events.append(event)
        self.tally.boxes += event.kind == "box"
        if len(self.tally.events) == self._cancel_at:
            self._run.cancel()


def _end_of(run: asyncio.Future[RunResult]) -> str:
    """How a run ended; an exception that no caller is told to expect is raised."""
    if run.cancelled():
        return "cancelled"
    try:
        return run.result().stop_reason.value
    except RLMError as error:
        return type(error).__name__


@contextmanager
def accounts_in(tally: Tally) -> Iterator[None]:
    """Every run that starts in here has an account that looks at itself; it charges as any other."""

    def watched(limits: Limits, parent: Watched | None = None, **more: Any) -> Watched:
        return Watched(limits, parent, tally, **more)

    with mock.patch("orchestrator.run.Ledger", watched):
        yield
