"""Sub-models by name: which one a cell gets, what an unknown name is, and what is said of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.models import MAX_MODELS, models_note
from orchestrator.preview import preview
from orchestrator.providers.base import LLMInterface, ModelReply, ModelRequest, TokenUsage
from orchestrator.providers.openai import OpenAIInterface
from orchestrator.providers.parameters import parameters_of
from orchestrator.providers.prices import Price
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.recorder import Recorder
from orchestrator.rlm import RLM
from orchestrator.trace import TraceEvent
from sandbox.messages import Asked, SubCallFailure

USAGE = TokenUsage(input_tokens=100, output_tokens=0)


def says(word: str, name: str = "") -> ScriptedProvider:
    return ScriptedProvider(lambda _: ModelReply(text=word, usage=USAGE), name=name or f"model:{word}")


def gate(named: dict[str, Any], **settings: Any) -> tuple[Gate, Ledger, list[TraceEvent]]:
    limits = Limits(max_tokens=10**9)
    ledger, events = Ledger(limits), list[TraceEvent]()
    recorder = Recorder([events.append])
    made = Gate(
        root=says("root"), sub=says("sub"), sub_llms=named, limits=limits, ledger=ledger, recorder=recorder, **settings
    )
    return made, ledger, events


async def test_a_name_picks_its_model_and_none_the_default() -> None:
    door, _, events = gate({"fast": says("fast"), "strong": says("strong")})
    asked = [Asked("?"), Asked("?", None, "fast"), Asked("?", "data", "strong")]
    assert [await door.handle(one) for one in asked] == ["sub", "fast", "strong"]
    calls = [event.facts for event in events if event.kind == "sub_call"]
    assert [(call["model"], call["name"]) for call in calls] == [
        ("model:sub", None),
        ("model:fast", "fast"),
        ("model:strong", "strong"),
    ]


async def test_each_model_is_charged_at_its_own_price() -> None:
    prices = {"model:fast": Price(input_usd=Decimal(1), output_usd=Decimal(0))}
    prices["model:strong"] = Price(input_usd=Decimal(20), output_usd=Decimal(0))
    door, ledger, _ = gate({"fast": says("fast"), "strong": says("strong")}, prices=prices)
    await door.handle(Asked("?", None, "fast"))
    assert ledger.spent_usd == Decimal("0.0001")
    await door.handle(Asked("?", None, "strong"))
    assert ledger.spent_usd == Decimal("0.0021")


@pytest.mark.parametrize("name", ["model:fast", "Fast", "root", "", "f" * 64, "\u202efast\n"])
async def test_an_unknown_name_is_refused_and_the_known_ones_are_named(name: str) -> None:
    """The name of a provider is none of those that the caller gave either."""
    fast = says("fast")
    door, ledger, events = gate({"fast": fast, "strong": fast})
    answer = await door.handle(Asked("?", None, name))
    assert answer == SubCallFailure(
        "UnknownModel", f"there is no model {name!a}; model= is one of 'fast', 'strong', or is left out"
    )
    assert (fast.requests, ledger.sub_calls, ledger.refusals) == ([], 0, 1)
    (refusal,) = events
    assert (refusal.kind, refusal.facts["model"], refusal.facts["name"]) == ("refusal", "", None)


async def test_a_run_with_one_sub_model_says_so() -> None:
    door, _, _ = gate({})
    answer = await door.handle(Asked("?", None, "fast"))
    assert answer == SubCallFailure(
        "UnknownModel", "there is no model 'fast'; this run has one sub-model: leave model= out"
    )


async def test_a_run_without_sub_calls_has_none_by_name_either() -> None:
    fast = says("fast")
    limits = Limits(max_depth=0)
    door = Gate(root=None, sub=fast, sub_llms={"fast": fast}, limits=limits, ledger=Ledger(limits), recorder=Recorder())
    assert await door.handle(Asked("?", None, "fast")) == SubCallFailure("LimitExceeded", "this run has no sub-calls")
    settings = RLM(says("root"), prompt_mode="no_subcalls", sub_llms={"fast": fast}).settings
    assert (settings.sub, settings.sub_llms) == (None, {})


# --- what `RLM` takes ---


BAD: Any = [
    ({"1st": says("x")}, "'1st' is no name of a model"),
    ({"": says("x")}, "'' is no name of a model"),
    ({"a b": says("x")}, "'a b' is no name"),
    ({"a" * 65: says("x")}, "is no name"),
    ({"fast\n": says("x")}, "is no name"),
    ({5: says("x")}, "5 is no name"),
    ({"fast": "openai:gpt"}, r"sub_llms\['fast'\]: a str is not a model"),
    ([says("x")], "sub_llms: a list"),
    ({f"m{number}": says("x") for number in range(MAX_MODELS + 1)}, "17 models; at most 16"),
]


@pytest.mark.parametrize(("sub_llms", "words"), BAD)
def test_what_is_no_model_by_name_is_a_config_error(sub_llms: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RLM(says("root"), sub_llms=sub_llms)


@pytest.mark.parametrize("where", ["sub_llms", "fallback"])
def test_under_a_limit_in_money_each_model_needs_a_price(where: str) -> None:
    prices = {"model:root": Price(input_usd=Decimal(1), output_usd=Decimal(1))}
    more: Any = {"sub_llms": {"fast": says("fast")}} if where == "sub_llms" else {"fallback": [says("fast")]}
    limits = Limits(max_cost_usd=1)
    with pytest.raises(ConfigError, match="what model:fast costs is not known"):
        RLM(says("root"), limits=limits, prices=prices, **more)
    prices["model:fast"] = prices["model:root"]
    settings = RLM(says("root"), limits=limits, prices=prices, **more).settings
    assert [model.name for model in settings.models] == ["model:root", "model:fast"]


def test_the_dearest_of_all_models_bounds_what_a_run_can_cost() -> None:
    def price(rate: int) -> Price:
        return Price(input_usd=Decimal(rate), output_usd=Decimal(rate))

    prices = {"model:root": price(1), "model:strong": price(7), "model:other": price(50)}
    rlm = RLM(says("root"), sub_llms={"strong": says("strong")}, prices=prices, limits=Limits(max_tokens=10**6))
    assert preview(rlm, "?", "text").run.usd == Decimal(7)
    rlm = RLM(says("root"), fallback=[says("other")], prices=prices, limits=Limits(max_tokens=10**6))
    assert preview(rlm, "?", "text").run.usd == Decimal(50)


def test_the_root_is_told_the_names_and_nothing_else() -> None:
    models = {"fast": says("x", "openai:secret-name"), "strong": says("y", "anthropic:other-name")}
    system, _ = preview(RLM(says("root"), sub_llms=models), "?", "text").messages
    assert models_note(["fast", "strong"]) in system.content
    assert '"fast", "strong"' in system.content
    assert "-name" not in system.content
    plain, _ = preview(RLM(says("root")), "?", "text").messages
    assert "Models for sub-questions" not in plain.content
    own, _ = preview(RLM(says("root"), sub_llms=models, system_prompt="Mine."), "?", "text").messages
    assert own.content == "Mine."


# --- parameters ---


class Own(LLMInterface):
    """A user's own blocking model."""

    def query(self, prompt: str, system_prompt: str | None = None) -> str:
        return prompt

    def get_model_info(self) -> dict[str, Any]:
        return {"provider": "own", "model": "m", "seed": 7, "client": object(), "heat": float("nan"), "note": "x" * 999}


