"""Policies in whole runs: in real boxes, on every way an answer can be given, and in the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator import (
    RLM,
    Canary,
    EgressLimit,
    Limits,
    ModelAllowList,
    ProviderError,
    REPLEnvironment,
    SecretsRedaction,
    StopReason,
)
from orchestrator.audit_log import verify_trace
from orchestrator.cli.exits import ExitCode
from orchestrator.policies.base import Allow, Decision, FinalAnswer, IncomingReply, OutgoingRequest, Policy, Refuse
from orchestrator.policies.secrets import PLACE
from orchestrator.providers.base import ModelRequest
from orchestrator.providers.scripted import ScriptedProvider
from orchestrator.trace import TraceEvent, TraceFile, text_digest
from tests.conftest import REPOSITORY
from tests.runs import CONTEXT, all_shown, boxes_left, code, run, script, shown

KEY = "AKIA" + "ABCDEFGH" * 2
DOCUMENT = f"one\naws = {KEY}\nthree\n"


class Forbids(Policy):
    """Refuses answers that hold a word."""

    def __init__(self, word: str) -> None:
        self._word = word
        self.partial: list[bool] = []

    def on_answer(self, answer: FinalAnswer) -> Decision:
        self.partial.append(answer.partial)
        return Refuse("the word is forbidden") if self._word in answer.text else Allow()


class Raises(Policy):
    """Its author made a mistake."""

    def on_request(self, request: OutgoingRequest) -> Decision:
        raise ValueError("the author's mistake")


class NoCode(Policy):
    """Refuses replies with this word in them."""

    def on_reply(self, reply: IncomingReply) -> Decision:
        return Refuse("dangerous code") if "rmtree" in reply.text else Allow()


# --- the answer, however it is given ---


ANSWERS = {
    "FINAL in text": ["FINAL(alpha says so)"],
    "FINAL_VAR in text": [code("v = 'alpha says so'"), "FINAL_VAR(v)"],
    "FINAL_VAR beside code": [code("v = 'alpha says so'", then="FINAL_VAR(v)")],
    "FINAL called": [code("FINAL(context[:5])")],
    "FINAL_VAR called": [code("v = context[:5]\nFINAL_VAR('v')")],
    "partial at the turn limit": [code("1", then="FINAL(alpha)")],
    "partial at the token limit": [code("1", then="FINAL(alpha)"), "x" * 10_000],
}


@pytest.mark.parametrize("way", ANSWERS)
async def test_no_answer_passes_by_a_policy(way: str) -> None:
    policy = Forbids("alpha")
    partial = way.startswith("partial")
    limits = Limits(max_turns=1) if "turn" in way else Limits()
    if "token" in way:
        limits = Limits(max_tokens=25_000)
    result = await run(script(*ANSWERS[way]), policies=[policy], limits=limits)
    assert (result.answer, result.stop_reason) == (None, StopReason.POLICY_REFUSED)
    assert policy.partial == [partial]
    (decision,) = result.decisions
    assert (decision.policy, decision.hook, decision.action, decision.reason) == (
        "Forbids",
        "on_answer",
        "refuse",
        "the word is forbidden",
    )
    allowed = await run(script(*ANSWERS[way]), policies=[Forbids("zulu")], limits=limits)
    assert "alpha" in (allowed.answer or "")
    assert boxes_left() == []


async def test_a_partial_answer_of_a_run_that_fails_does_not_pass_either() -> None:
    root = script(code("1", then="FINAL(alpha)"), ProviderError("broke", provider="p"))
    with pytest.raises(ProviderError) as failed:
        await run(root, policies=[Forbids("alpha")])
    result = failed.value.result
    assert result is not None
    assert (result.answer, result.stop_reason) == (None, StopReason.PROVIDER_ERROR)


async def test_an_answer_is_redacted() -> None:
    result = await run(script(code("FINAL(context)")), context=DOCUMENT, policies=[SecretsRedaction(answers=True)])
    assert result.answer == f"one\naws = {PLACE}\nthree\n"
    assert result.redactions == {"answer": 1}


# --- the root ---


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (ModelAllowList(["openai:other"]), "the model 'scripted:replies' is not allowed at depth 0"),
        (Raises(), "on_request failed: ValueError"),
        (EgressLimit(0.001, floor_bytes=10), "0 of 10 bytes have been sent to providers"),
    ],
)
async def test_a_refused_root_ends_the_run_before_anything_is_sent(policy: Policy, reason: str) -> None:
    root = script("FINAL(x)")
    result = await run(root, policies=[policy])
    assert (result.answer, result.stop_reason, root.requests) == (None, StopReason.POLICY_REFUSED, [])
    assert (result.usage.total_tokens, result.usage.root_calls) == (0, 0)
    assert result.decisions[-1].reason.startswith(reason)
    assert boxes_left() == []


async def test_refused_code_does_not_run() -> None:
    root = script(code("seen = 1", then="FINAL(partial)"), code("import shutil; shutil.rmtree('/tmp')"))
    result = await run(root, policies=[NoCode()])
    assert (result.answer, result.stop_reason) == (None, StopReason.POLICY_REFUSED)
    assert [len(turn.cells) for turn in result.turns] == [1]


async def test_secrets_of_the_document_reach_no_model() -> None:
    asks = code("print(context)\nprint(llm_query(f'about {context}', data=context))")
    root, sub = script(asks, asks, "FINAL(x)"), ScriptedProvider(lambda request: request.messages[-1].content)
    result = await run(root, sub=sub, context=DOCUMENT, policies=[SecretsRedaction(prompts=True)])
    assert KEY not in all_shown(root)
    assert KEY not in all_shown(sub)
    assert PLACE in shown(root)
    assert result.redactions == {"prompts": 2 * 2 + 2}, "two in each sub-call, one in each output, each once"
    assert KEY in result.turns[0].cells[0].output, "the caller's own copy of what happened is not changed"


# --- sub-calls ---


async def test_a_refused_sub_call_is_an_exception_of_its_own_in_the_cell() -> None:
    asks = """
