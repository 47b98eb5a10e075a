"""Limits are finite by default, and a wrong one is named before anything starts."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.box_spec import spec_for
from orchestrator.errors import ConfigError
from orchestrator.limits import GIB, MIB, UNLIMITED, Deadline, Limits, Usage, merge_limits
from sandbox.spec import SandboxSpec


def test_the_defaults_are_those_that_the_readme_promises() -> None:
    assert dataclasses.asdict(Limits()) == {
        "max_turns": 30,
        "max_failed_cells": 5,
        "max_idle_turns": 3,
        "max_depth": 1,
        "max_sub_calls": 100,
        "max_tool_calls": 100,
        "max_tokens": 2_000_000,
        "max_cost_usd": UNLIMITED,
        "max_wall_s": 900,
        "max_call_s": 600,
        "max_concurrency": 16,
        "max_prompt_bytes": 2 * MIB,
        "max_reply_bytes": 4 * MIB,
        "max_output_chars": 20_000,
        "cell_wall_s": 60,
        "cell_cpu_s": 60,
        "cell_wait_s": 600,
        "memory_bytes": GIB,
        "max_boxes": 4,
        "max_live_boxes": 16,
        "max_store_bytes": 256 * MIB,
    }
    off = {name for name, value in dataclasses.asdict(Limits()).items() if not math.isfinite(value)}
    assert off == {"max_cost_usd"}, "money can be bounded only where prices are known"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("value", [None, -1, True, "5", math.nan, -math.inf])
def test_what_is_no_number_in_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^Limits\.{field}: .* is not a"):
        Limits(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_turns", 0),
        ("max_turns", 1.5),
        ("max_depth", 17),
        ("max_depth", UNLIMITED),
        ("max_tokens", 0),
        ("max_wall_s", 0),
        ("max_concurrency", 0),
        ("max_concurrency", 1025),
        ("max_concurrency", UNLIMITED),
        ("max_prompt_bytes", 4 * MIB + 1),
        ("max_reply_bytes", 0),
        ("max_output_chars", 199),
        ("memory_bytes", 127 * MIB),
        ("memory_bytes", UNLIMITED),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Limits\.{field}: {value!r} is not an? (integer|number) from [\d.,]+ to"):
        Limits(**{field: value})


@pytest.mark.parametrize("value", [0.5, 1.0, Decimal("-0.01"), Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity")])
def test_money_is_a_decimal_and_no_float(value: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^Limits\.max_cost_usd: .* is not a Decimal or an integer from 0 to 1,000,000"
    ):
        Limits(max_cost_usd=value)
    assert Limits(max_cost_usd=2).max_cost_usd == Limits(max_cost_usd=Decimal("2.00")).max_cost_usd


def test_off_is_spelled_unlimited() -> None:
    off = Limits(max_turns=UNLIMITED, max_sub_calls=UNLIMITED, max_tokens=UNLIMITED, max_wall_s=UNLIMITED)
    assert Deadline(off.max_wall_s).remaining_s == UNLIMITED
    with pytest.raises(ConfigError, match="or UNLIMITED"):
        Limits(max_turns=0)


def test_limits_can_not_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().max_turns = 5  # type: ignore[misc]


def test_a_deadline_ends() -> None:
    assert not Deadline(60).expired
    assert Deadline(0).expired
    assert Deadline(-5).remaining_s == 0.0


def test_usage_adds_up() -> None:
    assert Usage(input_tokens=3, output_tokens=4).total_tokens == 7


def test_short_forms_are_merged_and_contradictions_refused() -> None:
    assert merge_limits(None, max_turns=3, max_depth=None).max_turns == 3
    merged = merge_limits(Limits(max_tokens=7), max_turns=3)
    assert (merged.max_tokens, merged.max_turns) == (7, 3)
    assert merge_limits(Limits(max_turns=3), max_turns=3).max_turns == 3
    with pytest.raises(ConfigError, match=r"limits\.max_turns: 4 contradicts 3"):
        merge_limits(Limits(max_turns=4), max_turns=3)
    with pytest.raises(ConfigError, match=r"Limits\.max_depth: -1"):
        merge_limits(None, max_depth=-1)


def test_the_box_has_the_memory_that_the_limits_say() -> None:
    assert spec_for(None, Limits(memory_bytes=256 * MIB)).memory_bytes == 256 * MIB
    assert spec_for(SandboxSpec(memory_bytes=256 * MIB), Limits(memory_bytes=256 * MIB)).memory_bytes == 256 * MIB
    with pytest.raises(ConfigError, match=r"sandbox\.memory_bytes: 268,435,456 differs"):
        spec_for(SandboxSpec(memory_bytes=256 * MIB), Limits())


def test_a_box_outlives_its_run_a_little_and_never_a_day() -> None:
    assert spec_for(None, Limits(max_wall_s=60)).lifetime_s == 180
    assert spec_for(None, Limits(max_wall_s=UNLIMITED)).lifetime_s == 24 * 3600


def test_limits_that_are_a_dict_are_named() -> None:
    wrong: Any = {"max_turns": 2}
    with pytest.raises(ConfigError, match=r"limits: of type dict; write limits=Limits\(max_turns=2\)"):
        merge_limits(wrong, max_depth=None)
