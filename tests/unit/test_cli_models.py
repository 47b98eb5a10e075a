"""The models that `airlock ask` is told of: sub-models by name, stand-ins, their addresses and prices."""

from __future__ import annotations

import argparse
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.cli.messages import UsageError
from orchestrator.cli.models import NamedModels, check_allowed, models_from, prices_from
from orchestrator.cli.options import ask_parser
from orchestrator.errors import ConfigError
from orchestrator.providers.base import Provider
from orchestrator.providers.parameters import parameters_of


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    for name in ("AIRLOCK_MODEL", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def options(*words: str) -> argparse.Namespace:
    return ask_parser(argparse.ArgumentParser).parse_args(["--model", "openai:root", *words])


def named(*words: str) -> NamedModels:
    return models_from(options(*words))


def server(model: Provider) -> str | None:
    found: str | None = parameters_of(model).get("server")
    return found


def test_sub_models_by_name_and_stand_ins() -> None:
    words = ["--sub-models", "fast=openai:small", "--sub-models", "strong=anthropic:large@20250101"]
    models = named(*words, "--fallback", "anthropic:spare", "--fallback", "openai:last@https://spare.example/v1")
    assert {name: model.name for name, model in models.sub_llms.items()} == {
        "fast": "openai:small",
        "strong": "anthropic:large@20250101",
    }
    assert [(model.name, server(model)) for model in models.fallback] == [
        ("anthropic:spare", None),
        ("openai:last", "https://spare.example/v1"),
    ]
    assert models.sub is None


def test_their_addresses() -> None:
    local = "http://127.0.0.1:1/v1"
    models = named(
        "--base-url", local, "--sub-models", "a=openai:a", "--sub-models", "b=openai:b@http://localhost:2/v1"
    )
    assert [server(model) for model in models.sub_llms.values()] == [local, "http://localhost:2/v1"]
    models = named("--base-url", local, "--sub-base-url", "http://127.0.0.1:3/v1", "--sub-models", "a=openai:a")
    assert server(models.sub_llms["a"]) == "http://127.0.0.1:3/v1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sub-models", "openai:m"], "--sub-models openai:m: write NAME=openai:MODEL"),
        (["--sub-models", "fast="], "--sub-models fast=: write NAME=openai:MODEL"),
        (["--sub-models", "a b=openai:m"], "--sub-models: 'a b' is no name of a model"),
        (["--sub-models", "a=openai:m", "--sub-models", "a=openai:n"], "the name 'a' is given twice"),
        (["--base-url", "http://localhost/v1", "--sub-models", "a=anthropic:m"], "name the anthropic model's"),
        (["--base-url", "http://localhost/v1", "--fallback", "openai:m"], "name this one's: openai:m@https://"),
        (["--sub-base-url", "http://localhost/v1", "--fallback", "openai:m"], "name this one's"),
        (["--sub-models", "a=scripted:m.py@http://localhost/v1"], "scripted:m.py@http://localhost/v1: a script has no"),
        (["--fallback", "scripted:m.py@http://localhost/v1"], "--fallback scripted:m.py@http://localhost/v1: a script"),
        (["--sub-model", "openai:m@http://localhost/v1"], "the address of its server is given by --sub-base-url"),
    ],
)
def test_what_is_typed_wrong_is_a_usage_error(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        named(*words)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sub-models", "a=nobody:m"], "the vendor 'nobody' is unknown"),
        (["--fallback", "m"], "'m' names no model"),
        (["--fallback", "openai:m@http://"], "--fallback SPEC@URL: not an address"),
    ],
)
def test_what_is_no_model_is_named_by_its_option(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        named(*words)
    assert said in str(caught.value)


def test_a_script_that_steps_in_needs_no_address(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("REPLIES = []")
    models = named("--base-url", "http://localhost/v1", "--fallback", f"scripted:{tmp_path}/m.py")
    assert models.fallback[0].name == f"scripted:{tmp_path}/m.py"


def test_prices_of_all_of_them() -> None:
    words = ["--sub-models", "fast=openai:small", "--fallback", "anthropic:spare", "--price", "1/2"]
    given = options(*words, "--price-of", "openai:small=3/4", "--price-of", "anthropic:spare=5/1/6")
    prices = prices_from(given, models_from(given))
    assert {name: price.output_usd for name, price in prices.items()} == {
        "openai:root": Decimal(2),
        "openai:small": Decimal(4),
        "anthropic:spare": Decimal(6),
    }
    for wrong in ("openai:other=1/2", "openai:small", "=1/2", "fast=1/2"):
        given = options(*words, "--price-of", wrong)
        with pytest.raises(
            ConfigError, match="write MODEL=IN/OUT, of one of openai:root, openai:small, anthropic:spare"
        ):
            prices_from(given, models_from(given))
    given = options(*words, "--price-of", "openai:small=cheap")
    with pytest.raises(ConfigError, match="--price-of openai:small: 'cheap' is no price"):
        prices_from(given, models_from(given))
    given = options(*words, "--price-of", "openai:root=9/9")
    with pytest.raises(ConfigError, match="they have one price"):
        prices_from(given, models_from(given))


@pytest.mark.parametrize("extra", [["--sub-models", "a=openai:small"], ["--fallback", "openai:small"]])
def test_a_model_that_is_not_allowed_is_found_before_the_box_is_up(extra: list[str]) -> None:
    given = options(*extra, "--allow-model", "openai:root")
    with pytest.raises(UsageError, match="the model openai:small is not among them"):
        check_allowed(given, models_from(given))
    given = options(*extra, "--allow-model", "openai:root", "--allow-model", "openai:small")
    check_allowed(given, models_from(given))