try:
    llm_query("What?", data=context)
except PolicyRefused as error:
    print(type(error).__name__, isinstance(error, SubCallError), error)
results = llm_query_batched(["a", "b"], return_exceptions=True)
print([type(result).__name__ for result in results])
"""
    root, sub = script(code(asks), "FINAL(x)"), script("never")
    result = await run(root, sub=sub, policies=[ModelAllowList({0: ["scripted:replies"]})])
    said = "ModelAllowList: the model 'scripted:replies' is not allowed at depth 1"
    assert result.turns[0].cells[0].output == f"PolicyRefused True {said}\n['PolicyRefused', 'PolicyRefused']"
    assert sub.requests == []
    assert (result.usage.sub_calls, result.usage.refusals, result.decision_count) == (0, 3, 3)


async def test_the_egress_limit_counts_the_whole_run() -> None:
    asks = code("for start in range(0, len(context), 500):\n    llm_query('x', data=context[start:start + 500])")
    limit = EgressLimit(1.0, floor_bytes=20_000)
    root, sub = script(asks, asks, "FINAL(x)"), ScriptedProvider(lambda _: "ok")
    result = await run(root, sub=sub, context=CONTEXT * 100, policies=[limit])
    sent = sum(
        message.size_bytes for model in (root, sub) for request in model.requests for message in request.messages
    )
    assert sent <= 100 * len(CONTEXT)
    assert result.turns[0].cells[0].status == "error"
    assert result.decisions[0].reason.endswith("more")
    assert result.stop_reason in (StopReason.POLICY_REFUSED, StopReason.ANSWERED)


async def test_the_repl_alone_asks_the_same_policies() -> None:
    sub = ScriptedProvider(lambda request: request.messages[-1].content)

    def drive() -> tuple[Any, Any, Any]:
        policies = [SecretsRedaction(prompts=True), ModelAllowList({1: [sub.name]})]
        with REPLEnvironment(DOCUMENT, sub, policies=policies) as repl:
            output = repl.execute("print(llm_query(context))")
            return output, repl.decisions, repl.sub_calls

    import asyncio

    output, decisions, calls = await asyncio.to_thread(drive)
    assert output == (DOCUMENT.replace(KEY, PLACE).rstrip("\n"), True)
    assert [(decision.policy, decision.action) for decision in decisions] == [("SecretsRedaction", "redact")]
    assert len(calls) == 1


# --- the canary ---


async def test_a_root_that_tells_its_system_prompt_is_stopped() -> None:
    def obedient(request: ModelRequest) -> str:
        return f"FINAL({request.messages[0].content})"

    result = await run(ScriptedProvider(obedient), policies=[Canary()])
    assert (result.answer, result.stop_reason) == (None, StopReason.POLICY_REFUSED)
    assert result.decisions[-1].hook == "on_reply"


async def test_a_mark_that_a_cell_puts_together_is_seen_in_its_output_or_its_sub_call() -> None:
    """The reply holds the mark reversed, which nobody sees; the cell turns it round."""

    def reversing(request: ModelRequest) -> str:
        turned = request.messages[0].content.split()[-1][::-1]
        return code(
            f"mark = '{turned}'[::-1]\ntry:\n    llm_query(mark)\nexcept PolicyRefused:\n    print(mark.upper())"
        )

    root = ScriptedProvider(reversing)
    result = await run(root, policies=[Canary()], sub=script("never"))
    assert result.stop_reason is StopReason.POLICY_REFUSED
    assert [(decision.hook, decision.role) for decision in result.decisions] == [
        ("on_request", "sub"),
        ("on_request", "root"),
    ]
    assert len(root.requests) == 1


# --- what is recorded ---


async def test_the_result_lists_what_was_read_and_what_reached_the_cells() -> None:
    asks = code("a = llm_query('1')\nb = llm_query_batched(['2', '3'])")
    result = await run(
        script(asks, "FINAL(x)"),
        sub=ScriptedProvider(lambda request: f"reply to {request.messages[-1].content}"),
        context={"a.txt": "one", "b.txt": "two!"},
    )
    assert [(d.name, d.kind, d.size_bytes, d.loaded) for d in result.documents] == [
        ("a.txt", "text", 3, True),
        ("b.txt", "text", 4, True),
    ]
    assert [(reply.turn, reply.size_bytes) for reply in result.sub_replies] == [(1, 10)] * 3
    assert result.isolation in ("container", "gvisor")
    assert (result.violations, result.decisions, result.redactions, result.trace) == ((), (), {}, None)


async def test_in_quarantine_the_result_lists_the_values_that_reached_the_root() -> None:
    cell = code("declare_labels('spam', 'ham')\nn = len(context)\nkind = 'spam'\nreport(n=n, kind=kind, t=context[:9])")
    result = await run(script(cell, "FINAL(x)"), observe="typed")
    assert result.turns[0].values == [("n", len(CONTEXT)), ("kind", "spam")]


async def test_the_trace_of_a_run_is_its_audit_log(tmp_path: Path) -> None:
    asks = code(
        f"print(llm_query('short', data=context))\nkey = '{KEY}'\n"
        "try:\n    llm_query('forbidden')\nexcept SubCallError: pass"
    )

    class Some(Policy):
        def on_request(self, request: OutgoingRequest) -> Decision:
            return Refuse("forbidden") if request.text == "forbidden" else Allow()

    root, sub = script(asks, "FINAL(yes)"), ScriptedProvider(lambda _: "the sub-reply")
    result = await run(root, sub=sub, context=DOCUMENT, trace_dir=tmp_path, policies=[Some()])
    assert result.trace is not None
    verdict = verify_trace(Path(result.trace.path), anchor=result.trace.head)
    assert (verdict.problem, verdict.ended) == (None, True)
    raw = Path(result.trace.path).read_text()
    for text in (KEY, "the sub-reply", "three"):
        assert text not in raw, text
    records: dict[str, list[dict[str, Any]]] = {}
    for line in raw.splitlines():
        records.setdefault(json.loads(line)["kind"], []).append(json.loads(line))
    (start,), (box,), (call,), (refusal,), (policy,), (end,) = (
        records[kind] for kind in ("run_start", "box", "sub_call", "refusal", "policy", "run_end")
    )
    assert start["documents"][0]["sha256"] == result.documents[0].sha256
    assert start["policies"] == ["Some"]
    assert box["image"].startswith("sha256:")
    assert set(box["controls"].values()) <= {"held", "not checked"}
    assert list(box["controls"].values()).count("held") == box["held"] > 20
    assert (call["model"], call["depth"], call["usage"]["input_tokens"] > 0) == ("scripted:replies", 1, True)
    assert call["left"]["sub_calls"] == 99
    assert call["prompt_digest"] == text_digest("short", result.trace.digest_key)
    assert (refusal["error_kind"], refusal["asked_chars"]) == ("PolicyRefused", 9)
    assert (policy["policy"], policy["action"], policy["role"]) == ("Some", "refuse", "sub")
    assert (end["stop_reason"], end["policy_decisions"], end["redactions_in_trace"]) == ("answered", 1, 1)
    assert result.trace.redactions == 1


async def test_kept_text_is_redacted_unless_asked_otherwise(tmp_path: Path) -> None:
    for redact in (True, False):
        folder = tmp_path / str(redact)
        result = await run(
            script(code("print(context)"), "FINAL(x)"),
            context=DOCUMENT,
            trace_dir=folder,
            keep_text=True,
            redact_trace=redact,
        )
        assert result.trace is not None
        raw = Path(result.trace.path).read_text()
        assert "three" in raw
        assert (KEY in raw) == (not redact)
        assert (result.trace.redactions > 0) == redact


async def test_an_error_that_is_none_of_ours_has_a_reason_of_its_own(tmp_path: Path) -> None:
    class Full(TraceFile):
        """A trace on a disk that is full from the first turn on, but for a last line."""

        def __call__(self, event: TraceEvent) -> None:
            if event.kind == "turn":
                raise OSError("no space left")
            super().__call__(event)

    trace = Full(tmp_path, keep_text=False)
    with pytest.raises(OSError, match="no space"):
        await RLM(script("FINAL(x)")).arun("What?", CONTEXT, listeners=[trace])
    trace.close()
    end = json.loads(trace.path.read_text().splitlines()[-1])
    assert (end["kind"], end["stop_reason"], end["failure"]) == ("run_end", "internal_error", "OSError")
    assert boxes_left() == []


# --- the command ---


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a document and a state directory of its own."""
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doc.txt").write_text(DOCUMENT)
    return tmp_path


