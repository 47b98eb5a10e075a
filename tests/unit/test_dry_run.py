"""`airlock ask --dry-run`: what would be sent first and what the run could cost, from names and limits alone."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, UNLIMITED, ConfigError, ContextError, Limits, PolicyRefused, SecretsRedaction
from orchestrator.chunking import estimate_tokens
from orchestrator.cli.dry_run import dry_run
from orchestrator.cli.main import main
from orchestrator.limits import Usage
from orchestrator.policies.limits import MaxPrompt
from orchestrator.preview import most_cost, preview
from orchestrator.providers.base import Message
from orchestrator.providers.prices import Price, parse_price
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.spent import usage_line
from orchestrator.tokens import estimate

VARIABLES = ("AIRLOCK_MODEL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A document, no key and no engine."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.txt").write_text("a report of 26 characters\n")
    return tmp_path


DRY = ("ask", "report.txt", "Who signed it?", "--dry-run")


def test_it_shows_what_would_be_sent_and_starts_nothing(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DRY, "--model", "openai:gpt-5.4-mini", "--max-cost", "2.50"]) == 0
    shown, said = capsys.readouterr()
    assert said == ""
    assert shown.startswith("--- system: ")
    assert "`context` is a string of 26 characters" in shown
    assert "a report of" not in shown, "the document is not sent"
    assert "$2.50, 900 s.\n\nThe question:\nWho signed it?\n---\n" in shown
    assert "sent to openai:gpt-5.4-mini first; sub-questions to openai:gpt-5.4-mini" in shown
    assert shown.endswith("Most that the run can cost: $2.50, by --max-cost: the limit in money.\n")
    assert [file.name for file in desk.iterdir()] == ["report.txt"], "no trace, no store"


def test_as_json_it_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    models = ("--model", "openai:gpt-5.4-mini", "--sub-model", "anthropic:claude-haiku-5-5", "--max-tokens", "1000000")
    assert main([*DRY, "--json", *models]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dry_run"], told["root"], told["sub"]) == (True, models[1], models[3])
    assert [message["role"] for message in told["messages"]] == ["system", "user"]
    size = sum(message["size_bytes"] for message in told["messages"])
    assert told["most_tokens"] == size + 2 * 16 + 16_384
    assert told["estimate"]["tokens"] < size
    assert told["most_usd"] > 0
    assert told["run"]["limit"] == "max_tokens"
    assert told["run"]["usd"] == 6.75, "a million tokens at 4.50 a million, times 1.5 for long calls"


def test_a_script_is_named_and_not_executed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "model.py").write_text("raise SystemExit('was executed')")
    assert main([*DRY, "--model", "scripted:model.py"]) == 0
    assert "not known: scripted:model.py has no price (--price IN/OUT" in capsys.readouterr().out
    assert main([*DRY, "--model", "scripted:model.py", "--price", "0/0", "--max-tokens", "unlimited"]) == 0
    assert "can cost: $0.00: nothing: the models cost nothing" in capsys.readouterr().out


def test_the_policies_are_asked(capsys: pytest.CaptureFixture[str]) -> None:
    question = "Is sk-proj-" + "a1B2" * 12 + " in it?"
    assert main(["ask", "report.txt", question, "--dry-run", "--redact-prompts", "--model", "openai:m"]) == 0
    assert "a1B2a1B2" not in capsys.readouterr().out
    model = ScriptedProvider([], name="openai:m")
    with pytest.raises(PolicyRefused):
        preview(RLM(model, policies=[SecretsRedaction(prompts=True), MaxPrompt(10)]), "Who?", "text")
    with pytest.raises(ConfigError, match="a policy would refuse the first request: MaxPrompt: a request of"):
        dry_run(RLM(model, policies=[MaxPrompt(10)]), "Who?", "text", as_json=False)


def test_a_context_that_can_not_be_used_is_refused_here_too(desk: Path) -> None:
    with pytest.raises(ContextError):
        preview(RLM(ScriptedProvider([])), "Who?", object())
    (desk / "report.txt").write_text("")
    assert main([*DRY, "--model", "openai:m"]) == 2


# --- the bound ---


def usd(text: str) -> Decimal:
    return Decimal(text)


@pytest.mark.parametrize(
    ("limits", "prices", "bound"),
    [
        ({}, ("1/5",), ("10", "max_tokens")),
        ({}, ("1/5", "7/2"), ("14", "max_tokens")),
        ({"max_cost_usd": 3}, ("1/5",), ("3", "max_cost_usd")),
        ({"max_cost_usd": 30}, ("1/5",), ("10", "max_tokens")),
        ({"max_cost_usd": 30, "max_tokens": UNLIMITED}, ("1/5",), ("30", "max_cost_usd")),
        ({"max_cost_usd": 0}, ("1/5",), ("0", "max_cost_usd")),
        ({"max_tokens": UNLIMITED}, ("0/0", "0/0"), ("0", None)),
        ({"max_tokens": UNLIMITED}, ("1/5",), (None, None)),
        ({}, ("1/5", None), (None, None)),
    ],
)
def test_the_runs_bound_is_the_least_of_money_and_tokens_at_the_dearest_rate(
    limits: dict[str, Any], prices: tuple[str | None, ...], bound: tuple[str | None, str | None]
) -> None:
    named: dict[str, Price | None] = {
        f"openai:{number}": None if text is None else parse_price(text) for number, text in enumerate(prices)
    }
    most = most_cost(Limits(**limits), named)
    assert (most.usd, most.limit) == (None if bound[0] is None else usd(bound[0]), bound[1])
    assert most.why.startswith("unbounded" if limits else "not known") or most.usd is not None


# --- estimates ---


def test_an_estimate_without_tiktoken_is_four_characters_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [Message(role="system", content="x" * 41), Message(role="user", content="y")]
    guess = estimate("anthropic:claude-opus-5-5", messages)
    assert (guess.tokens, guess.by) == (8 + 11 + 1, "4 characters a token")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "/nonexistent")
    assert estimate("openai:gpt-5.5", messages) == guess, "no vocabulary on the disk"
    assert estimate("openai:gpt-99", messages) == guess
    assert estimate_tokens("x" * 41) == 11


def test_a_damaged_vocabulary_is_neither_used_nor_fetched_anew(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(desk))
    damaged = desk / "fb374d419588a4632f3f557e76b4b70aebbca790"
    damaged.write_bytes(b"not the file")
    assert estimate("openai:gpt-5.5", [Message(role="user", content="y")]).by == "4 characters a token"
    assert damaged.read_bytes() == b"not the file"


# --- the end line ---


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (Usage(cost_usd=usd("0.0421")), ", $0.0421, "),
        (Usage(cost_usd=usd("12.345"), estimated_tokens=5), ", about $12.34, "),
        (Usage(cost_usd=usd("0"), estimated_tokens=5), ", $0.00, "),
        (Usage(cost_usd=None), ", cost not known, "),
        (Usage(cache_hits=2), "0 sub-calls, 2 from the cache, 0 tokens"),
    ],
)
def test_the_end_line_says_what_it_used(usage: Usage, said: str) -> None:
    assert said in usage_line(usage)
