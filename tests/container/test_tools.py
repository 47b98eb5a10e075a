"""Tools in whole runs: what the root is told, one account for the tree, quarantine, what stays in result and trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, Limits, ProviderError, ScriptedProvider, Tool, ToolFailed
from orchestrator.providers.base import ModelRequest
from orchestrator.result import RunResult, Trajectory
from tests.runs import all_shown, code, script

RATES = {"EUR": 1.0, "USD": 1.25}


async def rate(currency: str) -> float:
    """What one euro is worth in a currency, by its three letters."""
    if currency not in RATES:
        raise ToolFailed(f"{currency[:3]} is not known")
    return RATES[currency]


def convert(amounts: list[float], to: str = "USD") -> dict[str, Any]:
    return {"to": to, "amounts": [amount * RATES[to] for amount in amounts]}


TOOLS = [Tool(rate, takes_hostile_arguments=True), Tool(convert, takes_hostile_arguments=True, max_calls=5)]
PRICES = "price: 4 EUR\nprice: 8 EUR\n"


async def run(model: ScriptedProvider, **settings: Any) -> RunResult:
    given = {"tools": TOOLS} | settings
    return await RLM(model, **given).arun("What is it in dollars?", PRICES)


WORK = """
import re
found = [float(n) for n in re.findall(r"price: (\\d+)", context)]
made = await convert(found, to="USD")
FINAL(f"{sum(made['amounts'])} at {rate('USD')}")
"""


async def test_a_run_with_tools_end_to_end(tmp_path: Path) -> None:
    model = script(code(WORK))
    result = await run(model, trace_dir=tmp_path)
    assert result.answer == "15.0 at 1.25"
    assert (result.usage.tool_calls, result.usage.sub_calls) == (2, 0)
    (cell,) = result.turns[0].cells
    assert [(call.tool, call.arguments, call.result) for call in cell.tool_calls] == [
        ("convert", '{"amounts": [4.0, 8.0], "to": "USD"}', '{"to": "USD", "amounts": [5.0, 10.0]}'),
        ("rate", '{"currency": "USD"}', "1.25"),
    ]
    told = model.requests[0].messages[0].content
    assert "- `convert(amounts: list[float], to: str = 'USD') -> dict[str, Any]`, at most 5 calls" in told
    assert "- `rate(currency: str) -> float`, at most 100 calls\n  What one euro is worth" in told
    assert json.loads(Trajectory(result).to_json())["turns"][0]["cells"][0]["tool_calls"][1]["result"] == "1.25"
    (file,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0]["tools"] == ["rate", "convert"]
    calls = [line for line in lines if line["kind"] == "tool_call"]
    assert [(call["tool"], call["argument_bytes"], call["result_bytes"]) for call in calls] == [
        ("convert", 36, 37),
        ("rate", 19, 4),
    ]
    assert "amounts" not in json.dumps(calls), "no text of the document without keep_text"


async def test_with_keep_text_the_trace_has_what_went_in_and_came_back(tmp_path: Path) -> None:
    await run(script(code("rate('USD')"), "FINAL(x)"), trace_dir=tmp_path, keep_text=True)
    lines = [json.loads(line) for line in next(tmp_path.iterdir()).read_text().splitlines()]
    (call,) = [line for line in lines if line["kind"] == "tool_call"]
    assert (call["arguments"], call["result"]) == ('{"currency": "USD"}', "1.25")


async def test_the_root_reads_why_a_call_failed_and_goes_on() -> None:
    model = script(code("rate('XYZ')"), code("rate(5)"), code("print(budget()['tool_calls'])"), "FINAL(done)")
    result = await run(model)
    assert result.answer == "done"
    shown = all_shown(model)
    assert "ToolError: rate: XYZ is not known" in shown
    assert "ToolArgumentError: rate: currency: Input should be a valid string" in shown
    assert "\n99\n" in shown, "the failed call counts, the refused one does not"
    assert "sub-questions, 99 tool calls, " in shown
    assert "100 tool calls" not in shown, "nothing is said before the first"


async def test_children_have_the_same_tools_on_the_same_account() -> None:
    def reply(request: ModelRequest) -> str:
        question = request.messages[1].content
        if "dollars" in question:
            below = 'FINAL(" ".join([str(rate("USD")), *rlm_query_batched(["go on", "go on"], ["a", "b"])]))'
            return code(below)
        assert "- `rate(currency: str) -> float`" in request.messages[0].content
        return code("try:\n    said = str(rate('EUR'))\nexcept LimitExceeded as e:\n    said = str(e)\nFINAL(said)")

    result = await run(ScriptedProvider(reply), limits=Limits(max_depth=2, max_tool_calls=2))
    assert result.answer in ("1.25 1.0 2 of 2 tool calls used", "1.25 2 of 2 tool calls used 1.0")
    assert (result.usage.tool_calls, result.usage.refusals) == (2, 1)


async def test_a_quarantined_root_may_call_tools_and_sees_nothing_of_them() -> None:
    cell = "found = rate('USD')\nreport(above=found > 1)\nrate('document words')"
    model = script(code(cell), code('FINAL(f"{found}")'))
    result = await run(model, observe="typed")
    assert result.answer == "1.25"
    assert "above = True" in all_shown(model)
    assert "doc is not known" not in all_shown(model)


async def test_a_prompt_of_the_callers_own_stays_as_it_is() -> None:
    model = script("FINAL(x)")
    await run(model, system_prompt="Answer.")
    assert model.requests[0].messages[0].content.startswith("Answer.")
    assert "rate(currency" not in all_shown(model)


async def test_a_box_that_was_lost_has_its_tools_again() -> None:
    model = script(code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), code("FINAL(str(rate('USD')))"))
    assert (await run(model)).answer == "1.25"


async def test_a_run_that_goes_on_makes_no_call_twice_and_counts_it_nevertheless(tmp_path: Path) -> None:
    made: list[str] = []

    def order(item: str) -> int:
        made.append(item)
        return len(made)

    tools = [Tool(order, takes_hostile_arguments=True, max_calls=2)]
    settings: dict[str, Any] = {"tools": tools, "journal_dir": tmp_path / "run"}
    first = script(code("n = order('pen')\ntry: order(5)\nexcept ToolArgumentError: pass"))
    with pytest.raises(ProviderError, match="the script is over"):
        await run(first, **settings)
    second = script(code("m = order('ink')\ntry: order('cap')\nexcept LimitExceeded as e: FINAL(f'{n} {m} {e}')"))
    result = await RLM(second, **settings).aresume()
    assert result.answer == "1 2 order: 2 of 2 calls used"
    assert made == ["pen", "ink"]
    assert (result.usage.tool_calls, result.usage.refusals) == (2, 2)
    calls = [call for turn in result.turns for cell in turn.cells for call in cell.tool_calls]
    assert [(call.arguments, call.called, call.result) for call in calls] == [
        ('{"item": "pen"}', True, "1"),
        ('{"item": 5}', False, None),
        ('{"item": "ink"}', True, "2"),
        ('{"item": "cap"}', False, None),
    ]
