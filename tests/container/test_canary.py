"""What must not leak: the document's text into root requests or traces, the keys into anything at all."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, Limits, OpenAIInterface, ScriptedProvider, Strategy
from orchestrator.trace import FORMAT
from tests.runs import all_shown, code, run, script, shown

CANARY = "canary-7f3a9c"
KEY = "sk-secret-0123456789-abcdef"


@pytest.mark.parametrize(
    "context",
    [
        f"first line\n{CANARY}\nlast line",
        ["an item", CANARY, "another"],
        {"name": {"deep": [CANARY]}},
        {CANARY: "value"},
        {f"{CANARY}.txt": "a file's text", "other.txt": ""},
    ],
    ids=["text", "item", "value", "key", "file-name"],
)
async def test_the_context_is_in_no_root_request_until_a_cell_prints_it(context: Any) -> None:
    quiet = code("x = str(context)\nlen(x), type(context).__name__\nassert 'canary' in x")
    root = script("hm", quiet, code("y = 1 / 0", then="FINAL_VAR(x)"), code("print(context)"), "FINAL(done)")
    result = await run(root, context=context, sub=ScriptedProvider(lambda _: ""))
    assert result.answer == "done"
    seen = [CANARY in all_shown(_up_to(root, number)) for number in range(5)]
    assert seen == [False, False, False, False, True]


def _up_to(root: ScriptedProvider, number: int) -> ScriptedProvider:
    """The root as it was after so many requests."""
    earlier = script()
    earlier.requests = root.requests[number : number + 1]
    return earlier


async def test_a_files_name_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / f"{CANARY}.txt"
    file.write_text("text")
    root = script(
        code("import os\nprint(os.listdir('/context'), [v for v in globals().values() if v == 'x'])"), "FINAL(x)"
    )
    await run(root, context=file)
    assert CANARY not in all_shown(root)
    assert str(tmp_path) not in all_shown(root)


# --- keys ---


DUMP = """
import glob, os
found = [repr(os.environ)]
for path in glob.glob("/proc/*/environ") + glob.glob("/proc/*/cmdline") + ["/proc/mounts"]:
    try:
        found.append(open(path, errors="replace").read())
    except OSError:
        pass
FINAL("\\n".join(found))
"""


async def test_keys_are_not_in_the_box_nor_in_requests_traces_or_reprs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY + "2")
    sub = OpenAIInterface(model="some-model")
    root = script(code(DUMP))
    rlm = RLM(root, sub, trace_dir=tmp_path, keep_text=True)
    result = await rlm.arun("What?", "context")
    assert "PATH" in (result.answer or "")
    (trace,) = tmp_path.iterdir()
    told = [result.answer, all_shown(root), trace.read_text(), repr(result), repr(rlm), repr(sub), repr(vars(rlm))]
    assert not [text for text in told if KEY in str(text)]


# --- traces and logs ---


FIELDS = {
    "run_start": {"format", "root", "sub", "prompt_mode", "observe", "isolation", "context", "limits", "question"}
    | {"documents", "policies", "policy_summaries", "prices", "models"}
    | {"started_at", "tools"},
    "turn": {"turn", "finish_reason", "wall_s", "usage", "kept", "response", "sent"},
    "cell_start": {"turn", "cell", "code"},
    "sub_call": {"turn", "model", "error_kind", "usage", "wall_s", "prompt", "data", "reply", "error"}
    | {"depth", "left", "name", "cached", "cell", "call", "child_run"},
    "cell": {"turn", "cell", "status", "wall_s", "waited_s", "stdout_chars", "stderr_chars", "result_chars"}
    | {"clock", "lost_because", "late_chars", "answered", "output", "error"},
    "budget": {"turn", "left"},
    "box_lost": {"turn", "because"},
    "setup": {"doing"},
    "run_end": {"stop_reason", "usage", "answer", "failure", "policy_decisions", "redactions", "redactions_in_trace"}
    | {"answer_kind", "valid", "stop_detail"},
}
TEXTS = {"question", "response", "prompt", "data", "reply", "error", "output", "answer", "sent"}
SENT = re.compile(r"sent_[0-9]+_(system|user|assistant)_(?=chars$|digest$)")
"""Each message that the root had not been sent before; here all of them count as one text."""

DOCUMENT, QUESTION, PROMPT = "document-canary", "question-canary", "prompt-canary"
REPLY, OUTPUT, ERROR, PROSE, ANSWER = "reply-canary", "output-canary", "error-canary", "prose-canary", "answer-canary"

WORK = """
print(context, 'OUTPUT-canary'.lower())
print(llm_query('PROMPT-canary'.lower(), data=context))
try:
    llm_query('fail')
except ProviderError:
    pass
