"""What can be known of an interface before its first call: settings, keys, imports."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

import anthropic
import openai
import pytest

from orchestrator.errors import ConfigError
from orchestrator.providers import anthropic as anthropic_module
from orchestrator.providers.anthropic import AnthropicInterface
from orchestrator.providers.base import DEFAULT_MAX_OUTPUT_TOKENS, LLMInterface, Provider
from orchestrator.providers.openai import OpenAIInterface
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.providers.spec import provider_from_spec

KEY = "sk-test-0123456789abcdef"
Interface = type[OpenAIInterface] | type[AnthropicInterface]
both = pytest.mark.parametrize("interface", [OpenAIInterface, AnthropicInterface])


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in ("OPENAI", "ANTHROPIC"):
        monkeypatch.delenv(f"{vendor}_API_KEY", raising=False)
        monkeypatch.delenv(f"{vendor}_BASE_URL", raising=False)


@both
def test_is_a_provider_and_an_llm(interface: Interface) -> None:
    llm = interface("some-model", api_key=KEY)
    assert isinstance(llm, Provider)
    assert isinstance(llm, LLMInterface)
    assert llm.name == f"{interface.vendor}:some-model"
    assert llm.max_output_tokens == DEFAULT_MAX_OUTPUT_TOKENS


@both
def test_a_missing_key_names_the_variable(interface: Interface) -> None:
    with pytest.raises(ConfigError, match=interface.key_variable):
        interface("some-model")
    with pytest.raises(ConfigError, match=interface.key_variable):
        interface("some-model", base_url="https://models.example.com/v1")


@both
def test_the_key_may_come_from_the_environment(interface: Interface, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(interface.key_variable, f"  {KEY}\n")
    interface("some-model")


@both
@pytest.mark.parametrize("host", ["localhost:11434", "127.0.0.1:8080", "127.8.9.1", "[::1]:1234"])
def test_a_server_on_this_machine_needs_no_key(
    interface: Interface, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interface("some-model", base_url=f"http://{host}/v1")
    monkeypatch.setenv(interface.base_url_variable, f"http://{host}/v1")
    interface("some-model")


@both
@pytest.mark.parametrize(
    "host", ["localhost.evil.example", "127.0.0.1.example.com", "10.0.0.1", "user:localhost@example.com"]
)
def test_a_server_elsewhere_needs_one(interface: Interface, host: str) -> None:
    with pytest.raises(ConfigError, match="no key"):
        interface("some-model", base_url=f"http://{host}/v1")


@both
def test_the_key_is_nowhere_to_be_seen(interface: Interface) -> None:
    llm = interface("some-model", api_key=KEY, base_url=f"https://user:{KEY}@example.com")
    assert KEY not in repr(llm) + str(llm) + str(llm.get_model_info()) + llm.name
    with pytest.raises(ConfigError) as caught:
        interface("some-model", api_key=f"{KEY}\nX-Other: header")
    assert KEY not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        interface("some-model", base_url=f"ftp://user:{KEY}@example.com")
    assert KEY not in str(caught.value)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "model"),
    ({"model": None}, "model"),
    ({"max_tokens": 0}, "max_tokens: 0 .*from 1 to"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 1e3}, "max_tokens"),
    ({"temperature": 3}, "temperature: 3 .*from 0 to 2"),
    ({"temperature": "hot"}, "temperature"),
    ({"base_url": "localhost:11434"}, "base_url"),
    ({"base_url": "http://"}, "base_url"),
    ({"client": object()}, "client: a object is not an async client"),
]


@both
@pytest.mark.parametrize(("settings", "text"), WRONG)
def test_wrong_settings_name_field_and_value(interface: Interface, settings: dict[str, Any], text: str) -> None:
    if "client" not in settings:
        settings = {"api_key": KEY, **settings}
    with pytest.raises(ConfigError, match=text):
        interface(**{"model": "some-model", **settings})


def test_a_blocking_client_is_refused() -> None:
    with pytest.raises(ConfigError, match="OpenAI is not an async client"):
        OpenAIInterface("m", client=openai.OpenAI(api_key=KEY))
    with pytest.raises(ConfigError, match="Anthropic is not an async client"):
        AnthropicInterface("m", client=anthropic.Anthropic(api_key=KEY))


def test_a_client_and_its_settings_are_not_given_twice() -> None:
    with pytest.raises(ConfigError, match="belong to the client"):
        OpenAIInterface("m", client=openai.AsyncOpenAI(api_key=KEY), base_url="http://localhost")


def test_the_clients_of_the_clouds_are_accepted() -> None:
    azure = openai.AsyncAzureOpenAI(api_key=KEY, azure_endpoint="https://example.com", api_version="2024-10-21")
    bedrock = anthropic.AsyncAnthropicBedrock(aws_region="us-east-1", aws_access_key="a", aws_secret_key=KEY)
    assert KEY not in repr(OpenAIInterface("m", client=azure))
    assert KEY not in repr(AnthropicInterface("m", client=bedrock))


def test_model_info() -> None:
    assert OpenAIInterface("m", api_key=KEY, max_tokens=5, temperature=1).get_model_info() == {
        "provider": "openai",
        "model": "m",
        "max_tokens": 5,
        "temperature": 1.0,
    }


def test_anthropic_drops_the_temperature_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    anthropic_module._warn_of_temperature.cache_clear()
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        llm = AnthropicInterface("m", api_key=KEY, temperature=0.5)
    assert "temperature" not in llm.get_model_info()
    assert [record.getMessage() for record in caplog.records] == ["Anthropic's API takes no temperature; it is dropped"]


@both
def test_making_one_loads_no_sdk(interface: Interface) -> None:
    program = (
        "import sys\n"
        f"from {interface.__module__} import {interface.__name__} as I\n"
        "I('m', api_key='k')\n"
        "print(sorted({'openai', 'anthropic', 'httpx2'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_models_by_name(tmp_path: Any) -> None:
    script = tmp_path / "model.py"
    script.write_text("REPLIES = ['hello']")
    local = "http://localhost:11434/v1"
    assert isinstance(provider_from_spec("openai:qwen3:0.6b", base_url=local), OpenAIInterface)
    assert provider_from_spec("openai:qwen3:0.6b", base_url=local).name == "openai:qwen3:0.6b"
    assert isinstance(provider_from_spec("anthropic:m", api_key=KEY), AnthropicInterface)
    assert isinstance(provider_from_spec(f"scripted:{script}"), ScriptedProvider)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("gpt-5.5", "names no model"),
        ("openai:", "names no model"),
        ("mistral:x", "vendor 'mistral' is unknown"),
        ("", "names"),
    ],
)
def test_a_wrong_name_says_how_to_write_one(spec: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        provider_from_spec(spec)
