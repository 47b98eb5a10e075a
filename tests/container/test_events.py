"""What a run says while it works: in order, in time, within bounds, and never what a policy is to see first."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, Limits, RunResult, ScriptedProvider
from orchestrator.cli.main import main
from orchestrator.errors import ProviderError
from orchestrator.policies.base import Allow, Decision, IncomingReply, Policy
from orchestrator.providers.base import ModelRequest
from orchestrator.trace import TraceEvent
from tests.container.test_rlm import echo
from tests.events import Checked, faults_in
from tests.runs import boxes_left, code, script

pytestmark = pytest.mark.docker


class Heard:
    """A listener that remembers, and compares with the schema."""

    def __init__(self) -> None:
        self.events: list[TraceEvent] = []
        self.checked = Checked()

    def __call__(self, event: TraceEvent) -> None:
        self.events.append(event)
        self.checked(event)

    def kinds(self, *, of_child: bool = False) -> list[str]:
        """In order; several pieces of one text count once."""
        found = [event.kind for event in self.events if ("run" in event.facts) == of_child]
        found = [kind for kind in found if kind not in ("setup", "box")]
        return [kind for kind, before in zip(found, [None, *found], strict=False) if kind != before]

    def text(self, kind: str, **facts: Any) -> str:
        """What all pieces of a kind with these facts say."""
        matching = [event for event in self.events if event.kind == kind and facts.items() <= event.facts.items()]
        return "".join(event.texts["text"] for event in matching)


async def test_a_run_is_told_in_order_and_all_of_it_is_as_the_schema_says(tmp_path: Path) -> None:
    heard = Heard()
    first = code("print('one')\nimport sys; print('two', file=sys.stderr)\nllm_query('q', data='d') * 2")
    rlm = RLM(script(first, "FINAL(the answer)"), echo(), trace_dir=tmp_path)
    result = await rlm.arun("What?", "context", listeners=[heard])
    assert heard.checked.faults == []
    kinds = heard.kinds()
    assert [kind for kind in kinds if kind != "output"] == [
        "run_start",
        "token",
        "turn",
        "cell_start",
        "sub_call_start",
        "sub_call",
        "cell",
        "budget",
        "token",
        "turn",
        "budget",
        "answer",
        "run_end",
    ]
    assert "output" in kinds[kinds.index("cell_start") : kinds.index("cell")]
    assert heard.text("output", stream="stdout") == "one\n"
    assert heard.text("output", stream="stderr") == "two\n"
    assert heard.text("output", stream="result").startswith("'")
    assert heard.text("token", reply=1) == first
    budgets = [event.facts["left"] for event in heard.events if event.kind == "budget"]
    assert [left["sub_calls"] for left in budgets] == [99, 99]
    assert [left["turns"] for left in budgets] == [29, 28]
    started, ended = (next(e for e in heard.events if e.kind == kind) for kind in ("sub_call_start", "sub_call"))
    assert started.facts["call"] == ended.facts["call"] == 1
    assert result.trace is not None
    assert faults_in(result.trace.path) == []
    written = {json.loads(line)["kind"] for line in Path(result.trace.path).read_text().splitlines()}
    assert written.isdisjoint({"token", "output", "sub_call_start", "answer"})


async def test_output_is_told_while_its_cell_runs() -> None:
    """The sub-call is answered when the cell's first words have been heard, and not before."""
    said = asyncio.Event()

    def listen(event: TraceEvent) -> None:
        if event.kind == "output" and "first words" in event.texts["text"]:
            said.set()

    async def answer(_: ModelRequest) -> str:
        await said.wait()
        return "heard"

    root = script(code("print('first words')\nprint(llm_query('q'))"), "FINAL(x)")
    result = await RLM(root, ScriptedProvider(answer)).arun("What?", "context", listeners=[listen])
    assert result.turns[0].cells[0].output == "first words\nheard"