raise ValueError('ERROR-canary'.lower())
"""


async def traced(tmp_path: Path, *, keep_text: bool) -> Path:
    def answer(request: Any) -> str:
        if request.messages[-1].content == "fail":
            raise ValueError(f"{ERROR} of the provider")
        return f"{REPLY} {len(request.messages[-1].content)}"

    root = script(f"{PROSE}\n{code(WORK)}", code("import os\nos._exit(1)"), f"FINAL({ANSWER})")
    rlm = RLM(root, ScriptedProvider(answer), trace_dir=tmp_path, keep_text=keep_text)
    result = await rlm.arun(f"{QUESTION}?", f"{DOCUMENT} text")
    assert result.answer == ANSWER
    assert DOCUMENT in shown(root, 1)
    (trace,) = tmp_path.iterdir()
    assert trace.stat().st_mode & 0o777 == 0o600
    return trace


CANARIES = (DOCUMENT, QUESTION, PROMPT, REPLY, OUTPUT, ERROR, PROSE, ANSWER)


async def test_the_trace_holds_code_and_sizes_and_no_text(tmp_path: Path) -> None:
    trace = await traced(tmp_path, keep_text=False)
    raw = trace.read_text()
    assert [canary for canary in CANARIES if canary in raw] == []
    events = [json.loads(line) for line in raw.splitlines()]
    assert events[0]["format"] == FORMAT
    assert [event["kind"] for event in events if event["kind"] not in ("setup", "box")] == [
        *("run_start", "turn", "cell_start", "sub_call", "sub_call", "cell", "budget"),
        *("turn", "cell_start", "cell", "box_lost", "budget", "turn", "budget", "run_end"),
    ]
    for event in events:
        if event["kind"] == "box":
            continue  # what the audit of the box says: tests/attack
        fields = {SENT.sub("sent_", field) for field in event}
        named = {name for name in TEXTS if f"{name}_chars" in fields}
        plain = (
            fields - {"previous", "kind", "t_s"} - {f"{name}_{what}" for name in named for what in ("chars", "digest")}
        )
        assert plain | named <= FIELDS[event["kind"]], event["kind"]
        assert FIELDS[event["kind"]] - TEXTS - {"format"} <= plain, event["kind"]
    cell = next(event for event in events if event["kind"] == "cell")
    assert (cell["status"], cell["answered"], cell["clock"]) == ("error", False, None)
    assert cell["stdout_chars"] > len(DOCUMENT) + len(REPLY)
    assert next(event for event in events if event["kind"] == "cell_start")["code"].strip() == WORK.strip()
    called = next(event for event in events if event["kind"] == "sub_call")
    assert called["usage"]["input_tokens"] > 0
    assert called["data_chars"] == len(f"{DOCUMENT} text")
    assert events[-1]["usage"]["sub_calls"] == 2
    assert events[-1]["stop_reason"] == "answered"


async def test_the_trace_holds_all_text_where_it_was_asked_for(tmp_path: Path) -> None:
    raw = (await traced(tmp_path, keep_text=True)).read_text()
    assert [canary for canary in CANARIES if canary not in raw] == []
    events = [json.loads(line) for line in raw.splitlines()]
    assert {event["reply"] for event in events if "reply" in event} != set()


async def test_logs_hold_sizes_and_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Law 4: nothing from the box is logged whole. Not even at the most talkative level."""
    caplog.set_level(logging.DEBUG)
    await traced(tmp_path, keep_text=False)
    ours = [record.getMessage() + str(record.exc_info or "") for record in caplog.records]
    assert [line for line in ours for canary in CANARIES if canary in line] == []


async def test_no_word_of_the_document_is_in_the_trace_of_a_session_in_trouble(tmp_path: Path) -> None:
    """Errors, names, a model's name, a change of strategy, a summary, a lost box whose cells run again."""
    take = f"w = context[:{len(CANARY)}]\n"
    quietly = "try:\n    {}\nexcept Exception as error:\n    print(error)"
    troubles = [
        "raise type(w, (Exception,), {})(w)",
        "globals()[w] = 1\nraise KeyError(w)",  # the second failure: the next strategy
        quietly.format("llm_query('x', model=w)"),
        quietly.format("llm_query(w, data=w)"),
        *(f"print(w * {number})" for number in range(1400, 1408)),
        "import os\nos._exit(1)",
        "FINAL(w)",
    ]
    root = script(*(code(take + trouble) for trouble in troubles), *["FINAL(a summary or an answer)"] * 9)
    rlm = RLM(
        root,
        script(CANARY),
        root_window_tokens=60_000,
        trace_dir=tmp_path,
        on_kill="replay",
        strategies=[Strategy(note="again")],
        limits=Limits(max_failed_cells=2),
    )
    async with rlm.session(CANARY * 5_000, more=["b"]) as session:
        for _ in range(2):
            await session.ask("What?")
    text = next(tmp_path.iterdir()).read_text()
    kinds = {json.loads(line)["kind"] for line in text.splitlines()}
    assert {"refusal", "sub_call", "strategy", "compaction", "box_lost", "replayed"} <= kinds
    assert CANARY in all_shown(root)
    assert CANARY not in text
