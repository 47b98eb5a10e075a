"""Where a model is out others step in, each attempt with its own permit, and the dead one is left alone for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.errors import ConfigError, LimitExceeded, PolicyRefused, ProviderError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.outages import Outages
from orchestrator.policies.chain import PolicyChain
from orchestrator.policies.limits import ModelAllowList
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.recorder import Recorder
from orchestrator.retry import MAX_ATTEMPTS
from orchestrator.rlm import RLM
from orchestrator.trace import TraceEvent
from sandbox.messages import Asked, SubCallFailure

USAGE = TokenUsage(input_tokens=7, output_tokens=3)
QUESTION = Message(role="user", content="What?")


def says(word: str, **settings: Any) -> ScriptedProvider:
    return ScriptedProvider(lambda _: ModelReply(text=word, usage=USAGE), name=f"model:{word}", **settings)


def dead(**error: Any) -> ScriptedProvider:
    """A model that is out: not reached, where no status is given."""

    def fail(_: ModelRequest) -> str:
        raise ProviderError("the server's words", provider="model:dead", **error)

    return ScriptedProvider(fail, name="model:dead")


REFUSED = {"retryable": True, "retry_after_s": 0, "refused": True}
"""An outage that is retried at once and costs nothing."""


class Desk:
    """A gate and what it tells."""

    def __init__(
        self, model: Any, *fallback: Any, outages: Outages | None = None, policies: Any = (), **limits: Any
    ) -> None:
        self.limits = Limits(**limits)
        self.ledger = Ledger(self.limits)
        self.events: list[TraceEvent] = []
        self.gate = Gate(
            root=model,
            sub=model,
            fallback=fallback,
            limits=self.limits,
            ledger=self.ledger,
            recorder=Recorder([self.events.append]),
            outages=outages,
            policies=PolicyChain(policies),
        )

    async def sub(self, prompt: str = "What?") -> str | SubCallFailure:
        return await self.gate.handle(Asked(prompt))

    async def root(self) -> str:
        return (await self.gate.ask_root([QUESTION])).text

    def facts(self, kind: str) -> list[dict[str, Any]]:
        return [event.facts for event in self.events if event.kind == kind]


# --- who steps in, and what is recorded ---


@pytest.mark.parametrize("status", [None, 401, 402, 404, 429, 500, 503, 529])
async def test_another_model_steps_in_for_one_that_is_out(status: int | None) -> None:
    retryable = status is None or status == 429 or status >= 500
    out, there = dead(status=status, retryable=retryable, retry_after_s=0, refused=True), says("there")
    desk = Desk(out, there)
    assert await desk.sub() == "there"
    attempts = MAX_ATTEMPTS if retryable else 1
    assert len(out.requests) == attempts, "its own retries come first"
    assert (desk.ledger.sub_calls, desk.ledger.spent_tokens) == (attempts + 1, 10)
    (fallback,), (call,) = desk.facts("fallback"), desk.facts("sub_call")
    assert fallback == {
        "turn": 0,
        "from": "model:dead",
        "to": "model:there",
        "role": "sub",
        "depth": 1,
        "status": status,
    }
    assert (call["model"], call["error_kind"]) == ("model:there", None)
    assert "server's words" not in str(desk.events)


async def test_the_roots_model_has_the_same_fallback() -> None:
    desk = Desk(dead(**REFUSED), says("there"))
    assert await desk.root() == "there"
    assert (desk.ledger.root_calls, desk.ledger.sub_calls) == (MAX_ATTEMPTS + 1, 0)
    assert desk.facts("fallback")[0]["role"] == "root"


async def test_they_step_in_one_after_the_other_and_the_last_ones_error_is_the_calls() -> None:
    first, second, third = dead(**REFUSED), dead(**REFUSED), dead(status=503, refused=True)
    desk = Desk(first, second, third)
    with pytest.raises(ProviderError) as caught:
        await desk.root()
    assert caught.value.status == 503
    assert [len(model.requests) for model in (first, second, third)] == [MAX_ATTEMPTS, MAX_ATTEMPTS, 1]
    assert len(desk.facts("fallback")) == 2
    assert await Desk(first, second, third, says("there")).sub() == "there"


@pytest.mark.parametrize("status", [400, 403, 413, 422])
async def test_one_request_that_is_refused_is_no_outage(status: int) -> None:
    """A document that made them could else choose who reads it."""
    out, there = dead(status=status, refused=True), says("there")
    desk = Desk(out, there)
    assert await desk.sub() == SubCallFailure("ProviderError", f"the sub-model gave no answer (HTTP status {status})")
    assert (there.requests, desk.facts("fallback")) == ([], [])
    with pytest.raises(ProviderError):
        await desk.root()


async def test_a_reply_that_is_too_long_is_no_outage() -> None:
    there = says("there")
    desk = Desk(says("x" * 50), there, max_reply_bytes=49)
    assert isinstance(await desk.sub(), SubCallFailure)

    class Talker:
        name, max_output_tokens = "model:talker", 10

        async def complete(self, _: ModelRequest) -> ModelReply:
            return ModelReply(text="x" * 50, usage=USAGE)

    desk = Desk(Talker(), there, max_reply_bytes=49)
    assert isinstance(await desk.sub(), SubCallFailure)
    assert there.requests == []


async def test_a_reply_that_a_model_would_not_give_is_a_reply() -> None:
    refusal = ScriptedProvider([ModelReply(text="I can't.", usage=USAGE, finish_reason="refusal")])
    there = says("there")
    assert await Desk(refusal, there).sub() == "I can't."
    assert there.requests == []


async def test_a_model_that_does_not_answer_leaves_the_next_one_the_time_of_a_call() -> None:
    slow, there = says("late", latency_s=5), says("there")
    desk = Desk(slow, there, max_call_s=0.1)
    assert await desk.sub() == "there"
    assert there.requests[0].timeout_s > 0.05
    assert desk.ledger.estimated_tokens > 0, "nobody knows what the first one billed"


async def test_nobody_steps_in_when_the_runs_time_is_over() -> None:
    there = says("there")
    desk = Desk(says("late", latency_s=5), there, max_wall_s=0.1)
    with pytest.raises(ProviderError, match="no reply within"):
        await desk.root()
    assert there.requests == []


async def test_each_attempt_needs_its_permit() -> None:
    out, there = dead(**REFUSED), says("there")
    desk = Desk(out, there, max_sub_calls=MAX_ATTEMPTS)
    assert await desk.sub() == SubCallFailure("LimitExceeded", f"{MAX_ATTEMPTS} of {MAX_ATTEMPTS} sub-calls used")
    assert (len(out.requests), there.requests) == (MAX_ATTEMPTS, [])
    desk = Desk(dead(**REFUSED), says("there", max_output_tokens=10**6), max_tokens=100_000)
    with pytest.raises(LimitExceeded, match="the call may need 1,000,"):
        await desk.root()


async def test_policies_are_asked_about_whoever_steps_in() -> None:
    there = says("there")
    desk = Desk(dead(**REFUSED), there, policies=[ModelAllowList(["model:dead"])])
    with pytest.raises(PolicyRefused):
        await desk.root()
    assert there.requests == []


# --- a model that was out is left alone ---


async def test_a_thousand_calls_do_not_each_wait_for_a_dead_server() -> None:
    out, there = dead(**REFUSED), says("there")
    desk = Desk(out, there, max_sub_calls=2000, max_tokens=10**9, max_concurrency=4)
    answers = await asyncio.gather(*(desk.sub(f"{n}") for n in range(1000)))
    assert set(answers) == {"there"}
    assert len(out.requests) == 4 * MAX_ATTEMPTS, "those that were in flight when it went"
    assert len(desk.facts("fallback")) == 4


async def test_after_the_pause_one_call_tries_it_and_the_others_stay_away() -> None:
    now_there = asyncio.Event()
    back = says("back")

    async def reply(_: ModelRequest) -> ModelReply:
        if len(model.requests) == 1:
            raise ProviderError("gone", provider="model:back", status=503, refused=True)
        await now_there.wait()
        return ModelReply(text="back", usage=USAGE)

    model = ScriptedProvider(reply, name=back.name)
    outages = Outages(pause_s=0.05)
    desk = Desk(model, says("there"), outages=outages)
    assert await desk.sub() == "there"
    assert await desk.sub() == "there"
    while model not in outages.up((model, back)):  # the pause
        await asyncio.sleep(0.01)
    outages._pause_s = 3600
    trial = asyncio.create_task(desk.sub())
    while len(model.requests) < 2:
        await asyncio.sleep(0)
    assert await desk.sub() == "there", "the trial has not ended"
    now_there.set()
    assert await trial == "back"
    assert await desk.sub() == "back"


async def test_where_all_are_out_all_are_asked() -> None:
    first, second = dead(**REFUSED), dead(**REFUSED)
    desk = Desk(first, second)
    for _ in range(2):
        assert isinstance(await desk.sub(), SubCallFailure)
    assert (len(first.requests), len(second.requests)) == (2 * MAX_ATTEMPTS, 2 * MAX_ATTEMPTS)
    alone = dead(**REFUSED)
    desk = Desk(alone)
    for _ in range(2):
        assert isinstance(await desk.sub(), SubCallFailure)
    assert len(alone.requests) == 2 * MAX_ATTEMPTS


async def test_what_the_tree_knows_of_outages_is_known_to_all_its_runs() -> None:
    out, outages = dead(**REFUSED), Outages()
    for _ in range(2):
        assert await Desk(out, says("there"), outages=outages).root() == "there"
    assert len(out.requests) == MAX_ATTEMPTS


# --- what `RLM` takes ---


@pytest.mark.parametrize(
    ("fallback", "words"),
    [
        (says("x"), "fallback: a ScriptedProvider; write fallback="),
        ("openai:m", "fallback: a str"),
        (["openai:m"], r"fallback\[0\]: a str is not a model"),
        ([says("x")] * 17, "17 models; at most 16"),
    ],
)
def test_what_is_no_list_of_models_is_a_config_error(fallback: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RLM(says("root"), fallback=fallback)