def test_the_start_of_a_run_says_how_each_model_is_asked() -> None:
    from orchestrator.announce import start_facts

    root = OpenAIInterface(
        "m",
        api_key="the-key",
        base_url="http://me:secret@localhost:1/v1?token=hidden",
        temperature=0.5,
        seed=7,
        top_p=1,
    )
    settings = RLM(root, says("sub"), sub_llms={"own": Own()}, fallback=[says("spare")]).settings
    facts = start_facts(settings, context_info="", documents=(), policy_summaries=())["models"]
    assert facts == [
        {
            "role": "root",
            "name": None,
            "model": "openai:m",
            "parameters": {
                "max_tokens": 16384,
                "temperature": 0.5,
                "top_p": 1,
                "seed": 7,
                "server": "http://localhost:1/v1",
            },
        },
        {"role": "sub", "name": None, "model": "model:sub", "parameters": {}},
        {"role": "sub", "name": "own", "model": "own:m", "parameters": {"seed": 7, "note": "x" * 99 + "\u2026"}},
        {"role": "fallback", "name": None, "model": "model:spare", "parameters": {}},
    ]


class Odd:
    """A provider of a user's, whose parameters are none."""

    name = "odd:model"
    max_output_tokens = 1

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    async def complete(self, request: ModelRequest) -> ModelReply:
        raise AssertionError


@pytest.mark.parametrize("parameters", [[], {"a": object()}, {"a": float("inf")}, {"a": "x" * 17_000}, None])
def test_parameters_that_are_no_json_are_a_config_error(parameters: Any) -> None:
    with pytest.raises(ConfigError, match="odd:model: parameters: no dict of JSON values"):
        RLM(Odd(parameters))
    assert parameters_of(Odd({"a": [1, {"b": None}]})) == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    "wrong",
    [{"seed": 1.5}, {"seed": 2**63}, {"seed": True}, {"top_p": 0}, {"top_p": 1.1}, {"reasoning_effort": "very much"}],
)
def test_a_sampling_argument_out_of_range_is_a_config_error(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"OpenAIInterface\.{name}: "):
        OpenAIInterface("m", api_key="k", **wrong)
