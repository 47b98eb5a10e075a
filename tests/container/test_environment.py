"""`REPLEnvironment`: the locked REPL for code of the caller's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import BoxError, ContextError, Limits, REPLEnvironment, ScriptedProvider, VariableError
from tests.runs import boxes_of


@pytest.fixture(scope="module")
def environment(image_id: str) -> Iterator[REPLEnvironment]:
    sub = ScriptedProvider(lambda request: request.messages[-1].content.upper())
    with REPLEnvironment({"pages": ["one", "two"]}, sub, max_output_length=2000) as opened:
        yield opened


def test_a_cell_shows_output_value_and_error(environment: REPLEnvironment) -> None:
    assert environment.execute("print('printed')\n6 * 7") == ("printed\n42", True)
    assert environment.execute("x = 1") == ("", True)
    output, success = environment.execute("print('before')\n1 / 0")
    assert not success
    assert output.startswith("before\n")
    assert output.endswith("ZeroDivisionError: division by zero")


def test_output_is_cut_and_says_so(environment: REPLEnvironment) -> None:
    output, success = environment.execute("print('x' * 1_000_000)")
    assert success
    assert "1,000,001 characters left out" in output
    assert len(output) <= 2000


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("v = context", {"pages": ["one", "two"]}),
        ("v = (1, 2.5, None, True)", [1, 2.5, None, True]),
        ("v = {1: 'a'}", {"1": "a"}),
        ("v = 'a\\ud800\\x00\u20ac'", "a\ud800\x00\u20ac"),
        ("v = ''", ""),
        ("v = 10 ** 300", 10**300),
        ("v = [[[]]]", [[[]]]),
    ],
)
def test_values_cross_as_json(environment: REPLEnvironment, code: str, value: Any) -> None:
    assert environment.execute(code).success
    assert environment.get_variable("v") == value
    assert environment.has_variable("v")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("v = {1, 2}", "not JSON serializable"),
        ("v = float('nan')", "not JSON compliant"),
        ("v = []\nv.append(v)", "Circular"),
        ("v = lambda: 1", "not JSON serializable"),
    ],
)
def test_what_is_not_json_is_a_typed_error(environment: REPLEnvironment, code: str, why: str) -> None:
    assert environment.execute(code).success
    with pytest.raises(VariableError, match=why) as caught:
        environment.get_variable("v")
    assert (caught.value.name, caught.value.undefined) == ("v", False)
    assert environment.has_variable("v")


def test_an_undefined_variable_is_a_typed_error(environment: REPLEnvironment) -> None:
    with pytest.raises(LookupError, match="no variable is named 'nothing'") as caught:
        environment.get_variable("nothing")
    assert isinstance(caught.value, VariableError)
    assert caught.value.undefined
    assert not environment.has_variable("nothing")


def test_a_name_is_never_code(environment: REPLEnvironment) -> None:
    environment.execute("v = 1")
    for name in ("v + 1", "__import__('os')", "context['pages']", ""):
        assert not environment.has_variable(name)
        with pytest.raises(VariableError):
            environment.get_variable(name)


def test_sub_calls_are_kept(environment: REPLEnvironment) -> None:
    assert environment.execute("print(llm_query('hello'), llm_query_batched(['a', 'b']))") == ("HELLO ['A', 'B']", True)
    assert {call.prompt: call.reply for call in environment.sub_calls} == {"hello": "HELLO", "a": "A", "b": "B"}


def test_a_lost_box_is_replaced_with_the_context_in_it(environment: REPLEnvironment) -> None:
    environment.execute("kept = 1")
    output, success = environment.execute("import os\nos._exit(1)")
    assert (output, success) == ("[the box was lost: the kernel exited; only `context` is there again]", False)
    assert environment.get_variable("context") == {"pages": ["one", "two"]}
    assert not environment.has_variable("kept")
    assert environment.execute("len(context['pages'])") == ("2", True)


def test_a_value_that_never_ends_costs_the_box_alone(
    environment: REPLEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.sandbox.VALUE_TIMEOUT_S", 0.5)
    environment.execute("class Endless(dict):\n    def items(self):\n        while True: pass\nv = Endless(a=1)")
    with pytest.raises(VariableError, match="did not come within"):
        environment.get_variable("v")
    assert environment.execute("len(context['pages'])") == ("2", True)


def test_without_a_model_there_are_no_sub_calls() -> None:
    with REPLEnvironment(["a", "b"], limits=Limits(cell_wall_s=1)) as environment:
        assert not environment.has_variable("llm_query")
        assert environment.execute("llm_query('x')").output.endswith("NameError: name 'llm_query' is not defined")
        output, success = environment.execute("print('begun')\nwhile True: pass")
        assert not success
        assert output.startswith("begun")
        assert output.endswith("[stopped: the cell's wall clock ran out]")
        assert environment.execute("len(context)") == ("2", True)


def test_closed_it_says_so_and_its_box_is_gone() -> None:
    environment = REPLEnvironment("text")
    with pytest.raises(BoxError, match="not open"):
        environment.execute("1")
    with environment:
        assert environment.get_variable("context") == "text"
        with pytest.raises(BoxError, match="open already"):
            environment.__enter__()
    environment.close()
    with pytest.raises(BoxError, match="not open"):
        environment.get_variable("context")


def test_a_wrong_context_is_refused_at_construction() -> None:
    with pytest.raises(ContextError, match=r"context\[0\]"):
        REPLEnvironment([1])


async def test_it_works_inside_of_a_running_event_loop() -> None:
    with REPLEnvironment("text") as environment:
        assert environment.execute("context") == ("'text'", True)


def test_an_exception_in_the_block_removes_the_box_too(environment: REPLEnvironment) -> None:
    failing = REPLEnvironment("text")

    def fail() -> None:
        with failing:
            assert len(boxes_of()) == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(boxes_of()) == 1
    with pytest.raises(BoxError, match="not open"):
        failing.execute("1")
