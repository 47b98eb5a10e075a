"""Replies kept for the next time: what is the same question, what a hit costs, and what is on the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import reply_cache
from orchestrator.errors import ConfigError, ProviderError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.policies.base import Allow, Decision, IncomingReply, OutgoingRequest, Policy, Redact, Refuse
from orchestrator.policies.chain import PolicyChain
from orchestrator.prompts import sub_message
from orchestrator.providers.base import LLMInterface, Message, ModelReply, TokenUsage
from orchestrator.providers.custom import as_provider
from orchestrator.providers.prices import Price
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.recorder import Recorder
from orchestrator.reply_cache import ReplyCache, TreeCache, key_of
from orchestrator.rlm import RLM
from orchestrator.trace import TraceEvent
from sandbox.messages import Asked, SubCallFailure

USAGE = TokenUsage(input_tokens=70, output_tokens=30)
PRICE = Price(input_usd=Decimal(1), output_usd=Decimal(1))


class Model(ScriptedProvider):
    """Counts its replies, so that no two are the same."""

    def __init__(self, name: str = "model:m", parameters: Any = None, finish_reason: Any = "stop") -> None:
        super().__init__(
            lambda _: ModelReply(text=f"reply {len(self.requests)}", usage=USAGE, finish_reason=finish_reason),
            name=name,
        )
        self.parameters = parameters or {}


class Desk:
    """A gate with a cache, and what it tells."""

    def __init__(self, model: Any, cache: ReplyCache | None = None, *policies: Policy, **limits: Any) -> None:
        bounds = Limits(**limits)
        self.ledger = Ledger(bounds)
        self.events: list[TraceEvent] = []
        self.recorder = Recorder([self.events.append])
        self.gate = Gate(
            root=model,
            sub=model,
            limits=bounds,
            ledger=self.ledger,
            recorder=self.recorder,
            policies=PolicyChain(policies, record=self.recorder.policy),
            prices={"model:m": PRICE},
            cache=TreeCache(cache or ReplyCache(), max_reply_bytes=bounds.max_reply_bytes),
        )

    async def ask(self, prompt: str = "What?", data: str | None = None) -> str | SubCallFailure:
        return await self.gate.handle(Asked(prompt, data))


# --- what a hit is ---


async def test_what_is_asked_again_costs_nothing_and_is_marked() -> None:
    model = Model()
    desk = Desk(model, max_sub_calls=1)
    for _ in range(3):
        assert await desk.ask("What?", "data") == "reply 1"
    assert len(model.requests) == 1
    ledger = desk.ledger
    assert (ledger.sub_calls, ledger.spent_tokens, ledger.spent_usd) == (1, 100, Decimal("0.0001"))
    assert (ledger.sent_bytes, ledger.refusals) == (sum(m.size_bytes for m in model.requests[0].messages), 0)
    assert ledger.usage(turns=0, wall_s=0).cache_hits == 2
    calls = [event.facts for event in desk.events if event.kind == "sub_call"]
    assert [call["cached"] for call in calls] == [False, True, True]
    assert calls[1]["usage"] == {**calls[1]["usage"], "input_tokens": 0, "output_tokens": 0}
    assert [call.cached for call in desk.recorder.outside_calls] == [False, True, True]
    assert [reply.sha256 for reply in desk.recorder.sub_replies] == [desk.recorder.sub_replies[0].sha256] * 3
    assert await desk.ask("Who?") == SubCallFailure("LimitExceeded", "1 of 1 sub-calls used")


async def test_only_the_same_question_about_the_same_data_is_a_hit() -> None:
    model = Model()
    desk = Desk(model)
    asked = [("a", None), ("a", ""), ("a", "d"), ("b", "d"), ("a", "d "), ("ad", None)]
    assert [await desk.ask(*one) for one in asked] == [f"reply {number}" for number in range(1, 7)]
    assert [await desk.ask(*one) for one in asked] == [f"reply {number}" for number in range(1, 7)]
    assert len(model.requests) == 6


def test_no_data_can_pass_for_a_question() -> None:
    """The nonce is left out of the key, but what stood before and behind it is not put together."""

    def key(prompt: str, data: str, nonce: str) -> bytes:
        message = Message(role="user", content=sub_message(prompt, data, nonce=nonce))
        return key_of(Model(), [message], nonce)

    assert key("x", "a", "0" * 16) == key("x", "a", "1" * 16)
    for mark in ("[data ]", "[data", "[data 0000000000000000]"):
        assert key("x", f"a\n{mark}\n\nq", "1" * 16) != key(f"q\n{mark}\n\nx", "a", "1" * 16)


async def test_another_model_or_parameter_is_another_question() -> None:
    cache = ReplyCache()
    models = [Model(), Model("model:n"), Model(parameters={"seed": 1}), Model(parameters={"seed": 2})]
    for model in models:
        assert await Desk(model, cache).ask() == "reply 1"
        assert len(model.requests) == 1
    again = Model(parameters={"seed": 2})
    assert await Desk(again, cache).ask() == "reply 1"
    assert again.requests == []


async def test_models_of_a_callers_class_are_told_apart_by_all_that_they_say() -> None:
    class Own(LLMInterface):
        def __init__(self, name: str, **said: Any) -> None:
            self._name, self._said = name, said

        def query(self, prompt: str, system_prompt: str | None = None) -> str:
            return self._name

        def get_model_info(self) -> dict[str, Any]:
            return {"provider": "mine", "model": "m"} | self._said

    cache, long = ReplyCache(), "x" * 200
    for name, said in {"a": {"key": "1"}, "b": {"key": "2"}, "c": {"style": long}, "d": {"style": long + "y"}}.items():
        assert await Desk(as_provider(Own(name, **said)), cache).ask() == name
    for name, options in {"e": {"temperature": 0}, "f": {"temperature": 1}}.items():
        assert await Desk(as_provider(Own(name, options=options)), cache).ask() == name


async def test_the_root_is_always_asked() -> None:
    model = Model()
    desk = Desk(model)
    question = [Message(role="user", content="What?")]
    assert [(await desk.gate.ask_root(question)).text for _ in range(2)] == ["reply 1", "reply 2"]


@pytest.mark.parametrize("reason", ["length", "refusal", "other"])
async def test_a_reply_that_was_cut_or_refused_is_not_kept(reason: str) -> None:
    desk = Desk(Model(finish_reason=reason))
    assert [await desk.ask() for _ in range(2)] == ["reply 1", "reply 2"]


async def test_failures_and_empty_replies_are_not_kept() -> None:
    broken = ProviderError("no", provider="model:m", status=400, refused=True)
    desk = Desk(ScriptedProvider([broken, "", "there", "unused"], name="model:m"))
    assert isinstance(await desk.ask(), SubCallFailure)
    assert [await desk.ask() for _ in range(3)] == ["", "there", "there"]


async def test_a_reply_longer_than_this_run_takes_is_asked_for_again() -> None:
    cache = ReplyCache()
    long = ScriptedProvider(lambda _: "x" * 100, name="model:m")
    assert await Desk(long, cache).ask() == "x" * 100
    short = Model()
    assert await Desk(short, cache, max_reply_bytes=99).ask() == "reply 1"


async def test_no_hit_when_the_run_is_over() -> None:
    desk = Desk(Model(), max_wall_s=0.2)
    assert await desk.ask() == "reply 1"
    while not desk.ledger.deadline.expired:
        await asyncio.sleep(0.05)
    answer = await desk.ask()
    assert isinstance(answer, SubCallFailure)
    assert answer.kind == "LimitExceeded"


async def test_what_is_given_for_nothing_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell can ask the same without end, and the host keeps a record of each."""
    model = Model()
    monkeypatch.setattr(reply_cache, "MAX_HITS", 3)
    desk = Desk(model)
    for _ in range(4):
        assert await desk.ask() == "reply 1"
    assert await desk.ask() == "reply 2", "this one is paid"
    monkeypatch.setattr(reply_cache, "MAX_HITS", 1000)
    monkeypatch.setattr(reply_cache, "MAX_HIT_BYTES", 4000)
    desk = Desk(model, max_sub_calls=2)
    answers = [await desk.ask("x" * 1000) for _ in range(10)]
    assert answers[:5] == ["reply 3"] * 4 + ["reply 4"], "paid, three for nothing, paid"
    assert all(isinstance(answer, SubCallFailure) for answer in answers[5:])
    monkeypatch.setattr(reply_cache, "MAX_HIT_BYTES", 10_000)
    desk = Desk(model, max_sub_calls=2)
    answers = [await desk.ask("\N{GRINNING FACE}" + "x" * 2000) for _ in range(10)]
    assert answers[:4] == ["reply 5"] * 3 + ["reply 6"], "one such character makes all of them four bytes"


