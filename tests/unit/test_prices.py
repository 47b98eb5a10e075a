"""What a call costs, before and after it, and whose price it is."""

from __future__ import annotations

import decimal
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ConfigError
from orchestrator.limits import Limits
from orchestrator.providers.base import TokenUsage
from orchestrator.providers.prices import (
    PRICES,
    TABLE_DATE,
    Price,
    checked_prices,
    dollars,
    parse_price,
    price_of,
)
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.rlm import RLM


def usd(text: str) -> Decimal:
    return Decimal(text)


def used(input_tokens: int, output_tokens: int = 0, *, cached: int = 0, written: int = 0) -> TokenUsage:
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )


FOUR_RATES = Price(input_usd=usd("4"), output_usd=usd("20"), cached_input_usd=usd("0.4"), cache_write_usd=usd("5"))


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (used(0), "0"),
        (used(1_000_000), "4"),
        (used(0, 1_000_000), "20"),
        (used(1_000_000, cached=1_000_000), "0.4"),
        (used(1_000_000, written=1_000_000), "5"),
        (used(1_000_000, 10_000, cached=700_000, written=200_000), "1.88"),  # 0.28 + 1 + 0.4 + 0.2
        (used(1), "0.000004"),
        (used(10, cached=99), "0.000004"),
        (used(10, cached=4, written=99), "0.0000316"),
        (used(-5, -5, cached=-5, written=-5), "0"),
    ],
)
def test_each_kind_of_token_has_its_rate(usage: TokenUsage, cost: str) -> None:
    assert FOUR_RATES.cost_usd(usage) == usd(cost)


def test_a_rate_that_is_not_given_is_that_of_other_input() -> None:
    assert Price(input_usd=usd("3"), output_usd=usd("0")).cost_usd(used(30, cached=10, written=10)) == usd("0.00009")


def test_a_call_above_the_long_mark_costs_more_as_a_whole() -> None:
    price = Price(
        input_usd=usd("1"),
        output_usd=usd("5"),
        cached_input_usd=usd("0.1"),
        long_above_tokens=100,
        long_input_factor=usd("2"),
        long_output_factor=usd("1.5"),
    )
    assert price.cost_usd(used(100, 10)) == usd("0.00015")
    assert price.cost_usd(used(101, 10, cached=1)) == usd("0.0002752")
    assert price.dearest_usd == usd("7.5")


def test_a_cost_is_rounded_up_whatever_the_callers_own_arithmetic_does() -> None:
    price = Price(input_usd=usd("0.0001"), output_usd=usd("0"))
    with decimal.localcontext() as context:
        context.prec = 2
        context.rounding = decimal.ROUND_DOWN
        assert price.cost_usd(used(1)) == usd("1e-9")
        assert price.cost_usd(used(123_456_789)) == usd("0.012345679")


def test_a_provider_that_claims_absurd_numbers_is_still_priced() -> None:
    assert FOUR_RATES.cost_usd(used(10**60, 10**60)) == FOUR_RATES.cost_usd(used(10**20, 10**20))


TOKENS = st.integers(0, 10**7)
RATES = st.decimals(0, 1000, places=4)
PRICED = st.builds(
    Price,
    input_usd=RATES,
    output_usd=RATES,
    cached_input_usd=st.none() | RATES,
    cache_write_usd=st.none() | RATES,
    long_above_tokens=st.none() | st.integers(0, 10**6),
    long_input_factor=st.decimals(1, 5, places=2),
    long_output_factor=st.decimals(1, 5, places=2),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(price=PRICED, most_in=TOKENS, most_out=TOKENS, data=st.data())
def test_no_call_within_its_bound_costs_more_than_its_bound(
    price: Price, most_in: int, most_out: int, data: st.DataObject
) -> None:
    usage = used(
        data.draw(st.integers(0, most_in)),
        data.draw(st.integers(0, most_out)),
        cached=data.draw(TOKENS),
        written=data.draw(TOKENS),
    )
    most = price.most_usd(input_tokens=most_in, output_tokens=most_out)
    assert price.cost_usd(usage) <= most
    assert most <= (most_in + most_out) * price.dearest_usd / 1_000_000 + usd("1e-9")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_usd", None),
        ("output_usd", 1),
        ("output_usd", 0.5),
        ("input_usd", Decimal("-0.01")),
        ("input_usd", Decimal("NaN")),
        ("cached_input_usd", Decimal("Infinity")),
        ("cache_write_usd", Decimal(1_000_001)),
        ("batch_factor", Decimal("1.1")),
        ("long_input_factor", Decimal("0.5")),
        ("long_output_factor", Decimal(0)),
    ],
)
def test_what_is_no_rate_is_refused_by_name(field: str, value: Any) -> None:
    rates: dict[str, Any] = {"input_usd": usd("1"), "output_usd": usd("1")}
    with pytest.raises(ConfigError, match=rf"^Price\.{field}: .* is not a Decimal from"):
        Price(**rates | {field: value})


