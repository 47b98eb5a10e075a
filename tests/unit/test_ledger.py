"""The account of a run: what it refuses, what it charges, and that every ancestor pays."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.errors import LimitExceeded
from orchestrator.ledger import OVERBILLED, Ledger
from orchestrator.limits import UNLIMITED, Deadline, Limits
from orchestrator.permit import Overbill, Permit
from orchestrator.providers.base import TokenUsage
from orchestrator.providers.prices import Price
from orchestrator.recorded import Charge


def used(input_tokens: int, output_tokens: int = 0, *, cached: int = 0, estimated: bool = False) -> TokenUsage:
    return TokenUsage(
        input_tokens=input_tokens, output_tokens=output_tokens, cached_input_tokens=cached, estimated=estimated
    )


async def test_a_settled_permit_charges_what_the_provider_counted_and_frees_the_rest() -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    permit = await ledger.reserve(tokens=900, sub_call=True)
    assert (ledger.reserved_tokens, ledger.tokens_left, ledger.sub_calls_left) == (900, 100, 99)
    permit.settle(used(100, 20, cached=60))
    usage = ledger.usage(turns=1, wall_s=2.5)
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens) == (100, 60, 20)
    assert (usage.sub_calls, usage.root_calls, usage.estimated_tokens, usage.total_tokens) == (1, 0, 0, 120)
    assert (ledger.reserved_tokens, ledger.tokens_left) == (0, 880)


async def test_a_broken_call_costs_its_reservation_and_a_refused_one_nothing() -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    (await ledger.reserve(tokens=300, sub_call=False)).settle_refused()
    assert (ledger.spent_tokens, ledger.estimated_tokens, ledger.root_calls) == (0, 0, 1)
    (await ledger.reserve(tokens=300, sub_call=False)).settle_unknown()
    assert (ledger.spent_tokens, ledger.estimated_tokens, ledger.reserved_tokens) == (300, 300, 0)


@pytest.mark.parametrize("again", ["settle", "settle_refused", "settle_unknown"])
@pytest.mark.parametrize("first", ["settle", "settle_refused", "settle_unknown"])
async def test_a_permit_is_settled_once(first: str, again: str) -> None:
    ledger = Ledger(Limits())
    permit = await ledger.reserve(tokens=10, sub_call=True)
    arguments = {"settle": [used(5)]}
    getattr(permit, first)(*arguments.get(first, []))
    spent = ledger.spent_tokens
    with pytest.raises(RuntimeError, match="once"):
        getattr(permit, again)(*arguments.get(again, []))
    assert (ledger.spent_tokens, ledger.reserved_tokens) == (spent, 0)


@pytest.mark.parametrize(
    ("lie", "charged"),
    [
        (used(-5, -7), (0, 0, 0)),
        (used(3, 2, cached=99), (3, 3, 2)),
        (used(3, 2, cached=-99), (3, 0, 2)),
        (used(-1, 2, cached=5), (0, 0, 2)),
        (used(10**18, 1), (10**18, 0, 1)),
    ],
)
async def test_usage_that_lies_never_gives_tokens_back(lie: TokenUsage, charged: tuple[int, int, int]) -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    (await ledger.reserve(tokens=10, sub_call=True)).settle(lie)
    assert (ledger.input_tokens, ledger.cached_input_tokens, ledger.output_tokens) == charged
    assert 0 <= ledger.tokens_left <= 1000


async def test_a_refusal_names_the_limit_what_is_used_and_what_is_allowed() -> None:
    ledger = Ledger(Limits(max_sub_calls=2, max_tokens=5000))
    for _ in range(2):
        (await ledger.reserve(tokens=2000, sub_call=True)).settle(used(2000))
    with pytest.raises(LimitExceeded, match=r"^2 of 2 sub-calls used$") as calls:
        await ledger.reserve(tokens=1, sub_call=True)
    with pytest.raises(LimitExceeded, match=r"1,001 tokens .* 1,000 of 5,000 are left") as tokens:
        await ledger.reserve(tokens=1001, sub_call=False)
    assert (calls.value.limit, tokens.value.limit) == ("max_sub_calls", "max_tokens")
    assert ledger.reserved_tokens == 0


async def test_the_root_is_not_counted_against_the_sub_calls() -> None:
    ledger = Ledger(Limits(max_sub_calls=0))
    (await ledger.reserve(tokens=1, sub_call=False)).settle(used(1))
    with pytest.raises(LimitExceeded, match="0 of 0 sub-calls used"):
        await ledger.reserve(tokens=1, sub_call=True)


async def test_a_reservation_waits_for_calls_in_flight_and_takes_what_they_leave() -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    first = await ledger.reserve(tokens=900, sub_call=True)
    waiting = asyncio.create_task(ledger.reserve(tokens=900, sub_call=True))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    first.settle(used(100))
    (await waiting).settle(used(100))
    assert (ledger.spent_tokens, ledger.reserved_tokens) == (200, 0)


async def test_a_reservation_that_waits_is_refused_once_it_can_never_fit() -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    first = await ledger.reserve(tokens=900, sub_call=True)
    waiting = asyncio.create_task(ledger.reserve(tokens=900, sub_call=True))
    await asyncio.sleep(0)
    first.settle(used(500))
    with pytest.raises(LimitExceeded, match="500 of 1,000 are left"):
        await waiting


async def test_one_that_fits_passes_one_that_waits() -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    first = await ledger.reserve(tokens=500, sub_call=True)
    large = asyncio.create_task(ledger.reserve(tokens=900, sub_call=True))
    await asyncio.sleep(0)
    (await ledger.reserve(tokens=400, sub_call=True)).settle(used(0))
    first.settle(used(0))
    (await large).settle(used(0))


async def test_waiting_for_a_reservation_ends_at_the_runs_deadline() -> None:
    ledger = Ledger(Limits(max_tokens=1000, max_wall_s=0.05))
    await ledger.reserve(tokens=900, sub_call=True)
    with pytest.raises(LimitExceeded, match=r"^the run's 0.05 s are over$") as refused:
        await ledger.reserve(tokens=900, sub_call=True)
    assert refused.value.limit == "max_wall_s"


async def test_waiting_for_a_reservation_ends_when_the_calls_own_time_is_over() -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    await ledger.reserve(tokens=900, sub_call=True)
    with pytest.raises(LimitExceeded, match=r"calls in flight hold the 900 tokens") as refused:
        await ledger.reserve(tokens=900, sub_call=True, until=Deadline(0.02))
    assert refused.value.limit == "max_tokens"


async def test_a_cancelled_wait_reserves_nothing() -> None:
    ledger = Ledger(Limits(max_tokens=1000))
    first = await ledger.reserve(tokens=900, sub_call=True)
    waiting = asyncio.create_task(ledger.reserve(tokens=900, sub_call=True))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (ledger.reserved_tokens, ledger.sub_calls) == (900, 1)
    first.settle(used(1))


async def test_after_the_deadline_nothing_is_reserved() -> None:
    ledger = Ledger(Limits(max_wall_s=0.001))
    await asyncio.sleep(0.01)
    with pytest.raises(LimitExceeded, match="are over"):
        await ledger.reserve(tokens=1, sub_call=False)


async def test_unlimited_never_refuses() -> None:
    ledger = Ledger(Limits(max_tokens=UNLIMITED, max_sub_calls=UNLIMITED, max_wall_s=UNLIMITED))
    for _ in range(3):
        (await ledger.reserve(tokens=10**15, sub_call=True)).settle(used(10**15))
    assert ledger.tokens_left == ledger.sub_calls_left == UNLIMITED


async def test_a_child_draws_on_all_its_ancestors() -> None:
    top = Ledger(Limits(max_sub_calls=3, max_tokens=1000))
    middle = Ledger(Limits(max_sub_calls=2, max_tokens=10_000), parent=top)
    child = Ledger(Limits(max_sub_calls=50, max_tokens=10_000), parent=middle)
    permit = await child.reserve(tokens=600, sub_call=True)
    assert [ledger.reserved_tokens for ledger in (top, middle, child)] == [600, 600, 600]
    assert child.tokens_left == 400
    permit.settle(used(500, estimated=True))
    assert [ledger.spent_tokens for ledger in (top, middle, child)] == [500, 500, 500]
    assert [ledger.estimated_tokens for ledger in (top, middle, child)] == [500, 500, 500]
    child.refuse()
    assert [ledger.refusals for ledger in (top, middle, child)] == [1, 1, 1]
    with pytest.raises(LimitExceeded, match="500 of 1,000 are left"):
        await child.reserve(tokens=501, sub_call=True)
    (await child.reserve(tokens=1, sub_call=True)).settle(used(1))
    with pytest.raises(LimitExceeded, match="2 of 2 sub-calls used"):
        await child.reserve(tokens=1, sub_call=True)
    (await top.reserve(tokens=1, sub_call=True)).settle(used(1))
    assert (top.sub_calls, middle.sub_calls, child.sub_calls) == (3, 2, 2)


async def test_a_child_that_waits_is_woken_by_its_parents_call_and_by_its_sibling() -> None:
    top = Ledger(Limits(max_tokens=1000))
    children = [Ledger(Limits(max_tokens=1000), parent=top) for _ in range(2)]
    for other in (top, children[1]):
        held = await other.reserve(tokens=900, sub_call=True)
        waiting = asyncio.create_task(children[0].reserve(tokens=900, sub_call=True))
        await asyncio.sleep(0)
        held.settle(used(0))
        (await waiting).settle(used(0))


def test_a_child_ends_with_its_parent() -> None:
    parent = Ledger(Limits(max_wall_s=10))
    assert Ledger(Limits(max_wall_s=100), parent=parent).deadline.remaining_s <= 10
    assert Ledger(Limits(max_wall_s=1), parent=parent).deadline.remaining_s <= 1


# --- money ---


DOLLAR = Price(input_usd=Decimal(1_000_000), output_usd=Decimal(1_000_000))
"""A dollar a token."""


def usd(amount: int) -> Decimal:
    return Decimal(amount)


async def reserved(ledger: Ledger, tokens: int, **asked: Any) -> Permit:
    most_usd = DOLLAR.most_usd(input_tokens=tokens, output_tokens=0)
    return await ledger.reserve(tokens=tokens, sub_call=True, most_usd=most_usd, price=DOLLAR, **asked)


async def test_money_is_reserved_before_and_charged_after_to_every_ancestor() -> None:
    top = Ledger(Limits(max_cost_usd=100))
    child = Ledger(Limits(max_cost_usd=UNLIMITED), parent=top)
    permit = await reserved(child, 60)
    assert [(ledger.reserved_usd, ledger.spent_usd) for ledger in (top, child)] == [(usd(60), usd(0))] * 2
    assert (child.usd_left, child.left()["cost_usd"]) == (usd(40), 40.0)
    permit.settle(used(10, 5))
    assert [(ledger.reserved_usd, ledger.spent_usd, ledger.cost_usd) for ledger in (top, child)] == [
        (usd(0), usd(15), usd(15))
    ] * 2
    assert child.usage(turns=0, wall_s=0).cost_usd == 15
    with pytest.raises(LimitExceeded, match=r"may cost \$86.00 .* \$85.00 of \$100.00 are left") as refused:
        await reserved(child, 86)
    assert refused.value.limit == "max_cost_usd"
    (await reserved(child, 85)).settle_unknown()
    assert (top.spent_usd, top.usd_left, top.estimated_tokens) == (usd(100), usd(0), 85)
    (await reserved(child, 0)).settle_refused()
    assert (top.spent_usd, top.reserved_usd) == (usd(100), usd(0))


async def test_a_reservation_waits_for_the_money_of_calls_in_flight() -> None:
    ledger = Ledger(Limits(max_cost_usd=10))
    first = await reserved(ledger, 9)
    waiting = asyncio.create_task(reserved(ledger, 9))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    first.settle(used(1))
    (await waiting).settle(used(1))
    held = await reserved(ledger, 8)
    with pytest.raises(LimitExceeded, match=r"^calls in flight hold the \$8.00 it may need$") as refused:
        await reserved(ledger, 8, until=Deadline(0.02))
    assert refused.value.limit == "max_cost_usd"
    held.settle_refused()


async def test_under_a_limit_in_money_nothing_without_a_price_is_reserved() -> None:
    child = Ledger(Limits(), parent=Ledger(Limits(max_cost_usd=10)))
    with pytest.raises(LimitExceeded, match="no price") as refused:
        await child.reserve(tokens=1, sub_call=False)
    assert refused.value.limit == "max_cost_usd"


async def test_a_cost_is_unknown_once_a_call_without_a_price_was_billed() -> None:
    ledger = Ledger(Limits())
    (await reserved(ledger, 5)).settle(used(5))
    (await ledger.reserve(tokens=5, sub_call=True)).settle_refused()
    assert ledger.usage(turns=0, wall_s=0).cost_usd == 5, "what a server refuses costs nothing at any price"
    (await ledger.reserve(tokens=5, sub_call=True)).settle(used(5))
    assert ledger.usage(turns=0, wall_s=0).cost_usd is None
    assert ledger.spent_usd == 5


# --- a provider that bills more than was reserved ---


async def test_what_is_billed_above_the_reservation_is_charged_and_ends_the_whole_tree() -> None:
    top = Ledger(Limits(max_tokens=1000))
    left, right = (Ledger(Limits(), parent=top) for _ in range(2))
    in_flight = await right.reserve(tokens=300, sub_call=True)
    waiting = asyncio.create_task(right.reserve(tokens=690, sub_call=True))
    permit = await left.reserve(tokens=100, sub_call=True)
    await asyncio.sleep(0)
    permit.settle(used(90, 11))
    assert permit.overbill == Overbill(reserved_tokens=100, billed_tokens=101, reserved_usd=None, billed_usd=None)
    assert [ledger.spent_tokens for ledger in (left, right, top)] == [101, 0, 101]
    with pytest.raises(LimitExceeded) as refused:
        await waiting
    assert refused.value.limit == OVERBILLED
    for ledger in (left, right, top):
        assert ledger.overbilled
        with pytest.raises(LimitExceeded, match="billed more than was reserved"):
            ledger.check(sub_call=False)
    in_flight.settle(used(5))
    assert (top.reserved_tokens, top.spent_tokens) == (0, 106)


@pytest.mark.parametrize(("max_cost_usd", "ends"), [(UNLIMITED, False), (10, True)])
async def test_money_above_the_reservation_counts_where_a_limit_is_in_money(max_cost_usd: float, ends: bool) -> None:
    ledger = Ledger(Limits(max_cost_usd=max_cost_usd))
    price = Price(input_usd=Decimal(0), output_usd=Decimal(1_000_000))
    permit = await ledger.reserve(tokens=10, sub_call=True, most_usd=Decimal(1), price=price)
    permit.settle(used(0, 2))
    assert ledger.overbilled is ends
    if ends:
        assert permit.overbill == Overbill(
            reserved_tokens=10, billed_tokens=2, reserved_usd=Decimal(1), billed_usd=Decimal(2)
        )


async def test_what_stays_within_the_reservation_ends_nothing() -> None:
    ledger = Ledger(Limits(max_cost_usd=10))
    permit = await reserved(ledger, 10)
    permit.settle(used(5, 5))
    assert (permit.overbill, ledger.overbilled) == (None, False)


def test_what_an_earlier_life_sent_counts_before_it_is_charged_again() -> None:
    """An `EgressLimit` would else let a resumed run send as much once more."""
    sent = Charge(run=1, sub_call=True, usage=TokenUsage(input_tokens=1, output_tokens=1), usd=None, sent_bytes=70)
    first = Ledger(Limits())
    child = Ledger(Limits(), first)
    first.foresee(sent)
    assert child.tree_sent_bytes == 70
    child.charge_recorded(sent, sub_call=True)
    assert (child.tree_sent_bytes, child.sent_bytes, first.sent_bytes) == (70, 70, 70)
