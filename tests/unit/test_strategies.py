"""Whether a root gets on, and what a run may do when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.limits import UNLIMITED, Limits
from orchestrator.prompts import RLM_NO_SUBCALLS_PROMPT, RLM_SYSTEM_PROMPT_CONSERVATIVE
from orchestrator.providers.prices import parse_price
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.rlm import RLM
from orchestrator.strategies import MAX_STRATEGIES, Progress, Ran, Strategy

REFUSED = "an answer that could not be taken"
TURNS: dict[str, tuple[tuple[Ran, ...], str | None]] = {
    "new": ((Ran(ok=True, did=0),), None),  # its `did` is made different for each turn below
    "same": ((Ran(ok=True, did=1),), None),
    "fails": ((Ran(ok=False, did=2, ended="NameError"),), None),
    "new, fails": ((Ran(ok=True, did=0), Ran(ok=False, did=3, ended="KeyError")), None),
    "silent": ((), None),
    "refused": ((), REFUSED),
    "new, refused": ((Ran(ok=True, did=0),), REFUSED),
    "fails, refused": ((Ran(ok=False, did=4, ended="TypeError"),), REFUSED),
}


@pytest.mark.parametrize(
    ("turns", "stuck"),
    [
        (["new"] * 20, None),
        (["silent"] * 3, "3 turns in a row brought nothing new; the last: neither code nor an answer"),
        (["silent", "silent", "new"] * 5, None),
        (["same"] * 3, None),  # the first of them was new
        (["same"] * 4, "3 turns in a row brought nothing new; the last: code that did what it had done before"),
        (["same", "new"] * 5, None),
        (["refused"] * 3, f"3 turns in a row brought nothing new; the last: {REFUSED}"),
        (["new, refused"] * 3, f"3 turns in a row brought nothing new; the last: {REFUSED}"),
        (["silent", "refused", "same", "same", "silent"], None),  # the first "same" is new
        (["same", "silent", "refused", "same"], "3 turns in a row brought nothing new; the last: code that did what"),
        (["fails"] * 4, None),
        (["fails"] * 5, "5 cells in a row failed; the last: NameError"),
        (["fails, refused"] * 5, "5 cells in a row failed; the last: TypeError"),
        (["new, fails"] * 20, None),
        (["fails"] * 4 + ["same"] + ["fails"] * 4, None),
        (["fails"] * 4 + ["new, fails"] + ["fails"] * 4, "5 cells in a row failed; the last: NameError"),
        (
            ["silent", "fails", "silent", "fails", "silent"],
            "3 turns in a row brought nothing new; the last: neither code nor an answer",
        ),
        (["silent", "fails", "new"] * 6, None),
    ],
)
def test_when_a_root_is_stuck(turns: list[str], stuck: str | None) -> None:
    progress = Progress(max_failed_cells=5, max_idle_turns=3)
    said = []
    for number, turn in enumerate(turns):
        cells, refused = TURNS[turn]
        said.append(progress.turn([Ran(ok=c.ok, did=c.did or 100 + number, ended=c.ended) for c in cells], refused))
    if stuck is None:
        assert said == [None] * len(turns)
    else:
        assert said[:-1] == [None] * (len(turns) - 1), "it must not be told before the last of these turns"
        assert (said[-1] or "").startswith(stuck)


def test_in_a_fresh_repl_the_same_code_is_new_again() -> None:
    progress = Progress(max_failed_cells=5, max_idle_turns=2)
    for _ in range(5):
        assert progress.turn([Ran(ok=True, did=1)]) is None
        assert progress.turn([Ran(ok=True, did=1)]) is None
        progress.starts_anew()


def test_nothing_is_stuck_where_both_limits_are_off() -> None:
    progress = Progress(max_failed_cells=UNLIMITED, max_idle_turns=UNLIMITED)
    assert [progress.turn([Ran(ok=False, did=1)]) or progress.turn([]) for _ in range(100)] == [None] * 100


# --- what is refused before anything starts ---


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, r"^Strategy: it changes nothing; give prompt_mode, root_llm or note$"),
        ({"prompt_mode": "bold"}, r"^Strategy.prompt_mode: 'bold' is none of standard, conservative, no_subcalls$"),
        ({"note": ""}, r"^Strategy.note: not a text of 1 to 4,000 characters$"),
        ({"note": "x" * 4_001}, r"^Strategy.note: not a text of 1 to 4,000"),
        ({"note": 7}, r"^Strategy.note: not a text"),
    ],
)
def test_a_wrong_strategy_is_named_by_its_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Strategy(**fields)


@pytest.mark.parametrize(
    ("strategies", "said"),
    [
        (Strategy(note="x"), r"^strategies: a Strategy; write strategies=\[Strategy\(\.\.\.\)\]$"),
        (["conservative"], r"^strategies\[0\]: of type str; write Strategy\(\.\.\.\)$"),
        ([Strategy(note="x")] * (MAX_STRATEGIES + 1), r"^strategies: 17 of them; at most 16 are tried$"),
        ([Strategy(root_llm=object())], r"a object is not a model"),  # type: ignore[arg-type]
    ],
)
def test_wrong_strategies_are_refused(strategies: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RLM(ScriptedProvider([]), strategies=strategies)


def test_a_run_without_sub_calls_can_get_none_later() -> None:
    no_calls = Strategy(prompt_mode="no_subcalls")
    RLM(ScriptedProvider([]), prompt_mode="no_subcalls", strategies=[no_calls, Strategy(note="x")])
    with pytest.raises(ConfigError, match=r"^strategies\[1\].prompt_mode: 'standard' asks sub-questions"):
        RLM(ScriptedProvider([]), prompt_mode="no_subcalls", strategies=[no_calls, Strategy(prompt_mode="standard")])


def test_another_root_needs_a_price_under_a_limit_in_money() -> None:
    first, other = ScriptedProvider([], name="openai:gpt-5.5"), ScriptedProvider([], name="openai:other")
    strategies = [Strategy(root_llm=other)]
    with pytest.raises(ConfigError, match="what openai:other costs is not known"):
        RLM(first, strategies=strategies, limits=Limits(max_cost_usd=1))
    rlm = RLM(first, strategies=strategies, limits=Limits(max_cost_usd=1), prices={"openai:other": parse_price("1/5")})
    assert set(rlm.settings.models) == {first, other}


# --- what a strategy changes ---


def test_what_a_strategy_leaves_out_stays_as_it_is() -> None:
    first, other = ScriptedProvider([], name="scripted:first"), ScriptedProvider([], name="scripted:other")
    given = RLM(first, system_prompt="My own.", root_window_tokens=9_000).settings
    by_note = given.by(Strategy(note="Try again."))
    assert (by_note.root, by_note.system_prompt, by_note.own_prompt) == (first, "My own.", True)
    assert by_note.window_tokens == 9_000
    by_root = given.by(Strategy(root_llm=other))
    assert (by_root.root, by_root.sub, by_root.system_prompt) == (other, first, "My own.")
    assert by_root.window_tokens == 128_000, "the caller said it of the first root alone"
    by_mode = given.by(Strategy(prompt_mode="conservative"))
    assert (by_mode.root, by_mode.prompt_mode) == (first, "conservative")
    assert (by_mode.system_prompt, by_mode.own_prompt) == (RLM_SYSTEM_PROMPT_CONSERVATIVE, False)
    without = given.by(Strategy(prompt_mode="no_subcalls"))
    assert (without.sub, without.system_prompt) == (None, RLM_NO_SUBCALLS_PROMPT)