# --- policies ---


class Watch(Policy):
    """Refuses, or redacts, what holds a word."""

    def __init__(self, *, request: str = "", reply: str = "", redact: bool = False) -> None:
        self._words = {"request": request, "reply": reply}
        self._redact = redact
        self.seen: list[str] = []

    def _decide(self, kind: str, text: str) -> Decision:
        self.seen.append(f"{kind}: {text}")
        word = self._words[kind]
        return Refuse("no") if word and word in text else Allow()

    def on_request(self, request: OutgoingRequest) -> Decision:
        texts = tuple(message.content for message in request.messages)
        if self._redact:
            return Redact(text=tuple(text.replace("secret", "[...]") for text in texts), count=1, reason="word")
        return self._decide("request", texts[-1])

    def on_reply(self, reply: IncomingReply) -> Decision:
        return self._decide("reply", reply.text)


async def test_a_policy_is_asked_about_a_hit_as_about_any_other() -> None:
    cache, model = ReplyCache(), Model()
    assert await Desk(model, cache).ask("a bad word") == "reply 1"
    watch = Watch()
    assert await Desk(model, cache, watch).ask("a bad word") == "reply 1"
    assert watch.seen == ["request: a bad word", "reply: reply 1"]
    for strict in (Watch(request="bad"), Watch(reply="reply")):
        desk = Desk(model, cache, strict)
        answer = await desk.ask("a bad word")
        assert isinstance(answer, SubCallFailure)
        assert answer.kind == "PolicyRefused"
        assert desk.events[-1].kind == "refusal"
    assert len(model.requests) == 1


