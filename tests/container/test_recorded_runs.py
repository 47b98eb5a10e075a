"""A recorded run of a real model, cell by cell as root replies in the real box.

The other recorded runs need documents that the data does not hold; that their cells parse is in
tests/unit/test_trajectories.py.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

from orchestrator.providers.base import ModelRequest
from orchestrator.providers.scripted import ScriptedProvider
from tests.datasets import RecordedEvent, load_trajectories
from tests.root_scripts import as_reply
from tests.runs import run, script

SHOWN = "[FULL OUTPUT SHOWN]... "


def recorded(shared_data: Path, depth: int) -> list[RecordedEvent]:
    events = load_trajectories(shared_data)
    return [event for event in events if event.file.startswith("r_count") and event.depth == depth and event.code]


def output(event: RecordedEvent) -> str:
    assert event.output is not None
    return event.output.removeprefix(SHOWN).rstrip("\n")


def context_of(event: RecordedEvent) -> str:
    """The run's first cell printed its whole context."""
    return output(event).split("Context:  ", 1)[1]


async def test_the_sub_agents_run(shared_data: Path) -> None:
    cells = recorded(shared_data, depth=1)
    root = script(*(as_reply(event.code or "") for event in cells))
    result = await run(root, context=context_of(cells[0]))
    assert result.answer is not None
    assert len(result.answer.splitlines()) == 50
    assert result.turns[0].cells[0].output == output(cells[0])
    assert result.turns[1].cells[0].output == result.answer


async def test_the_root_agents_run(shared_data: Path) -> None:
    """As it was recorded: its second cell awaits `llm_query`."""
    cells = recorded(shared_data, depth=0)
    looks, asks, counts, ends = (event.code or "" for event in cells)
    fruit = output(cells[1])

    def answer(request: ModelRequest) -> str:
        assert "exactly 50 unique fruit names" in request.messages[-1].content
        return fruit

    root = script(*map(as_reply, (looks, asks, counts, ends)))
    result = await run(root, sub=ScriptedProvider(answer), context=context_of(cells[0]))
    first, asked, counted, _ = (turn.cells[0] for turn in result.turns)
    assert first.output == output(cells[0])
    assert asked.output == fruit
    assert counted.output == output(cells[2])
    assert ast.literal_eval(json.dumps(json.loads(result.answer or ""))) == ast.literal_eval(_result(shared_data))


def _result(shared_data: Path) -> str:
    file = next((shared_data / "trajectories" / "fast-rlm").glob("r_count*.jsonl"))
    last = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
    return str(last["result"])
