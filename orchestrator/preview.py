"""What a run would send first and what it could cost at most, without a run: no engine, no key, no call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final

from orchestrator.documents import documents_of
from orchestrator.intake import let_go, take_in_now
from orchestrator.limits import UNLIMITED, Limits
from orchestrator.permit import upper_bound_tokens
from orchestrator.providers.base import Message
from orchestrator.providers.prices import Price, dollars, price_of
from orchestrator.recorder import Recorder
from orchestrator.run import Run
from orchestrator.tokens import Estimate, estimate

if TYPE_CHECKING:
    from orchestrator.rlm import RLM

_SHOWN_USD: Final = Decimal("0.0001")


@dataclass(frozen=True, slots=True, kw_only=True)
class MostCost:
    """The upper bound of what a run, its whole recursion tree, can cost.

    Attributes:
        usd: US dollars; None where there is no bound, or no price to reckon it by.
        limit: The field of `Limits` that bounds it, or None.
        why: In words.
    """

    usd: Decimal | None
    limit: str | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a run would begin with.

    Attributes:
        root: Name of the root's provider.
        sub: Name of the sub-model's, or None.
        sub_llms: Names of the further sub-models' providers, by the names that cells may say.
        fallback: Names of those that step in.
        messages: The first request, as the policies leave it.
        estimate: A guess at its tokens.
        most_tokens: What is reserved for it: its upper bound and the longest reply.
        most_usd: What is reserved for it in money; None where the root's price is not known.
        run: What the whole run can cost.
    """

    root: str
    sub: str | None
    sub_llms: dict[str, str]
    fallback: tuple[str, ...]
    messages: tuple[Message, ...]
    estimate: Estimate
    most_tokens: int
    most_usd: Decimal | None
    run: MostCost


def preview(rlm: RLM, question: str, context: Any) -> Preview:
    """Look at a run before it is made.

    Args:
        rlm: Models, limits and prompts.
        question: The question.
        context: As for `RLM.query`. It is read for its size alone.

    Raises:
        ContextError: The context can't be used.
        PolicyRefused: A policy would refuse the first request.
    """
    settings = rlm.settings
    checked = take_in_now(context, settings.context_mode, settings.limits.memory_bytes)
    try:
        messages = Run(settings, question, checked, documents_of(checked), Recorder()).opening()
    finally:
        let_go(checked)
    root, sub = settings.root, settings.sub
    price = price_of(root.name, settings.prices)
    most_input = upper_bound_tokens(messages)
    return Preview(
        root=root.name,
        sub=sub.name if sub else None,
        sub_llms={name: model.name for name, model in settings.sub_llms.items()},
        fallback=tuple(model.name for model in settings.fallback),
        messages=messages,
        estimate=estimate(root.name, messages),
        most_tokens=most_input + root.max_output_tokens,
        most_usd=price.most_usd(input_tokens=most_input, output_tokens=root.max_output_tokens) if price else None,
        run=most_cost(rlm.limits, {model.name: price_of(model.name, settings.prices) for model in settings.models}),
    )


def most_cost(limits: Limits, prices: Mapping[str, Price | None]) -> MostCost:
    """The upper bound of a run's cost: the limit in money, or all tokens at the dearest rate, whichever is less.

    Args:
        limits: The run's.
        prices: Each model's.
    """
    unknown = next((name for name, price in prices.items() if price is None), None)
    if unknown is not None:
        return MostCost(usd=None, limit=None, why=f"not known: {unknown} has no price")
    known = {name: price for name, price in prices.items() if price is not None}
    dearest = max(known, key=lambda name: known[name].dearest_usd)
    rate = known[dearest].dearest_usd
    if rate == 0:
        return MostCost(usd=Decimal(0), limit=None, why="nothing: the models cost nothing")
    found = []
    if limits.max_cost_usd != UNLIMITED:
        found.append(MostCost(usd=Decimal(limits.max_cost_usd), limit="max_cost_usd", why="the limit in money"))
    if limits.max_tokens != UNLIMITED:
        tokens = int(limits.max_tokens)
        usd = (tokens * rate / 1_000_000).quantize(_SHOWN_USD, rounding=ROUND_CEILING)
        why = f"{tokens:,} tokens at {dollars(rate)} a million, the dearest rate of {dearest}"
        found.append(MostCost(usd=usd, limit="max_tokens", why=why))
    unbounded = MostCost(usd=None, limit=None, why="unbounded: neither money nor tokens have a limit")
    return min(found, key=lambda bound: bound.usd or Decimal(0), default=unbounded)