def ask(replies: list[str], *options: str, model: str = "model.py") -> subprocess.CompletedProcess[str]:
    Path("model.py").write_text(f"REPLIES = {replies!r}")
    line = [sys.executable, "-m", "orchestrator.cli.main", "ask", "doc.txt", "-q", "Which?", *options]
    done = subprocess.run([*line, "--model", f"scripted:{model}"], capture_output=True, text=True, check=False)
    print(done.stderr)
    return done


@pytest.mark.usefixtures("desk")
def test_a_refused_run_has_its_own_message_and_code() -> None:
    limits = ("--max-egress", "0.0001", "--max-tokens", "unlimited")
    Path("talks.py").write_text(
        "import itertools\nnumbers = itertools.count()\n"
        "def reply(request):\n    return f'```repl\\nprint({next(numbers)})\\n```\\n' + 'x' * 60_000\n"
    )
    done = ask([], *limits, "--json", model="talks.py")
    record = json.loads(done.stdout)
    assert (done.returncode, record["answer"], record["stop_reason"]) == (ExitCode.POLICY, None, "policy_refused")
    assert record["stop_detail"].startswith("EgressLimit: ")
    assert record["stop_detail"].endswith(" more")
    assert record["error"] == f"a policy refused: {record['stop_detail']}"
    assert f"airlock: {record['error']}; there is no answer\n" in done.stderr
    assert "airlock: policies refused once: EgressLimit: " in done.stderr
    assert "airlock: policies: EgressLimit of 4,194,304 bytes (the floor; 0.0001 x " in done.stderr
    end = json.loads(Path(record["trace"]).read_text().splitlines()[-1])
    assert end["stop_detail"] == record["stop_detail"]
    assert ask(["FINAL(x)"], "--allow-model", "scripted:model.py").stdout == "x\n"


