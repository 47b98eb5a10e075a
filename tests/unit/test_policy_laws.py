"""The laws of the design under any policies: whatever they do, permits are settled once and refusals are free."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import LimitExceeded, PolicyRefused, ProviderError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.permit import Permit
from orchestrator.policies.base import Allow, Decision, Policy, Redact, Refuse
from orchestrator.policies.canary import Canary
from orchestrator.policies.chain import PolicyChain
from orchestrator.policies.limits import EgressLimit, MaxPrompt, ModelAllowList
from orchestrator.policies.secrets import SecretsRedaction
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage
from orchestrator.recorder import Recorder
from sandbox.messages import Asked, SubCallFailure

MOODS = ("allow", "report", "redact", "grow", "refuse", "raise", "cancel", "nonsense", "too few texts")


class Moody(Policy):
    """Does anything that code can do in a hook."""

    def __init__(self, seed: int, moods: tuple[str, ...]) -> None:
        self._random = random.Random(seed)
        self._moods = moods

    def on_request(self, request: Any) -> Decision:
        return self._decide(tuple(message.content for message in request.messages))

    def on_reply(self, reply: Any) -> Decision:
        return self._decide(reply.text)

    def _decide(self, texts: Any) -> Decision:
        match self._random.choice(self._moods):
            case "report":
                return Allow("seen")
            case "redact":
                return Redact(text=_each(texts, lambda text: text[:3]), count=1, reason="cut")
            case "grow":
                return Redact(text=_each(texts, lambda text: text + "x" * 40), count=1, reason="grown")
            case "refuse":
                return Refuse("no")
            case "raise":
                raise self._random.choice([ValueError, KeyError, RecursionError, MemoryError])("the document's words")
            case "cancel":
                raise asyncio.CancelledError
            case "nonsense":
                return "yes"  # type: ignore[return-value]
            case "too few texts":
                return Redact(text=(), count=1, reason="all gone")
        return Allow()


def _each(texts: Any, change: Any) -> Any:
    return change(texts) if isinstance(texts, str) else tuple(map(change, texts))


SHIPPED: list[Callable[[], Policy]] = [
    lambda: ModelAllowList(["model"]),
    lambda: ModelAllowList({0: ["model"]}),
    lambda: MaxPrompt(600),
    lambda: EgressLimit(1.0, floor_bytes=3000),
    lambda: SecretsRedaction(prompts=True),
    Canary,
]

policies = st.lists(
    st.one_of(
        st.builds(Moody, st.integers(0, 2**32), st.lists(st.sampled_from(MOODS), min_size=1).map(tuple)),
        st.sampled_from(SHIPPED).map(lambda make: make()),
    ),
    max_size=4,
)


@dataclass
class Model:
    """A provider that answers, fails in each way, hangs until it is cancelled, or bills too much."""

    seed: int
    name: str = "model"
    max_output_tokens: int = 50
    sent_bytes: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.calls: list[ModelRequest] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.calls.append(request)
        await asyncio.sleep(0)
        match self._random.choice(["ok", "ok", "ok", "fail", "refuse", "crash", "cancelled", "dear"]):
            case "fail":
                raise ProviderError("broke", provider=self.name)
            case "refuse":
                raise ProviderError("no", provider=self.name, status=401, refused=True)
            case "crash":
                raise RuntimeError("a bug")
            case "cancelled":
                raise asyncio.CancelledError
            case "dear":
                return ModelReply(text="x", usage=TokenUsage(input_tokens=5000, output_tokens=5000))
        return ModelReply(text="the reply", usage=TokenUsage(input_tokens=7, output_tokens=3))


@pytest.fixture(scope="module")
def settlings() -> Any:
    """How often each permit was settled, and how many were given."""
    counts: Counter[int] = Counter()
    given_out: list[Permit] = []
    settle, reserve = Permit._settle, Ledger.reserve

    def counted(permit: Permit, usage: TokenUsage, cost_usd: Decimal | None) -> None:
        counts[id(permit)] += 1
        settle(permit, usage, cost_usd)

    async def remembered(ledger: Ledger, **asked: Any) -> Permit:
        permit = await reserve(ledger, **asked)
        given_out.append(permit)
        return permit

    Permit._settle, Ledger.reserve = counted, remembered  # type: ignore[method-assign,assignment]
    yield counts, given_out
    Permit._settle, Ledger.reserve = settle, reserve  # type: ignore[method-assign]


@settings(deadline=None, max_examples=300)
@given(
    policies=policies,
    seed=st.integers(0, 2**32),
    calls=st.lists(st.sampled_from(["root", "sub", "sub with data", "cancelled sub"]), min_size=1, max_size=12),
    max_sub_calls=st.integers(0, 6),
)
def test_every_permit_is_settled_once_and_refused_requests_cost_nothing(
    settlings: Any, policies: list[Policy], seed: int, calls: list[str], max_sub_calls: int
) -> None:
    counts, given_out = settlings
    counts.clear()
    given_out.clear()
    asyncio.run(_drive(policies, seed, calls, max_sub_calls, given_out))
    assert [counts[id(permit)] for permit in given_out] == [1] * len(given_out)


async def _drive(policies: list[Policy], seed: int, calls: list[str], max_sub_calls: int, given_out: Any) -> None:
    limits = Limits(max_sub_calls=max_sub_calls, max_tokens=60_000)
    top = Ledger(limits)
    ledger, recorder, model = Ledger(limits, parent=top), Recorder(), Model(seed)
    chain = PolicyChain(policies, record=recorder.policy, document_bytes=100)
    gate = Gate(root=model, sub=model, limits=limits, ledger=ledger, recorder=recorder, policies=chain)
    for call in calls:
        before = (len(model.calls), top.spent_tokens, top.sub_calls, top.root_calls, top.sent_bytes)
        if await _one(gate, call) == "refused before a model was asked":
            assert (len(model.calls), top.spent_tokens, top.sub_calls, top.root_calls, top.sent_bytes) == before
    assert (ledger.reserved_tokens, top.reserved_tokens) == (0, 0)
    assert len(given_out) == len(model.calls) == top.sub_calls + top.root_calls
    sent = sum(message.size_bytes for request in model.calls for message in request.messages)
    assert ledger.sent_bytes == top.sent_bytes == sent
    assert top.sub_calls <= max_sub_calls
    assert all(len(decision.reason) <= 300 and "document" not in decision.reason for decision in recorder.decisions)


async def _one(gate: Gate, call: str) -> str:
    asked = len(gate._sub.calls)  # type: ignore[union-attr]
    try:
        if call == "root":
            await gate.ask_root([Message(role="system", content="s"), Message(role="user", content="What?")])
            return "answered"
        task = asyncio.create_task(gate.handle(Asked("What?", "data" if call == "sub with data" else None)))
        if call == "cancelled sub":
            await asyncio.sleep(0)
            task.cancel()
        answer = await task
    except PolicyRefused:
        return "refused" if len(gate._sub.calls) > asked else "refused before a model was asked"  # type: ignore[union-attr]
    except (ProviderError, LimitExceeded, asyncio.CancelledError):
        return "failed"
    refused = isinstance(answer, SubCallFailure) and answer.kind in ("PolicyRefused", "LimitExceeded")
    return "refused before a model was asked" if refused and len(gate._sub.calls) == asked else "answered"  # type: ignore[union-attr]


@pytest.mark.parametrize("mood", MOODS)
async def test_each_mood_by_itself_is_survived(mood: str) -> None:
    ledger, recorder, model = Ledger(Limits()), Recorder(), Model(seed=3)
    chain = PolicyChain([Moody(1, (mood,))], record=recorder.policy)
    gate = Gate(root=model, sub=model, limits=Limits(), ledger=ledger, recorder=recorder, policies=chain)
    answer = await gate.handle(Asked("What?"))
    refuses = mood in ("refuse", "raise", "cancel", "nonsense", "too few texts")
    assert (isinstance(answer, SubCallFailure) and answer.kind == "PolicyRefused") == refuses
    assert (len(model.calls) == 0) == refuses
    assert ledger.reserved_tokens == 0
