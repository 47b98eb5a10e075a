"""Runs under a limit in money, in real boxes: what is charged, what is refused, what the model is told."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator import Limits, Price
from orchestrator.providers.base import ModelReply, TokenUsage
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.rlm import RLM
from tests.runs import CONTEXT, code, run, script, shown

CENT = Price(input_usd=Decimal(10_000), output_usd=Decimal(10_000))
"""A cent a token."""
PRICES = {"root:model": CENT, "sub:model": CENT}


def billed(text: str, tokens: int) -> ModelReply:
    """A reply of so many tokens."""
    return ModelReply(text=text, usage=TokenUsage(input_tokens=tokens, output_tokens=0))


def root(*replies: ModelReply) -> ScriptedProvider:
    return script(*replies, name="root:model", max_output_tokens=100)


def sub(*tokens: int) -> ScriptedProvider:
    return script(*(billed("yes", count) for count in tokens), name="sub:model", max_output_tokens=100)


async def test_a_run_costs_what_its_calls_cost_and_says_what_is_left() -> None:
    asking = root(billed(code("llm_query('What?')\nbudget()"), 40), billed("FINAL(done)", 60))
    result = await run(asking, sub=sub(25), limits=Limits(max_cost_usd=Decimal("150.50")), prices=PRICES)
    assert (result.answer, result.stop_reason, result.usage.cost_usd) == ("done", "answered", Decimal("1.25"))
    assert "2,000,000 tokens, $150.50, " in shown(asking, 0)
    assert "$149.85, " in shown(asking)
    told = " ".join(shown(asking).split())
    assert "{'sub_calls': 99, 'tokens': 1999935, 'cost_usd': 149.85, 'seconds': " in told
    assert "'turns': 29, 'depth': 1}" in told


async def test_the_limit_in_money_ends_the_run_with_the_answer_that_was_not_taken() -> None:
    guess = code("1 + 1", then="\nFINAL(a guess)")
    asking = root(billed(guess, 2000), billed("FINAL(never asked)", 1))
    result = await run(asking, limits=Limits(max_cost_usd=45), prices=PRICES)
    assert (result.answer, result.stop_reason) == ("a guess", "cost_limit")
    assert (len(asking.requests), result.usage.cost_usd) == (1, Decimal(20))
    bytes_sent = sum(message.size_bytes for message in asking.requests[0].messages)
    assert 2500 < bytes_sent < 4400, "else the test's own numbers mean something else"


async def test_a_provider_that_bills_more_ends_the_run_and_the_trace_has_both_numbers(tmp_path: Path) -> None:
    asking = root(billed(code("print(llm_query_batched(['a', 'b'], return_exceptions=True))\nFINAL('so far')"), 1))
    asked = sub(1_000_000, 5)
    rlm = RLM(asking, asked, limits=Limits(max_concurrency=1), prices=PRICES, trace_dir=tmp_path)
    result = await rlm.arun("What?", CONTEXT)
    assert (result.answer, result.stop_reason.value) == ("so far", "overbilled")
    assert len(asked.requests) == 1, "the second was refused"
    assert result.usage.input_tokens == 1_000_001
    assert result.usage.cost_usd == Decimal("10000.01")
    (file,) = tmp_path.iterdir()
    (told,) = [line for line in map(json.loads, file.read_text().splitlines()) if line["kind"] == "overbilled"]
    assert told["model"] == "sub:model"
    assert told["billed_tokens"] == 1_000_000
    assert 100 < told["reserved_tokens"] < 2000
    assert told["billed_usd"] == 10_000
    assert told["reserved_usd"] == pytest.approx(told["reserved_tokens"] / 100)


async def test_a_root_that_bills_more_ends_the_run_with_its_answer() -> None:
    result = await run(root(billed("FINAL(dear)", 10**6)), prices=PRICES)
    assert (result.answer, result.stop_reason.value) == ("dear", "overbilled")


async def test_a_cost_is_unknown_where_a_price_is() -> None:
    result = await run(root(billed("FINAL(done)", 10)))
    assert result.usage.cost_usd is None


async def test_in_quarantine_there_is_a_budget_too() -> None:
    asking = root(billed(code("report(left=budget()['sub_calls'], free=budget()['cost_usd'] is None)"), 1))
    result = await run(asking, observe="typed", limits=Limits(max_turns=1))
    assert dict(result.turns[0].values) == {"left": 100, "free": True}
