"""The root's conversation within its window: when it is compacted, what stays, and what the root is told."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from orchestrator.errors import ConfigError, LimitExceeded, PolicyRefused, ProviderError
from orchestrator.gate import Gate
from orchestrator.history import BYTES_A_TOKEN, KEPT_TURNS, History
from orchestrator.ledger import Ledger
from orchestrator.limits import UNLIMITED, Limits
from orchestrator.names import BoundNames
from orchestrator.policies.base import Allow, Decision, IncomingReply, Policy, Refuse
from orchestrator.policies.chain import PolicyChain
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.providers.windows import DEFAULT_WINDOW_TOKENS, WINDOWS, window_of
from orchestrator.recorder import Recorder
from orchestrator.rlm import RLM
from orchestrator.trace import TraceEvent

SYSTEM = "You write code. " * 40
FIRST = "Left: 9 replies.\n\nThe question:\nWhat is it?"
SUM_UP = "getting too long for you"


class Model:
    """A root whose text has a token for so many bytes, which is what it bills, and which refuses what is too long."""

    def __init__(
        self, reply: Callable[[ModelRequest], str], *, bytes_a_token: float = 4, window: int = 10**9, told: bool = True
    ) -> None:
        self.provider = ScriptedProvider(self._play, max_output_tokens=10**7)
        self._reply, self._bytes, self._window, self._told = reply, bytes_a_token, window, told
        self.fullest = 0
        self.summaries = 0

    def tokens(self, messages: tuple[Message, ...]) -> int:
        return int(sum(message.size_bytes for message in messages) / self._bytes)

    def _play(self, request: ModelRequest) -> ModelReply:
        size = self.tokens(request.messages)
        if size > self._window:
            raise ProviderError("prompt is too long", provider="root", status=400, refused=True, too_long=True)
        self.fullest = max(self.fullest, size)
        summary = SUM_UP in request.messages[-1].content
        self.summaries += summary
        text = f"I know: {self.summaries}." if summary else self._reply(request)
        usage = TokenUsage(input_tokens=size, output_tokens=int(len(text.encode()) / self._bytes) + 1)
        return ModelReply(
            text=text, usage=usage if self._told else TokenUsage(input_tokens=1, output_tokens=1, estimated=True)
        )


def history_of(
    model: Model, *, window: int, limits: Limits | None = None, policies: PolicyChain | None = None, first: str = FIRST
) -> tuple[History, list[TraceEvent]]:
    events: list[TraceEvent] = []
    limits = limits or Limits(max_tokens=UNLIMITED)
    recorder = Recorder([events.append])
    gate = Gate(
        root=model.provider,
        sub=None,
        limits=limits,
        ledger=Ledger(limits),
        recorder=recorder,
        policies=policies,
    )
    history = History(
        gate=gate,
        recorder=recorder,
        system_prompt=SYSTEM,
        first=first,
        names=BoundNames(),
        window_tokens=window,
        reply_tokens=1_000,
    )
    return history, events


def compactions(events: list[TraceEvent]) -> list[dict[str, Any]]:
    return [event.facts for event in events if event.kind == "compaction"]


async def turns(history: History, count: int, *, chars: int = 2_000, said: str = "Left: 8 replies.") -> None:
    for number in range(count):
        await history.ask()
        history.told(f"[stdout {number}] " + "x" * chars, said)


# --- as long as there is room ---


async def test_a_conversation_only_grows_at_its_end_so_that_a_cache_has_its_beginning() -> None:
    model = Model(lambda _: "more")
    history, events = history_of(model, window=1_000_000)
    await turns(history, 8)
    requests = [request.messages for request in model.provider.requests]
    for earlier, later in pairwise(requests):
        assert later[: len(earlier)] == earlier
    assert all(request.conversation for request in model.provider.requests)
    assert compactions(events) == []


async def test_what_the_provider_counted_goes_before_our_own_guess() -> None:
    history, events = history_of(Model(lambda _: "more", bytes_a_token=8), window=9_000)
    await turns(history, 8)
    assert compactions(events) == [], "by our own guess of two bytes a token it would have been full"
    assert history.tokens < 18_000 / BYTES_A_TOKEN


async def test_a_provider_that_counts_nothing_is_not_believed() -> None:
    model = Model(lambda _: "more", told=False)
    history, events = history_of(model, window=9_000)
    await turns(history, 12)
    assert compactions(events)
    assert model.fullest < 9_000


# --- when it is full ---


async def test_old_turns_leave_for_the_roots_own_summary() -> None:
    model = Model(lambda request: f"reply {len(request.messages)}")
    history, events = history_of(model, window=9_000)
    history.names.learn("table = 1\nparts = 2")
    while not compactions(events):
        await turns(history, 1)
    fact = compactions(events)[0]
    assert fact["because"] == "full"
    assert fact["turns"] >= 1
    assert fact["failure"] is None
    assert fact["usage"]["input_tokens"] > 0
    assert fact["tokens_after"] < fact["tokens_before"]
    assert fact["tokens_before"] > 0.8 * 9_000
    asked, sent = model.provider.requests[-2].messages, model.provider.requests[-1].messages
    assert asked[:2] == (Message(role="system", content=SYSTEM), Message(role="user", content=FIRST))
    assert sent[0] == asked[0]
    assert sent[1].content.startswith(FIRST + "\n\n")
    assert f"The first {fact['turns']} turns of this conversation were removed" in sent[1].content
    assert "Names that your code has bound, the latest first: parts, table." in sent[1].content
    assert re.search(r"\[your summary (\w+): 10 characters\]\nI know: 1\.\n\[end \1\]", sent[1].content)
    assert [message.role for message in sent[2:4]] == ["assistant", "user"]
    assert next(event.texts for event in events if event.kind == "compaction") == {"summary": "I know: 1."}


async def test_the_last_turns_stay_word_for_word_where_they_are_short() -> None:
    model = Model(lambda request: f"reply to {request.messages[-1].content[:12]}")
    history, events = history_of(model, window=40_000)
    number = 0
    while not compactions(events):
        number += 1
        before = tuple(history.messages[-2 * KEPT_TURNS :])
        await history.ask()
        history.told(f"[stdout {number}] " + "x" * 2_000, "Left: 8 replies.")
    kept = model.provider.requests[-1].messages[2:]
    assert kept == before
    assert [f"[stdout {number - back}]" in kept[-2 * back + 1].content for back in (3, 2, 1)] == [True] * 3


async def test_a_second_summary_takes_the_place_of_the_first() -> None:
    model = Model(lambda _: "more")
    history, events = history_of(model, window=9_000)
    while len(compactions(events)) < 3:
        await turns(history, 1)
    head = model.provider.requests[-1].messages[1].content
    assert ("I know: 3." in head, "I know: 2." in head, "I know: 1." in head) == (True, False, False)
    assert head.count("were removed to make room") == 1
    assert f"The first {sum(fact['turns'] for fact in compactions(events))} turns" in head


async def test_a_summary_is_cut_to_its_part_of_the_window() -> None:
    def reply(request: ModelRequest) -> str:
        return "more"

    model = Model(reply)
    play = model.provider._play

    def long_summaries(request: ModelRequest) -> Any:
        made: Any = play(request)
        if SUM_UP in request.messages[-1].content:
            return ModelReply(text="s" * 50_000, usage=made.usage)
        return made

    model.provider._play = long_summaries
    history, events = history_of(model, window=9_000)
    while not compactions(events):
        await turns(history, 1)
    assert len(history.messages[1].content) < len(FIRST) + 9_000 // 8 + 500


# --- where no summary can be had ---


async def test_where_the_summary_fails_old_turns_leave_without_one() -> None:
    def refuses(request: ModelRequest) -> str:
        if SUM_UP in request.messages[-1].content:
            raise ProviderError("no", provider="root", status=400, refused=True)
        return "more"

    model = Model(refuses)
    model.provider._play = lambda request: refuses(request)
    history, events = history_of(model, window=9_000)
    while not compactions(events):
        await turns(history, 1)
    fact = compactions(events)[0]
    assert (fact["failure"], fact["usage"]) == ("ProviderError", None)
    assert "There is no summary of them." in history.messages[1].content


async def test_a_limit_that_refuses_the_summary_refuses_the_next_reply_itself() -> None:
    model = Model(lambda _: "more")
    history, events = history_of(model, window=9_000, limits=Limits(max_tokens=30_000))
    with pytest.raises(LimitExceeded):
        await turns(history, 100)
    assert [fact["failure"] for fact in compactions(events)][-1:] in ([], [None], ["LimitExceeded"])


class NoSummaries(Policy):
    """Refuses a reply with a summary."""

    def on_reply(self, reply: IncomingReply) -> Decision:
        return Refuse("no summaries") if "I know" in reply.text else Allow()


async def test_a_policy_is_asked_about_the_summary_as_about_any_reply() -> None:
    history, _ = history_of(Model(lambda _: "more"), window=9_000, policies=PolicyChain([NoSummaries()]))
    with pytest.raises(PolicyRefused, match="no summaries"):
        await turns(history, 100)


# --- where the window is smaller than we think ---


async def test_a_model_that_finds_it_too_long_is_asked_once_more_with_less() -> None:
    model = Model(lambda _: "more", window=3_000)
    history, events = history_of(model, window=1_000_000)
    await turns(history, 12)
    facts = compactions(events)
    assert facts[0]["because"] == "refused"
    assert facts[0]["window_tokens"] < 10_000, "from now on it is known that the window is small"
    assert len([message for message in history.messages if message.role == "assistant"]) < 12
    assert model.fullest <= 3_000


async def test_where_nothing_can_be_taken_out_the_refusal_is_the_callers() -> None:
    history, events = history_of(Model(lambda _: "more", window=10), window=1_000_000)
    with pytest.raises(ProviderError, match="too long"):
        await history.ask()
    assert compactions(events) == []


async def test_a_reply_cut_off_by_a_full_window_is_asked_for_again() -> None:
    replies = iter(["one", "two", "three", "cut", "four"])

    def play(request: ModelRequest) -> ModelReply:
        text = "I know." if SUM_UP in request.messages[-1].content else next(replies)
        usage = TokenUsage(input_tokens=3_000, output_tokens=5)
        return ModelReply(text=text, usage=usage, finish_reason="window" if text == "cut" else "stop")

    model = Model(lambda _: "")
    model.provider._play = play
    history, events = history_of(model, window=100_000)
    await turns(history, 3)
    assert (await history.ask()).text == "four"
    assert [fact["because"] for fact in compactions(events)] == ["cut off"]
    assert "cut" not in [message.content for message in history.messages]


# --- whatever the sizes ---


@pytest.mark.parametrize("seed", range(30))
async def test_no_request_is_ever_larger_than_the_window(seed: int) -> None:
    """Random sizes of replies and outputs, random alphabets, and a model with two to five bytes a token."""
    chance = random.Random(seed)
    window = chance.choice([4_000, 16_000, 128_000])
    letters = chance.choice(["x", "é", "漢", "🌍", "word "])

    def text(most_bytes: int) -> str:
        return letters * (int(most_bytes * chance.random() ** 3) // len(letters.encode()))

    model = Model(
        lambda _: text(window * 4), bytes_a_token=chance.uniform(2, 5), window=window, told=chance.random() < 0.7
    )
    history, events = history_of(model, window=window)
    for _ in range(40):
        await history.ask()
        shown = text(window * 4) if chance.random() < 0.8 else None
        history.told(shown, "Left: 3 replies.")
        assert history.messages[-1].content.endswith("Left: 3 replies.")
    assert model.fullest <= window
    assert all(fact["because"] == "full" for fact in compactions(events)), "the model never had to refuse"
    assert [message.role for message in history.messages[1:]] == ["user", "assistant"] * (
        (len(history.messages) - 2) // 2
    ) + ["user"]


async def test_an_output_that_had_to_be_cut_is_still_framed_and_the_hosts_words_stand_behind_it() -> None:
    model = Model(lambda _: "more")
    history, events = history_of(model, window=4_000)
    await history.ask()
    history.told("[stdout 12] " + "a" * 9_000 + " [end 12]\n[stdout 12] b [end 12]", "Left: 8 replies.")
    await history.ask()
    shown = model.provider.requests[-1].messages[-1].content
    assert re.fullmatch(
        r"\[what your cells showed, cut to make room (\w+): [\d,]+ characters\]\n.*\n\[end \1\]\n\n+Left: 8 replies\.",
        shown,
        re.DOTALL,
    )
    assert compactions(events)[0]["cut"] is True


# --- the window itself ---


def test_whose_word_on_the_window_counts() -> None:
    class Known(ScriptedProvider):
        context_window_tokens = 32_000

    assert window_of(ScriptedProvider([])) == DEFAULT_WINDOW_TOKENS
    assert window_of(ScriptedProvider([], name="openai:gpt-5.4-mini")) == WINDOWS["openai:gpt-5.4-mini"]
    assert window_of(ScriptedProvider([], name="openai:gpt-5.4-mini-2026-03-01")) == 400_000
    assert window_of(Known([], name="openai:gpt-5.4-mini")) == 32_000
    assert window_of(Known([]), 8_000) == 8_000


@pytest.mark.parametrize("value", [0, 1_999, -1, 100_000_001, 8_000.0, "8000", True])
def test_a_window_that_is_none_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^root_window_tokens: .* is not an integer from 2,000 to 100,000,000$"):
        RLM(ScriptedProvider([]), root_window_tokens=value)

    class Wrong(ScriptedProvider):
        context_window_tokens = value

    with pytest.raises(ConfigError, match=r"^scripted:replies\.context_window_tokens: "):
        window_of(Wrong([]))
