"""Whether any order of events in any recursion tree spends more than a limit allows, or leaves anything behind.

    python -m tests.bench.budget [--trees 10000] [--in-boxes 100] [--seed 0]

Each seed is one random tree with scripted models, down to depth 4: random limits, 64 calls at once, failures of every
kind, cancellations, and a provider that bills one token a byte and the longest reply at the dearest rate. Most of the
trees run on the real gate, ledgers, child runs and turns of boxes, but without boxes (`tests.ledger_trees`); so many
as `--in-boxes` says are whole runs in real boxes (`tests.box_trees`). The last line has the three counts that must be
0; the exit status is 1 where one is not. Ctrl-C ends it with what there is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.box_trees import BoxTree
from tests.ledger_trees import Tree
from tests.runs import boxes_left
from tests.watched import Tally

PROGRESS_S = 5.0


@dataclass
class Total:
    """What came of many trees.

    Attributes:
        wrong: Of trees in which something was wrong: the seed and what.
    """

    trees: int = 0
    runs: int = 0
    calls: int = 0
    deepest: int = 0
    most_in_flight: int = 0
    overshoots: int = 0
    unsettled: int = 0
    boxes: int = 0
    boxes_left: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, seed: int, tally: Tally) -> None:
        """Add one tree. What is still reserved at its end is a permit that was not settled."""
        self.trees += 1
        self.runs += len(tally.ledgers)
        self.calls += len(tally.permits)
        self.deepest = max(self.deepest, tally.deepest)
        self.most_in_flight = max(self.most_in_flight, tally.most_in_flight)
        unsettled = tally.unsettled + tally.left_reserved
        self.overshoots += len(tally.overshoots)
        self.unsettled += unsettled
        self.boxes += tally.boxes
        self.boxes_left += tally.boxes_left
        self.outcomes += tally.outcomes
        if tally.overshoots or unsettled or tally.boxes_left or tally.overbilled or tally.uncounted:
            self.wrong.append(
                f"seed {seed}: {tally.overshoots[:3]}, {unsettled} unsettled, {tally.boxes_left} boxes left, "
                f"{len(tally.overbilled)} billed above their reservation, {tally.uncounted} not counted"
            )

    def __str__(self) -> str:
        return (
            f"{self.runs:,} runs down to depth {self.deepest}, {self.calls:,} model calls reserved, "
            f"at most {self.most_in_flight} at once"
        )


def without_boxes(seeds: Iterable[int]) -> Iterator[Total]:
    """The total after each tree."""
    total = Total()
    for seed in seeds:
        total.add(seed, asyncio.run(Tree(seed).run()))
        yield total


def in_boxes(seeds: Iterable[int]) -> Iterator[Total]:
    """Likewise, in real boxes. Those left are what the engine knows of this process's at the end of each tree."""
    total = Total()
    with asyncio.Runner() as runner:
        for seed in seeds:
            tally = runner.run(BoxTree(seed).run())
            tally.boxes_left = len(boxes_left())
            total.add(seed, tally)
            yield total


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the log: each retry is a warning, and there are tens of thousands."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def play(name: str, totals: Iterator[Total], count: int) -> tuple[Total, bool]:
    """Play so many trees and print how far it is; returns what came of them, and whether Ctrl-C ended it."""
    total, started, told = Total(), time.monotonic(), time.monotonic()
    with contextlib.suppress(KeyboardInterrupt), quiet():
        for total in totals:
            if time.monotonic() - told >= PROGRESS_S:
                told = time.monotonic()
                print(f"{total.trees:,} of {count:,} trees {name}, {told - started:.0f} s", file=sys.stderr, flush=True)
    boxes = f", {total.boxes:,} boxes" if name == "in real boxes" else ""
    print(f"{total.trees:,} trees {name}: {total}{boxes}, {time.monotonic() - started:.0f} s", flush=True)
    return total, total.trees < count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=10_000, help="all of them")
    parser.add_argument("--in-boxes", type=int, default=100, help="those of them in real boxes; each takes seconds")
    parser.add_argument("--seed", type=int, default=0, help="the first tree's; each has the next one")
    options = parser.parse_args()
    with_boxes = min(options.in_boxes, options.trees)
    without = options.trees - with_boxes
    seeds = range(options.seed, options.seed + without)
    total, interrupted = play("without boxes", without_boxes(seeds), without)
    parts = [total]
    if not interrupted and with_boxes:
        seeds = range(options.seed, options.seed + with_boxes)
        total, interrupted = play("in real boxes", in_boxes(seeds), with_boxes)
        parts.append(total)
    left = parts[0].boxes_left + (len(boxes_left()) if len(parts) > 1 else 0)
    overshoots, unsettled = sum(part.overshoots for part in parts), sum(part.unsettled for part in parts)
    for line in [line for part in parts for line in part.wrong][:20]:
        print(line)
    trees = sum(part.trees for part in parts)
    print(f"{trees:,} trees: {overshoots} overshoots, {unsettled} unsettled permits, {left} boxes left")
    if interrupted:
        return 130
    return 1 if any(part.wrong for part in parts) or left else 0


if __name__ == "__main__":
    sys.exit(main())
