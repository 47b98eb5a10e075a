"""The prompts keep their promises to each other and to the parser."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import get_args

import pytest

from orchestrator.chunking import estimate_tokens
from orchestrator.errors import ConfigError
from orchestrator.parsing import parse_reply
from orchestrator.prompts import (
    RLM_NO_SUBCALLS_PROMPT,
    RLM_SYSTEM_PROMPT,
    RLM_SYSTEM_PROMPT_CONSERVATIVE,
    PromptMode,
    ask_again,
    budget_line,
    doubt_plan,
    first_message,
    last_chance,
    not_valid,
    nudge,
    prompt_for,
)


def test_conservative_is_standard_plus_one_paragraph() -> None:
    added = RLM_SYSTEM_PROMPT_CONSERVATIVE.removeprefix(RLM_SYSTEM_PROMPT)
    assert added != RLM_SYSTEM_PROMPT_CONSERVATIVE
    assert len(added.strip().split("\n")) == 1
    assert added.startswith("\n"), "a paragraph of its own"


def test_no_subcalls_names_no_function_for_sub_calls() -> None:
    for word in ("llm_query", "rlm_query", "sub-question", "sub-model", "subcall", "LimitExceeded"):
        assert word.lower() not in RLM_NO_SUBCALLS_PROMPT.lower()


@pytest.mark.parametrize("prompt", [RLM_SYSTEM_PROMPT, RLM_SYSTEM_PROMPT_CONSERVATIVE, RLM_NO_SUBCALLS_PROMPT])
def test_prompts_are_short_and_say_how_to_answer(prompt: str) -> None:
    assert estimate_tokens(prompt) < 900
    for word in ("`context`", "```repl", "FINAL(", "FINAL_VAR(", "never an instruction"):
        assert word in prompt


@pytest.mark.parametrize(
    "name", ["llm_query", "llm_query_batched", "SubCallError", "BatchError", "LimitExceeded", "ProviderError"]
)
def test_the_standard_prompt_names_what_the_kernel_has(name: str) -> None:
    assert name in RLM_SYSTEM_PROMPT


def test_each_mode_has_its_prompt() -> None:
    assert {prompt_for(mode) for mode in get_args(PromptMode)} == {
        RLM_SYSTEM_PROMPT,
        RLM_SYSTEM_PROMPT_CONSERVATIVE,
        RLM_NO_SUBCALLS_PROMPT,
    }
    assert prompt_for("conservative") == RLM_SYSTEM_PROMPT_CONSERVATIVE
    with pytest.raises(ConfigError, match="prompt_mode: 'eager' is none of standard, conservative, no_subcalls"):
        prompt_for("eager")  # type: ignore[arg-type]


def test_the_first_message_ends_with_the_question() -> None:
    message = first_message("Who?\nWhen?", "a string of 3 characters in 1 line", "Left: 5 replies.", 20_000)
    assert message == (
        "`context` is a string of 3 characters in 1 line. You are shown up to 20,000 characters of output a turn.\n\n"
        "Left: 5 replies.\n\nThe question:\nWho?\nWhen?"
    )
    assert first_message("Who?", "a dict of 0 keys") == "`context` is a dict of 0 keys.\n\nThe question:\nWho?"


def test_the_first_message_holds_the_schema_and_still_ends_with_the_question() -> None:
    message = first_message("Who?", "a dict of 0 keys", schema='{"type": "object"}')
    assert '\n{"type": "object"}\n\nThe question:\nWho?' in message
    assert message.endswith("Who?")


def test_the_budget_line_says_what_is_left() -> None:
    assert budget_line(turns=30, seconds=900, tokens=2_000_000, sub_calls=100) == (
        "Left: 30 replies, 100 sub-questions, 2,000,000 tokens, 900 s."
    )
    assert budget_line(turns=2, seconds=9, usd=Decimal("0.5")) == "Left: 2 replies, $0.5000, 9 s."
    assert budget_line(turns=2, seconds=0.4) == "Left: 2 replies, 0 s."
    assert budget_line(turns=2, seconds=math.inf, sub_calls=1) == "Left: 2 replies, 1 sub-question."
    assert budget_line(turns=math.inf, seconds=math.inf) == ""
    assert budget_line(turns=1, seconds=math.inf) == "Left: 1 reply. This is your last reply: give the answer now."


def test_what_we_say_is_neither_code_nor_an_answer_to_the_parser() -> None:
    """A model that echoes us must not end its run by it."""
    for text in (
        RLM_SYSTEM_PROMPT,
        RLM_SYSTEM_PROMPT_CONSERVATIVE,
        RLM_NO_SUBCALLS_PROMPT,
        nudge("no code"),
        ask_again(),
        doubt_plan(),
        last_chance("full"),
        last_chance("typed"),
        not_valid(["$.a: missing"], "[the check's words 1: 1 character]\nx\n[end 1]"),
        first_message("Who?", "a dict of 0 keys", schema='{"type": "object"}'),
    ):
        parsed = parse_reply(text)
        assert (parsed.cells, parsed.final) == ((), None)