@pytest.mark.usefixtures("desk")
def test_redactions_are_counted_and_shown() -> None:
    show = "```repl\nprint(context)\n```"
    done = ask([show, "FINAL(x)"], "--redact-prompts", "--keep", "--json")
    record = json.loads(done.stdout)
    assert record["redactions"] == {"prompts": 1}
    assert record["documents"][0]["size_bytes"] == len(DOCUMENT)
    assert "airlock: redacted: 1 in the prompts, 1 in the trace\n" in done.stderr
    assert KEY not in Path(record["trace"]).read_text()
    assert len(record["trace_digest_key"]) == 32


@pytest.mark.usefixtures("desk")
def test_egress_and_canary_stop_a_run() -> None:
    wide = "```repl\nfor _ in range(99): llm_query('x', data=context * 30_000)\n```"
    done = ask([wide, *["ok"] * 99], "--max-egress", "1.5")
    assert done.returncode == ExitCode.LIMIT, "the root, which can go on, sends neither code nor answer"
    assert "EgressLimit: " in done.stderr
    Path("tells.py").write_text("def reply(request):\n    return 'FINAL(' + request.messages[0].content + ')'")
    line = [sys.executable, "-m", "orchestrator.cli.main", "ask", "doc.txt", "-q", "Which?", "--canary", "--quiet"]
    done = subprocess.run([*line, "--model", "scripted:tells.py"], capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.POLICY
    assert done.stderr == (
        "airlock: a policy refused: Canary: the system prompt's mark stands in a reply of the root model; "
        "there is no answer\n"
    )
