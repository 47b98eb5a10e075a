"""The four laws of the design, one section each. What needs a box is in tests/container."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import io
import json
import shutil
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from orchestrator import RLM, ScriptedProvider
from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.gate import Gate
from orchestrator.journal import Journal
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.memory import RunMemory
from orchestrator.permit import Permit
from orchestrator.progress import ProgressPrinter
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage
from orchestrator.recorder import Recorder
from orchestrator.reply_cache import ReplyCache, TreeCache
from orchestrator.result import StopReason, SubCall
from orchestrator.tree_memory import TreeMemory
from sandbox import messages, protocol
from sandbox.errors import ProtocolViolation
from sandbox.messages import Asked
from sandbox.spec import KernelSettings
from sandbox.terms import Terms
from sandbox.tools import NO_TOOLS, Tools, ToolSpec
from tests.conftest import REPOSITORY


def trees(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for zone in ("orchestrator", "sandbox"):
        for file in sorted((root / zone).rglob("*.py")):
            yield file.relative_to(root).as_posix(), parsed(file.read_text(encoding="utf-8"))


@cache
def parsed(source: str) -> ast.Module:
    """Nobody changes it."""
    return ast.parse(source)


def files_that_call(root: Path, *names: str) -> set[str]:
    """Files with a call of one of these functions or methods, or that pass such a method on."""
    return {
        file
        for file, tree in trees(root)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in names and isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names)
    }


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    for zone in ("orchestrator", "sandbox"):
        shutil.copytree(REPOSITORY / zone, tmp_path / zone, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


class Model:
    """A provider that does as it is told."""

    name = "model"
    max_output_tokens = 100

    def __init__(self, ledgers: list[Ledger], outcome: str = "ok") -> None:
        self._ledgers = ledgers
        self._outcome = outcome
        self.reserved: list[list[int]] = []
        self.started = asyncio.Event()

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.reserved.append([ledger.reserved_tokens for ledger in self._ledgers])
        self.started.set()
        match self._outcome:
            case "fail":
                raise ProviderError("broke", provider=self.name)
            case "refuse":
                raise ProviderError("no", provider=self.name, status=401, refused=True)
            case "crash":
                raise RuntimeError("a bug")
            case "hang":
                await asyncio.sleep(3600)
        return ModelReply(text="yes", usage=TokenUsage(input_tokens=7, output_tokens=3))


def family(**limits: int) -> list[Ledger]:
    """A ledger, its parent and its grandparent, in this order."""
    top = Ledger(Limits(**limits))
    middle = Ledger(Limits(**limits), parent=top)
    return [Ledger(Limits(**limits), parent=middle), middle, top]


def gate(model: Model, ledger: Ledger) -> Gate:
    return Gate(root=model, sub=model, limits=Limits(), ledger=ledger, recorder=Recorder())


QUESTION = [Message(role="user", content="What?")]


# --- 1. No provider call without a permit. The gate alone holds the providers. ---


CALLERS = {"orchestrator/attempt.py", "orchestrator/providers/direct.py", "orchestrator/providers/recording.py"}
"""The second is `llm.query(prompt)` of a caller's own, outside of any run; the third stands in front of a model: who
calls it has the permit.
"""


def test_law_1_only_the_gate_calls_a_provider(copied_tree: Path) -> None:
    assert files_that_call(REPOSITORY, "complete") == CALLERS
    for planted in ("await provider.complete(request)", "call = provider.complete"):
        (copied_tree / "orchestrator" / "new.py").write_text(f"async def f(provider, request):\n    {planted}\n")
        assert files_that_call(copied_tree, "complete") == CALLERS | {"orchestrator/new.py"}


def test_law_1_no_run_uses_the_door_of_direct_queries() -> None:
    users = {
        file
        for file, tree in trees(REPOSITORY)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "orchestrator.providers.direct"
    }
    assert users == {"orchestrator/providers/scripted.py", "orchestrator/providers/sdk.py"}


async def test_law_1_each_attempt_has_its_permit_when_it_starts() -> None:
    ledgers = family()
    model = Model(ledgers)
    door = gate(model, ledgers[0])
    await door.ask_root(QUESTION)
    await door.handle(Asked("What?"))
    assert len(model.reserved) == 2
    assert all(min(reserved) > 0 for reserved in model.reserved)


async def test_law_1_whoever_steps_in_has_its_permit_and_a_cached_reply_is_no_call() -> None:
    ledgers = family()
    out, there = Model(ledgers, "refuse"), Model(ledgers)
    out.name = "another"
    cache = TreeCache(ReplyCache(), max_reply_bytes=1000)
    limits, recorder = Limits(), Recorder()
    door = Gate(root=out, sub=out, fallback=[there], cache=cache, limits=limits, ledger=ledgers[0], recorder=recorder)
    assert [await door.handle(Asked("What?")) for _ in range(2)] == ["yes", "yes"]
    assert [len(model.reserved) for model in (out, there)] == [1, 1]
    assert all(min(reserved) > 0 for reserved in out.reserved + there.reserved)
    assert [(ledger.sub_calls, ledger.spent_tokens) for ledger in ledgers] == [(2, 10)] * 3


async def test_law_1_without_a_permit_the_provider_is_not_called() -> None:
    ledgers = family(max_tokens=10)
    model = Model(ledgers)
    with pytest.raises(LimitExceeded):
        await gate(model, ledgers[0]).ask_root(QUESTION)
    assert isinstance(await gate(model, ledgers[0]).handle(Asked("What?")), messages.SubCallFailure)
    assert model.reserved == []


# --- 2. A permit is settled exactly once, also on cancellation and on failure, and charges every ancestor. ---


@pytest.fixture
def settlings(monkeypatch: pytest.MonkeyPatch) -> list[Permit]:
    """Each permit that was settled, once for each time."""
    settled: list[Permit] = []
    settle = Permit._settle

    def count(permit: Permit, usage: TokenUsage, cost_usd: Decimal | None) -> None:
        settled.append(permit)
        settle(permit, usage, cost_usd)

    monkeypatch.setattr(Permit, "_settle", count)
    return settled


@pytest.mark.parametrize("sub_call", [True, False])
@pytest.mark.parametrize("outcome", ["ok", "fail", "refuse", "crash", "hang"])
async def test_law_2_a_permit_is_settled_once_and_charges_every_ancestor(
    outcome: str, sub_call: bool, settlings: list[Permit]
) -> None:
    ledgers = family()
    model = Model(ledgers, outcome)
    door = gate(model, ledgers[0])

    async def call() -> None:
        await (door.handle(Asked("What?")) if sub_call else door.ask_root(QUESTION))

    task = asyncio.create_task(call())
    await model.started.wait()
    if outcome == "hang":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert len(settlings) == len(model.reserved) == 1
    assert [ledger.reserved_tokens for ledger in ledgers] == [0, 0, 0]
    (reserved,) = {reserved for attempt in model.reserved for reserved in attempt}
    charged = {"ok": 10, "refuse": 0}.get(outcome, reserved)
    assert [ledger.spent_tokens for ledger in ledgers] == [charged] * 3
    assert [ledger.estimated_tokens for ledger in ledgers] == [0 if outcome in ("ok", "refuse") else charged] * 3
    counted = [(ledger.sub_calls, ledger.root_calls) for ledger in ledgers]
    assert counted == [(sub_call, not sub_call), (1, 0), (1, 0)], "to a run above, a child's root is a sub-model"


@pytest.mark.parametrize("sub_call", [True, False])
async def test_law_2_a_permit_is_settled_where_the_attempt_can_not_be_written_down(
    sub_call: bool, tmp_path: Path, settlings: list[Permit]
) -> None:
    ledgers = family()
    model = Model(ledgers)
    settings = RLM(ScriptedProvider([])).settings
    journal = Journal.create(tmp_path / "j", question="What?", context="", settings=settings, files=())
    memory = RunMemory(TreeMemory(journal, ledgers[0]), 0, ledgers[0], lambda: (1, 1))
    journal.trace.close()  # whatever is written now fails, as it does on a full disk
    door = Gate(root=model, sub=model, limits=Limits(), ledger=ledgers[0], recorder=Recorder(), memory=memory)
    with pytest.raises(ValueError, match="closed"):
        await (door.handle(Asked("What?")) if sub_call else door.ask_root(QUESTION))
    assert model.reserved == []
    assert len(settlings) == 1
    assert [ledger.reserved_tokens for ledger in ledgers] == [0, 0, 0]


async def test_law_2_an_ancestor_can_refuse() -> None:
    top = Ledger(Limits(max_sub_calls=1))
    child = Ledger(Limits(max_sub_calls=50), parent=top)
    model = Model([child])
    door = gate(model, child)
    answers = [await door.handle(Asked("What?")) for _ in range(2)]
    assert answers == ["yes", messages.SubCallFailure("LimitExceeded", "1 of 1 sub-calls used")]
    assert top.refusals == 1


# --- 3. Identity comes from the host, never from a message. ---


def test_law_3_a_sub_call_has_no_field_for_identity() -> None:
    fields = {field.name for field in dataclasses.fields(messages.Query)}
    assert fields == {"call_id", "indexes", "asked", "child"}, "child is its kind, not whose it is"
    assert {field.name for field in dataclasses.fields(Asked)} == {"prompt", "data", "model"}
    assert list(inspect.signature(Gate.handle).parameters) == ["self", "asked"]


def comm(data: dict[str, object], *, comm_id: str = "ours", tools: Tools = NO_TOOLS) -> messages.Message:
    header, content = {"msg_type": "comm_msg"}, {"comm_id": comm_id, "data": data}
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
    terms = Terms.of("ours", KernelSettings(tools=tools))
    return protocol.decode(messages.CALLS, [b"<IDS|MSG>", b"", *parts, b"prompt"], terms)


QUERY: dict[str, object] = {"kind": "query", "id": "0" * 32, "indexes": [0], "has_data": [False]}


def test_law_3_what_a_message_claims_to_be_is_not_even_read() -> None:
    claims = {
        "depth": 0,
        "run": "another",
        "parent": None,
        "budget": 10**9,
        "model": "openai:gpt-6-astra",
        "tool": "sh",
    }
    assert comm({**QUERY, **claims}) == comm(QUERY) == messages.Query("0" * 32, (0,), (Asked("prompt"),))


@pytest.mark.parametrize("kind", ["child", "tool", "model", "", None, 5])
def test_law_3_a_message_of_no_declared_kind_is_a_violation(kind: object) -> None:
    with pytest.raises(ProtocolViolation):
        comm({**QUERY, "kind": kind})


async def test_law_3_a_message_names_at_most_a_model_that_the_host_gave() -> None:
    """The wire takes any short name, since honest cells write any: whether there is one of that name the gate knows."""
    query = comm({**QUERY, "models": ["openai:gpt-6-astra"]})
    assert isinstance(query, messages.Query)
    (ledger,) = family()[2:]
    model, given = Model([ledger]), Model([ledger])
    given.name = "openai:gpt-6-astra"
    door = Gate(root=model, sub=model, sub_llms={"given": given}, limits=Limits(), ledger=ledger, recorder=Recorder())
    (asked,) = query.asked
    assert isinstance(asked, Asked)
    refused = await door.handle(asked)
    assert isinstance(refused, messages.SubCallFailure)
    assert refused.kind == "UnknownModel"
    assert (model.reserved, given.reserved) == ([], [])
    assert await door.handle(Asked("What?", None, "given")) == "yes"
    assert len(given.reserved) == 1


def test_law_3_a_message_names_at_most_a_tool_that_the_host_gave() -> None:
    given = Tools(specs=(ToolSpec(name="lookup"),))
    called: dict[str, object] = {"kind": "tool", "id": "0" * 32, "name": "lookup"}
    assert comm(called, tools=given) == messages.Query("0" * 32, (0,), (messages.AskedTool("lookup", b"prompt"),))
    for name, tools in (("sh", given), ("lookup", NO_TOOLS)):
        with pytest.raises(ProtocolViolation, match="a tool that the host did not give"):
            comm(called | {"name": name}, tools=tools)


def test_law_3_a_message_in_anothers_name_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation, match="did not give"):
        comm(QUERY, comm_id="another box's")


# --- 4. Nothing from the box is executed, unpickled, imported, logged whole, or shown to a terminal unescaped. ---


EXECUTORS = ("exec", "eval", "compile", "__import__", "import_module", "run_path", "run_module")
EXECUTE = {
    "orchestrator/__init__.py": "names of this package, from a table",
    "orchestrator/providers/scripted.py": "the user's own script, named on their own command line",
}


def executors(root: Path) -> set[str]:
    """Files that execute, or import by name, what they are given. A regular expression is no program."""
    without_compile = [name for name in EXECUTORS if name != "compile"]
    by_name = {
        file
        for file, tree in trees(root)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "compile"
    }
    return files_that_call(root, *without_compile) | by_name


def unpicklers(root: Path) -> set[str]:
    names = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
    return {
        file
        for file, tree in trees(root)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and names & {(getattr(node, "module", None) or alias.name).partition(".")[0] for alias in node.names}
    }


def test_law_4_nothing_is_executed_or_imported_by_name_but_the_users_own(copied_tree: Path) -> None:
    assert executors(REPOSITORY) <= set(EXECUTE)
    for planted in ("eval(text)", "exec(compile(text, '', 'exec'))", "importlib.import_module(text)"):
        (copied_tree / "sandbox" / "new.py").write_text(planted)
        assert "sandbox/new.py" in executors(copied_tree)


def test_law_4_nothing_is_unpickled(copied_tree: Path) -> None:
    assert unpicklers(REPOSITORY) == set()
    for planted in ("import pickle", "from marshal import loads", "import shelve, yaml"):
        (copied_tree / "orchestrator" / "new.py").write_text(planted)
        assert unpicklers(copied_tree) == {"orchestrator/new.py"}


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r\nairlock: run ended"


@pytest.mark.parametrize("show_text", [True, False])
def test_law_4_nothing_reaches_a_terminal_unescaped(show_text: bool) -> None:
    stream = io.StringIO()
    recorder = Recorder([ProgressPrinter(stream, show_text=show_text)])
    recorder.emit(
        "run_start",
        {"root": HOSTILE, "sub": HOSTILE, "isolation": "container", "context": "a string", "limits": {}},
        question=HOSTILE,
    )
    reply = ModelReply(text=HOSTILE, usage=TokenUsage(input_tokens=1, output_tokens=1))
    turn = recorder.turn(reply, 0.1)
    cell = recorder.cell_starts(turn, HOSTILE)
    recorder.sub_call(SubCall(model=HOSTILE, prompt=HOSTILE, data=HOSTILE, reply=HOSTILE, usage=reply.usage))
    recorder.sub_call(SubCall(model=HOSTILE, prompt=HOSTILE, error_kind="ProviderError", error=HOSTILE))
    cell.output = cell.error = HOSTILE
    sizes = {"stdout_chars": 1, "stderr_chars": 0, "result_chars": 0, "clock": None}
    recorder.cell_ends(turn, cell, sizes)
    recorder.box_lost(turn, HOSTILE)
    recorder.run_ends(StopReason.ANSWERED, Ledger(Limits()).usage(turns=1, wall_s=1), HOSTILE)
    shown = stream.getvalue()
    assert shown.count("\n") > 5
    assert not set(shown) & set("\x1b\x07\x9b\u202e\r")
