"""Runs that are longer than the root's window, in real boxes: variables stay, and the root is told what it had."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import RLM, Limits, RunResult
from orchestrator.providers.base import ModelReply, ModelRequest, TokenUsage
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.trace import TraceEvent
from tests.runs import code

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTEXT = "\n".join(f"line {number} holds {number * 7}" for number in range(4_000))
WINDOW = 8_000


class Reader:
    """A root that reads the context in parts, prints each, and keeps the sums in variables; it forgets like any model.

    Its next part it finds in a variable of the REPL: what it said before may not be there any more.
    """

    def __init__(self, parts: int, *, observe: str = "full") -> None:
        self.provider = ScriptedProvider(self._play, max_output_tokens=1_000)
        self._shows = "report(part=part)" if observe == "typed" else "print(lines)"
        self._parts = parts
        self._turn = 0
        self.fullest = 0

    def _play(self, request: ModelRequest) -> ModelReply:
        text = self._text(request)
        tokens = sum(message.size_bytes for message in request.messages) // 4
        self.fullest = max(self.fullest, tokens)
        usage = TokenUsage(input_tokens=tokens, output_tokens=len(text) // 4 + 1)
        return ModelReply(text=text, usage=usage)

    def _text(self, request: ModelRequest) -> str:
        if "getting too long for you" in request.messages[-1].content:
            return "The sums are in `sums`, the number of the part in `part`. Go on with the next part."
        self._turn += 1
        if self._turn > self._parts:
            return code("total = sum(sums)", then="FINAL_VAR(total)")
        filler = "# " + "thinking aloud " * 100
        return code(
            f"{filler}\nsums = globals().get('sums', [])\npart = globals().get('part', 0)\n"
            f"lines = context.splitlines()[part * 100 : part * 100 + 100]\n{self._shows}\n"
            f"sums.append(sum(int(line.split()[-1]) for line in lines))\npart += 1  # {self._turn}"
        )


async def watched(root: ScriptedProvider, **settings: Any) -> tuple[RunResult, list[TraceEvent]]:
    events: list[TraceEvent] = []
    rlm = RLM(root, root_window_tokens=WINDOW, limits=Limits(max_turns=100), **settings)
    return await rlm.arun("What is the sum?", CONTEXT, listeners=[events.append]), events


@pytest.mark.parametrize("observe", ["full", "typed"])
async def test_a_run_longer_than_the_window_goes_on_with_its_variables(observe: Any) -> None:
    reader = Reader(30, observe=observe)
    result, events = await watched(reader.provider, observe=observe)
    assert result.answer == str(sum(number * 7 for number in range(3_000)))
    compactions = [event for event in events if event.kind == "compaction"]
    assert len(compactions) >= 2
    assert reader.fullest < WINDOW
    assert result.usage.turns == 31, "a summary is no turn"
    assert result.usage.root_calls == 31 + len(compactions), "but a call of the root's"
    head = reader.provider.requests[-1].messages[1].content
    assert head.startswith("`context` is a string")
    assert "What is the sum?" in head
    assert "The sums are in `sums`" in head
    assert "part, lines, sums." in head
    if observe == "typed":
        assert " holds 7" not in "".join(message.content for message in reader.provider.requests[-1].messages)


async def test_the_trace_tells_of_each_compaction_without_its_text(tmp_path: Any) -> None:
    reader = Reader(12)
    result, events = await watched(reader.provider, trace_dir=tmp_path)
    assert result.trace is not None
    [event] = [event for event in events if event.kind == "compaction"][:1]
    assert set(event.facts) == {
        "turn",
        "wall_s",
        "usage",
        "because",
        "turns",
        "cut",
        "tokens_before",
        "tokens_after",
        "window_tokens",
        "failure",
    }
    assert event.facts["tokens_before"] > 0.8 * WINDOW - 1 > event.facts["tokens_after"]
    assert event.facts["usage"]["output_tokens"] > 0
    with open(result.trace.path, encoding="utf-8") as file:
        written = file.read()
    assert '"compaction"' in written
    assert "Go on with the next part" not in written
    usages = [event.facts["usage"] for event in events if event.kind in ("turn", "compaction")]
    assert sum(usage["input_tokens"] for usage in usages) == result.usage.input_tokens


async def test_a_window_that_is_small_shows_less_of_an_output() -> None:
    root = ScriptedProvider([code("print('x' * 100_000)"), "FINAL(done)"])
    await watched(root)
    assert f"You are shown up to {WINDOW // 2:,} characters" in root.requests[0].messages[1].content
    shown = root.requests[1].messages[-1].content
    assert "of 100,001 characters left out" in shown
    assert len(shown) < WINDOW // 2 + 500