# --- whose price it is ---


def test_the_table_is_dated_and_its_names_are_those_of_providers() -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", TABLE_DATE)
    for name, price in PRICES.items():
        assert re.fullmatch(r"(openai|anthropic):[a-z0-9.-]+", name)
        assert usd("0") < price.input_usd < price.output_usd
        assert price.cached_input_usd is not None
        assert price.cached_input_usd < price.input_usd


def test_the_users_price_goes_first_and_a_date_in_the_name_is_left_out() -> None:
    own = parse_price("7/8")
    assert price_of("openai:gpt-5.5") is PRICES["openai:gpt-5.5"]
    assert price_of("openai:gpt-5.5-2026-03-01") is PRICES["openai:gpt-5.5"]
    assert price_of("anthropic:claude-opus-5-5-20261001") is PRICES["anthropic:claude-opus-5-5"]
    assert price_of("openai:gpt-5.5", {"openai:gpt-5.5": own}) is own
    assert price_of("openai:gpt-5.5-2026-03-01", {"openai:gpt-5.5": own}) is own
    assert price_of("openai:some", {"openai:some": own}) is own


@pytest.mark.parametrize("name", ["openai:gpt-5.5-mini-2", "gpt-5.5", "anthropic:gpt-5.5", "openai:gpt-5.5x", ""])
def test_a_model_that_nobody_knows_has_no_price(name: str) -> None:
    assert price_of(name) is None


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1/5", ("1", None, "5")),
        (" 0.10 / 0.01 / 0.50 ", ("0.10", "0.01", "0.50")),
        ("0/0", ("0", None, "0")),
        ("1e1/2", ("10", None, "2")),
    ],
)
def test_a_price_is_read_from_the_command_line(text: str, rates: tuple[str, str | None, str]) -> None:
    price = parse_price(text)
    cached = None if rates[1] is None else usd(rates[1])
    assert (price.input_usd, price.cached_input_usd, price.output_usd) == (usd(rates[0]), cached, usd(rates[2]))


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/5", "1/2/3/4", "-1/5", "one/two", "NaN/1", "inf/1", "1/2000000", "$1/$5"]
)
def test_what_is_no_price_says_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no price: write IN/OUT"):
        parse_price(text)


# --- a limit in money needs prices ---


def test_a_model_without_a_price_under_a_limit_in_money_is_refused_before_anything_starts() -> None:
    known, unknown = ScriptedProvider([], name="openai:gpt-5.5"), ScriptedProvider([], name="openai:local")
    with pytest.raises(ConfigError, match=r"what openai:local costs is not known.*prices=\{\"openai:local\".*--price"):
        RLM(known, unknown, limits=Limits(max_cost_usd=1))
    with pytest.raises(ConfigError, match="openai:local"):
        RLM(unknown, limits=Limits(max_cost_usd=0))
    RLM(known, unknown, limits=Limits(max_cost_usd=1), prices={"openai:local": parse_price("0/0")})
    RLM(known, unknown, limits=Limits(max_cost_usd=1), prompt_mode="no_subcalls")
    RLM(known, unknown)


def test_what_is_no_price_is_refused_by_the_models_name() -> None:
    wrong: Any = {"openai:local": "1/5"}
    with pytest.raises(ConfigError, match=r"^prices\['openai:local'\]: a str is no Price$"):
        checked_prices(wrong, Limits())


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("0", "$0.00"),
        ("0.00001", "less than $0.0001"),
        ("0.0421", "$0.0421"),
        ("1", "$1.00"),
        ("1234.567", "$1,234.57"),
    ],
)
def test_an_amount_is_said_as_people_say_it(amount: str, said: str) -> None:
    assert dollars(usd(amount)) == said