async def test_what_a_policy_redacts_is_part_of_the_question() -> None:
    cache, model = ReplyCache(), Model()
    assert await Desk(model, cache, Watch(redact=True)).ask("the secret") == "reply 1"
    assert await Desk(model, cache).ask("the secret") == "reply 2", "nobody was sent this before"
    assert await Desk(model, cache, Watch(redact=True)).ask("the secret") == "reply 1"


async def test_a_reply_that_a_policy_refused_is_refused_again_and_not_paid_again() -> None:
    cache, model = ReplyCache(), Model()
    for _ in range(2):
        assert isinstance(await Desk(model, cache, Watch(reply="reply")).ask(), SubCallFailure)
    assert len(model.requests) == 1


# --- in memory and on disk ---


@pytest.fixture(params=["memory", "disk"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "cache"


def test_the_least_used_go_first_and_the_size_stays_bounded(room: Path | None) -> None:
    cache = ReplyCache(room, max_bytes=1 << 20)
    for number in range(64):
        cache.put(b"%d" % number, f"{number}" + "x" * 30_000)
        assert cache.get(b"0") is not None, "it is used all the time"
    assert cache.get(b"63") is not None
    assert cache.get(b"1") is None
    kept = [number for number in range(64) if cache.get(b"%d" % number) is not None]
    assert 10 <= len(kept) <= 34
    cache.put(b"large", "x" * (1 << 20))
    assert cache.get(b"large") is None
    if room is not None:
        assert sum(file.stat().st_size for file in room.iterdir()) < 8 << 20


def test_any_text_comes_back_as_it_was(room: Path | None) -> None:
    cache = ReplyCache(room)
    for text in ("\ud800 half of a pair", "\x00", "\U0001f600" * 1000):
        cache.put(b"k", text)
        assert cache.get(b"k") == text


async def test_a_directory_serves_the_next_process_and_others_at_once(tmp_path: Path) -> None:
    model = Model()
    first, second = ReplyCache(tmp_path / "new" / "cache"), ReplyCache(tmp_path / "new" / "cache")
    assert await Desk(model, first).ask() == "reply 1"
    assert await Desk(model, second).ask() == "reply 1"
    del first, second
    assert await Desk(model, ReplyCache(tmp_path / "new" / "cache")).ask() == "reply 1"
    assert len(model.requests) == 1


def test_on_disk_it_is_its_owners_alone(tmp_path: Path) -> None:
    ReplyCache(tmp_path / "cache").put(b"k", "text")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "cache").iterdir()}
    assert set(modes.values()) == {"0o600"}
    assert oct((tmp_path / "cache").stat().st_mode & 0o777) == "0o700"
    for mode in (0o750, 0o704, 0o777):
        os.chmod(tmp_path / "cache", mode)
        with pytest.raises(ConfigError, match="is open to others than you"):
            ReplyCache(tmp_path / "cache")


def test_what_is_found_on_disk_is_taken_for_text_alone(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "cache")
    cache.put(b"k", "text")
    base = sqlite3.connect(tmp_path / "cache" / reply_cache._FILE, isolation_level=None)
    for planted in (b"\xff\xfe", 5, "text as text", 1.5):
        base.execute("UPDATE replies SET raw = ?", (planted,))
        assert cache.get(b"k") is None
    base.execute("DROP TABLE replies")
    base.close()
    assert cache.get(b"k") is None
    cache.put(b"k", "text")


def test_a_file_that_is_no_cache_is_a_config_error(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    (cache / reply_cache._FILE).write_bytes(b"no base of data" * 1000)
    with pytest.raises(ConfigError, match="file is not a database"):
        ReplyCache(cache)
    (cache / reply_cache._FILE).unlink()
    (cache / reply_cache._FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="can't be used"):
        ReplyCache(cache)
    assert not (tmp_path / "elsewhere").exists()


# --- what `RLM` takes ---


def test_rlm_takes_memory_a_directory_or_a_cache(tmp_path: Path) -> None:
    own = ReplyCache()
    assert RLM(Model()).settings.cache is None
    assert RLM(Model(), cache=own).settings.cache is own
    assert isinstance(RLM(Model(), cache="memory").settings.cache, ReplyCache)
    assert isinstance(RLM(Model(), cache=tmp_path / "cache").settings.cache, ReplyCache)
    assert (tmp_path / "cache").is_dir()
    wrong: Any
    for wrong in (5, "", True, {}):
        with pytest.raises(ConfigError, match="is neither 'memory', nor a directory"):
            RLM(Model(), cache=wrong)
    with pytest.raises(ConfigError, match="max_bytes"):
        ReplyCache(max_bytes=10)
