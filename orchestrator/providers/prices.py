"""What models cost: a dated table, prices of the user's own, and the cost of a call before and after it.

Money is `Decimal`, in US dollars; rates are for a million tokens. A price is looked up by the provider's name, for
example ``openai:gpt-6-luna``, whatever server is behind it. A model that is not in the table has no price: under a cost
limit that is an error before anything starts, never a cost of 0.

A cost is rounded up to a billionth of a dollar, so that sums are exact and what is given back is what was taken.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation, localcontext
from types import MappingProxyType
from typing import Final

from orchestrator.errors import ConfigError
from orchestrator.limits import UNLIMITED, Limits
from orchestrator.providers.base import Provider, TokenUsage

TABLE_DATE: Final = "2026-11-24"
"""When `PRICES` was last compared with what the vendors publish."""

_MILLION: Final = Decimal(1_000_000)
_MOST_USD: Final = Decimal(1_000_000)
_MOST_FACTOR: Final = Decimal(100)
_MOST_TOKENS: Final = 10**20  # of one call that are priced: a provider that lies must not make the sum overflow
_SMALLEST_USD: Final = Decimal("1e-9")
_ARITHMETIC: Final = Context(prec=60, rounding=ROUND_CEILING)
"""Whatever the caller's own context is: nothing above is rounded before the end."""
_CACHE_WRITE_FACTOR: Final = Decimal("1.25")
"""Of both vendors: a write that is kept for minutes, against other input (their pages on prompt caching)."""
_DATED_NAME: Final = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Rates of one model, in US dollars for a million tokens.

    Attributes:
        input_usd: Input tokens.
        output_usd: Output tokens, hidden reasoning included.
        cached_input_usd: Input tokens read from the provider's cache; None: as other input.
        cache_write_usd: Input tokens written to it; None: as other input, but of Anthropic's models 1.25 times that.
        batch_factor: What the rates are multiplied by in the vendor's batch service.
        long_above_tokens: Input tokens of one call above which all of it costs more; None: never.
        long_input_factor: What input rates, cached ones too, are multiplied by then.
        long_output_factor: What the output rate is multiplied by then.

    Raises:
        ConfigError: A rate is no Decimal from 0 to a million, or a factor is out of its range: 0 to 1 for the batch,
            1 to 100 for long calls, so that more tokens never cost less.
    """

    input_usd: Decimal
    output_usd: Decimal
    cached_input_usd: Decimal | None = None
    cache_write_usd: Decimal | None = None
    batch_factor: Decimal = Decimal(1)
    long_above_tokens: int | None = None
    long_input_factor: Decimal = Decimal(1)
    long_output_factor: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        for name in ("input_usd", "output_usd", "cached_input_usd", "cache_write_usd"):
            rate = getattr(self, name)
            if rate is not None or name in ("input_usd", "output_usd"):
                _check(name, rate, least=Decimal(0), most=_MOST_USD)
        _check("batch_factor", self.batch_factor, least=Decimal(0), most=Decimal(1))
        for name in ("long_input_factor", "long_output_factor"):
            _check(name, getattr(self, name), least=Decimal(1), most=_MOST_FACTOR)

    def cost_usd(self, usage: TokenUsage) -> Decimal:
        """What a call with this usage costs; what is negative in it counts as 0."""
        total = min(max(0, usage.input_tokens), _MOST_TOKENS)
        output = min(max(0, usage.output_tokens), _MOST_TOKENS)
        cached = max(0, min(usage.cached_input_tokens, total))
        written = max(0, min(usage.cache_write_tokens, total - cached))
        with localcontext(_ARITHMETIC):
            input_usd = (
                (total - cached - written) * self.input_usd
                + cached * _or(self.cached_input_usd, self.input_usd)
                + written * _or(self.cache_write_usd, self.input_usd)
            )
            return self._scaled(total, input_usd, output * self.output_usd)

    def most_usd(self, *, input_tokens: int, output_tokens: int) -> Decimal:
        """What a call of at most so many tokens can cost: every input token at the dearest of its rates."""
        with localcontext(_ARITHMETIC):
            return self._scaled(input_tokens, input_tokens * self._dearest_input_usd, output_tokens * self.output_usd)

    @property
    def dearest_usd(self) -> Decimal:
        """The highest rate there is for a token of any kind, in US dollars for a million."""
        if self.long_above_tokens is None:
            return max(self._dearest_input_usd, self.output_usd)
        return max(self._dearest_input_usd * self.long_input_factor, self.output_usd * self.long_output_factor)

    @property
    def _dearest_input_usd(self) -> Decimal:
        rates = (self.input_usd, self.cached_input_usd, self.cache_write_usd)
        return max(rate for rate in rates if rate is not None)

    def _scaled(self, input_tokens: int, input_usd: Decimal, output_usd: Decimal) -> Decimal:
        if self.long_above_tokens is not None and input_tokens > self.long_above_tokens:
            input_usd, output_usd = input_usd * self.long_input_factor, output_usd * self.long_output_factor
        return ((input_usd + output_usd) / _MILLION).quantize(_SMALLEST_USD)


def _check(name: str, value: object, *, least: Decimal, most: Decimal) -> None:
    if not (isinstance(value, Decimal) and value.is_finite() and least <= value <= most):
        raise ConfigError(f"Price.{name}: {value!r} is not a Decimal from {least:,} to {most:,}")


def _or(rate: Decimal | None, default: Decimal) -> Decimal:
    return default if rate is None else rate


def _openai(input_usd: str, cached_input_usd: str, output_usd: str, *, cache_write_usd: str | None = None) -> Price:
    """OpenAI's: half in a batch; a call of more than 272,000 input tokens costs twice the input and 1.5 the output.
    Its models since 5.6 bill 1.25 times the input for writing the cache, which they do by themselves.
    """
    return Price(
        input_usd=Decimal(input_usd),
        cached_input_usd=Decimal(cached_input_usd),
        output_usd=Decimal(output_usd),
        cache_write_usd=None if cache_write_usd is None else Decimal(cache_write_usd),
        batch_factor=Decimal("0.5"),
        long_above_tokens=272_000,
        long_input_factor=Decimal(2),
        long_output_factor=Decimal("1.5"),
    )


def _anthropic(
    input_usd: str, cached_input_usd: str, output_usd: str, *, long_above_tokens: int | None = None
) -> Price:
    """Anthropic's: half in a batch; writing the cache for five minutes costs 1.25 times the input."""
    factor = Decimal(5) if long_above_tokens else Decimal(1)
    return Price(
        input_usd=Decimal(input_usd),
        cached_input_usd=Decimal(cached_input_usd),
        output_usd=Decimal(output_usd),
        cache_write_usd=Decimal(input_usd) * _CACHE_WRITE_FACTOR,
        batch_factor=Decimal("0.5"),
        long_above_tokens=long_above_tokens,
        long_input_factor=factor,
        long_output_factor=factor,
    )


