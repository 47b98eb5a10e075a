"""`budget()` in a cell: what the host said last, which comes with each cell and with each answer to a sub-call."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from tests.kernel.local_box import SETTINGS, LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Countdown:
    """The host's side: one less each time it is asked."""

    def __init__(self) -> None:
        self.said: Iterator[int] = iter(range(100, 0, -1))

    def __call__(self) -> Mapping[str, Any]:
        return {"sub_calls": next(self.said), "cost_usd": 0.25, "tokens": None}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told_box() -> AsyncIterator[LocalBox]:
    settings = replace(SETTINGS, budget=Countdown())
    async with await LocalBox(settings).open() as box:
        assert isinstance(box, LocalBox)
        yield box


async def test_a_cell_knows_what_is_left_and_an_answer_brings_news(told_box: LocalBox) -> None:
    first = await told_box.printed("import json; print(json.dumps(budget()))")
    left = json.loads(first)
    assert left == {"sub_calls": left["sub_calls"], "cost_usd": 0.25, "tokens": None}
    before, after, threads = json.loads(
        await told_box.printed(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "a = budget()['sub_calls']\n"
            "llm_query('What?')\n"
            "b = budget()['sub_calls']\n"
            "with ThreadPoolExecutor(4) as pool:\n"
            "    list(pool.map(llm_query, ['q'] * 4))\n"
            "print(json.dumps([a, b, budget()['sub_calls']]))"
        )
    )
    assert left["sub_calls"] - 1 == before == after + 1
    assert threads < after


async def test_what_a_cell_does_to_it_stays_in_the_cell(told_box: LocalBox) -> None:
    assert await told_box.printed("budget().clear(); print(len(budget()))") == "3\n"
    await told_box.printed("budget = {'March': 12}")
    assert await told_box.printed("print(budget['March'])") == "12\n", "documents have budgets too"
    await told_box.printed("del budget")
    assert await told_box.printed("print(len(budget()))") == "3\n"


@pytest.mark.parametrize("functions", [(), ("report", "declare_labels")])
async def test_every_kind_of_run_has_it(functions: tuple[str, ...]) -> None:
    async with await LocalBox(replace(SETTINGS, functions=functions)).open() as box:
        assert isinstance(box, LocalBox)
        assert await box.printed("print(budget())") == "{}\n", "nobody said anything"
