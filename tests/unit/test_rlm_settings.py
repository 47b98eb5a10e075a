"""What `RLM` is given of a wrong type is named before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import RLM, ScriptedProvider
from orchestrator.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"journal_dir": 3}, "journal_dir: 3 is no path of a directory"),
        ({"journal_dir": ""}, "journal_dir: '' is no path of a directory"),
        ({"trace_dir": True}, "trace_dir: True is no path of a directory"),
        ({"system_prompt": 3}, "system_prompt: of type int; give a str"),
    ],
)
def test_a_setting_of_a_wrong_type_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RLM(ScriptedProvider([]), **settings)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("listeners", "said"),
    [
        (print, "listeners: of type builtin_function_or_method; give a list of functions"),
        ("print", "listeners: of type str; give a list of functions"),
        ([print, "print"], r"listeners\[1\]: of type str, which can't be called"),
    ],
)
def test_listeners_are_a_list_of_functions(listeners: Any, said: str) -> None:
    rlm = RLM(ScriptedProvider([]))
    for start in (rlm.query, rlm.stream):
        with pytest.raises(ConfigError, match=said):
            start("What?", "text", listeners=listeners)
    with pytest.raises(ConfigError, match=said):
        rlm.session("text", listeners=listeners)