PRICES: Final[Mapping[str, Price]] = MappingProxyType(
    {
        # Source: the vendors' price pages (developers.openai.com/api/docs/pricing, platform.claude.com/docs), as their
        # readers reported them up to `TABLE_DATE`. No price was tried against a bill: give your own where it matters.
        "openai:gpt-6-astra": _openai("10", "1", "50", cache_write_usd="12.50"),
        "openai:gpt-6-sol": _openai("2", "0.20", "10", cache_write_usd="2.50"),
        "openai:gpt-6.1-terra": _openai("1", "0.05", "5", cache_write_usd="1.25"),
        "openai:gpt-6-luna": _openai("0.10", "0.01", "0.50", cache_write_usd="0.125"),
        "openai:gpt-5.5": _openai("5", "0.50", "30"),
        "openai:gpt-5.4": _openai("2.50", "0.25", "15"),
        "openai:gpt-5.4-mini": _openai("0.75", "0.075", "4.50"),
        "anthropic:claude-opus-5-5": _anthropic("4", "0.20", "20"),
        "anthropic:claude-sonnet-5-5": _anthropic("2", "0.10", "10"),
        "anthropic:claude-haiku-5-5": _anthropic("0.10", "0.01", "0.50", long_above_tokens=100_000),
    }
)
"""Model name: price. A date at the end of a model's name is left out when it is looked up."""


def price_of(name: str, own: Mapping[str, Price] | None = None) -> Price | None:
    """The price of a provider's model, the user's own first; None where nobody knows it.

    Args:
        name: The provider's name, ``openai:gpt-6-luna``. The date at the end of a model's name may be left out.
        own: The user's own prices by such names.
    """
    for table in (own or {}, PRICES):
        for key in (name, undated(name)):
            if key in table:
                return _with_cache_writes(name, table[key])
    return None


def undated(name: str) -> str:
    """A model's name without the date at its end."""
    return _DATED_NAME.sub("", name)


def _with_cache_writes(name: str, price: Price) -> Price:
    """Root conversations are cached at Anthropic, which bills for the writing whether or not its rate was given."""
    if price.cache_write_usd is not None or not name.startswith("anthropic:"):
        return price
    return dataclasses.replace(price, cache_write_usd=min(price.input_usd * _CACHE_WRITE_FACTOR, _MOST_USD))


def checked_prices(own: Mapping[str, Price] | None, limits: Limits, *models: Provider | None) -> Mapping[str, Price]:
    """The user's prices, where each model has one if there is a limit in money.

    Raises:
        ConfigError: One has none; names it and says how to give it. Or what was given is no price.
    """
    prices = dict(own or {})
    for name, price in prices.items():
        if not isinstance(price, Price):
            raise ConfigError(f"prices[{name!r}]: a {type(price).__name__} is no Price")
    if limits.max_cost_usd != UNLIMITED:
        for model in models:
            if model is not None and price_of(model.name, prices) is None:
                raise ConfigError(unknown_price(model.name))
    return prices


def unknown_price(name: str) -> str:
    """What to say where a limit in money needs a price that nobody knows."""
    given = f'prices={{"{name}": Price(input_usd=Decimal("1"), output_usd=Decimal("5"))}}'
    return (
        f"Limits.max_cost_usd: what {name} costs is not known. Give its price in US dollars for a million tokens: "
        f"{given}, or on the command line --price IN/OUT (--sub-price for the sub-model, "
        "--price-of SPEC=IN/OUT for another; 0/0 for a local model)"
    )


def parse_price(text: str) -> Price:
    """Read ``IN/OUT`` or ``IN/CACHED/OUT``, US dollars for a million tokens; ``0/0`` is a model that costs nothing.

    Raises:
        ConfigError: It is no such text; names the value and the form.
    """
    parts = text.split("/")
    try:
        rates = [Decimal(part.strip()) for part in parts]
        if len(rates) == 2:
            return Price(input_usd=rates[0], output_usd=rates[1])
        if len(rates) == 3:
            return Price(input_usd=rates[0], cached_input_usd=rates[1], output_usd=rates[2])
    except (InvalidOperation, ConfigError):
        pass
    raise ConfigError(
        f"{text!r:.60} is no price: write IN/OUT, or IN/CACHED/OUT, in US dollars for a million tokens "
        "(0/0 for a local model)"
    )


def dollars(amount: Decimal) -> str:
    """An amount for a person or a model: to the cent, and below a dollar to a hundredth of one."""
    if 0 < amount < Decimal("0.0001"):
        return "less than $0.0001"
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"