async def test_a_flood_is_told_up_to_the_outputs_limit_in_few_pieces() -> None:
    heard = Heard()
    flood = code("for number in range(200_000): print(number)")
    rlm = RLM(script(flood, "FINAL(x)"), limits=Limits(max_output_chars=2_000))
    await rlm.arun("What?", "context", listeners=[heard])
    pieces = [event for event in heard.events if event.kind == "output"]
    told = "".join(piece.texts["text"] for piece in pieces)
    assert len(told) == 2_000
    assert told.startswith("0\n1\n2\n")
    assert [piece.facts["cut"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert heard.checked.faults == []


async def test_concurrent_sub_calls_each_have_a_start_and_an_end() -> None:
    heard = Heard()
    root = script(code("llm_query_batched([str(n) for n in range(20)])"), "FINAL(x)")
    await RLM(root, echo()).arun("What?", "context", listeners=[heard])
    started = [event.facts["call"] for event in heard.events if event.kind == "sub_call_start"]
    ended = [event.facts["call"] for event in heard.events if event.kind == "sub_call"]
    assert sorted(started) == sorted(ended) == list(range(1, 21))


async def test_a_refused_sub_call_has_no_start() -> None:
    heard = Heard()
    root = script(code("for _ in range(3):\n  try: llm_query('q')\n  except LimitExceeded: pass"), "FINAL(x)")
    await RLM(root, echo(), limits=Limits(max_sub_calls=1)).arun("What?", "context", listeners=[heard])
    kinds = [event.kind for event in heard.events]
    assert (kinds.count("sub_call_start"), kinds.count("sub_call"), kinds.count("refusal")) == (1, 1, 2)


async def test_a_child_runs_events_carry_its_number_and_its_answer_is_no_answer_of_the_run() -> None:
    def root(request: ModelRequest) -> str:
        if "go down" in request.messages[1].content:
            return "FINAL(from the child)"
        return code("rlm_query('go down', context)") if len(request.messages) == 2 else "FINAL(mine)"

    heard = Heard()
    rlm = RLM(ScriptedProvider(root), limits=Limits(max_depth=2))
    await rlm.arun("What?", "context", listeners=[heard])
    assert heard.kinds(of_child=True) == ["child_start", "token", "turn", "budget", "child_end"]
    answers = [event.texts["answer"] for event in heard.events if event.kind == "answer"]
    assert answers == ["mine"]
    (call,) = [event for event in heard.events if event.kind == "sub_call"]
    assert call.facts["child_run"] == 1
    assert heard.checked.faults == []


async def test_no_text_is_told_early_where_a_policy_is_to_see_it_first() -> None:
    class Reads(Policy):
        def on_reply(self, reply: IncomingReply) -> Decision:
            return Allow()

    heard = Heard()
    await RLM(script("FINAL(x)"), policies=[Reads()]).arun("What?", "context", listeners=[heard])
    assert "token" not in heard.kinds()
    assert "turn" in heard.kinds()


async def test_each_attempt_at_the_root_is_a_text_of_its_own() -> None:
    class Breaks:
        """Streams half a reply and fails, once."""

        name, max_output_tokens = "breaks:once", 100

        def __init__(self) -> None:
            self.asked = 0

        async def complete(self, request: ModelRequest) -> Any:
            self.asked += 1
            if self.asked == 1:
                assert request.on_text is not None
                request.on_text("half of")
                raise ProviderError("broke", provider=self.name, retryable=True)
            return await script("FINAL(whole)").complete(request)

    heard = Heard()
    await RLM(Breaks()).arun("What?", "context", listeners=[heard])
    assert (heard.text("token", reply=1), heard.text("token", reply=2)) == ("half of", "FINAL(whole)")


async def test_a_listener_that_raises_costs_the_run_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()

    def broken(event: TraceEvent) -> None:
        if event.kind == "turn":
            raise ZeroDivisionError(event.texts["response"])

    with caplog.at_level(logging.WARNING):
        result = await RLM(script("FINAL(x)")).arun("What?", "context", listeners=[broken, heard])
    assert result.answer == "x"
    assert heard.kinds()[-1] == "run_end"
    assert [message for message in caplog.messages if "ZeroDivisionError" in message and "FINAL" not in message]


# --- the stream ---


async def test_a_stream_ends_with_the_runs_end_and_has_its_result() -> None:
    stream = RLM(script("FINAL(x)")).stream("What?", "context")
    kinds = [event.kind async for event in stream]
    assert (kinds[0], kinds[-2:]) == ("run_start", ["answer", "run_end"])
    assert isinstance(stream.result, RunResult)
    assert stream.result.answer == "x"


@pytest.mark.parametrize("leave", ["break", "cancel"])
async def test_whoever_leaves_a_stream_leaves_no_box(leave: str) -> None:
    root = script(code("print('begun')\nimport time\ntime.sleep(60)"), "FINAL(x)")

    async def read() -> None:
        async with RLM(root).stream("What?", "context") as stream:
            async for event in stream:
                if event.kind == "output":
                    begun.set()
                    if leave == "break":
                        return

    begun = asyncio.Event()
    reader = asyncio.create_task(read())
    await begun.wait()
    if leave == "cancel":
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
    else:
        await reader
    assert boxes_left() == []


async def test_a_stream_raises_what_the_run_does_behind_its_end() -> None:
    stream = RLM(script(ProviderError("broke", provider="p"))).stream("What?", "context")
    kinds: list[str] = []

    async def read() -> None:
        async for event in stream:
            kinds.append(event.kind)  # noqa: PERF401 - of a comprehension that raises, nothing would be left

    with pytest.raises(ProviderError):
        await read()
    assert kinds[-1] == "run_end"
    assert stream.result is not None
    assert stream.result.stop_reason.value == "provider_error"


async def test_a_sessions_questions_can_be_read_as_streams() -> None:
    checked = Checked()
    async with RLM(script(code("x = 5"), "FINAL(one)", "FINAL_VAR(x)")).session("context") as session:
        for number, answer in ((1, "one"), (2, "5")):
            stream = session.stream("What?", listeners=[checked])
            asks = {event.facts["ask"] async for event in stream}
            assert asks == {number}
            assert stream.result is not None
            assert stream.result.answer == answer
    assert checked.faults == []
    assert boxes_left() == []


# --- a trace of a real run, exported ---


async def test_a_kept_trace_is_exported_for_the_authors_visualizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rlm = RLM(script(code("llm_query('q')"), "FINAL(x)"), echo(), trace_dir=tmp_path, keep_text=True)
    result = await rlm.arun("What?", "context")
    assert result.trace is not None
    assert faults_in(result.trace.path) == []
    assert main(["export", result.trace.path]) == 0
    metadata, first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert metadata["type"] == "metadata"
    assert [message["role"] for message in second["prompt"]] == ["system", "user", "assistant", "user"]
    assert len(first["code_blocks"][0]["result"]["rlm_calls"]) == 1
    assert second["final_answer"] == "x"
