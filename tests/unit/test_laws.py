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
from pathlib import Path

import pytest

from orchestrator.errors import LimitExceeded, ProviderError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.permit import Permit
from orchestrator.progress import ProgressPrinter
from orchestrator.providers.base import Message, ModelReply, ModelRequest, TokenUsage
from orchestrator.recorder import Recorder
from orchestrator.result import StopReason, SubCall
from sandbox import messages, protocol
from sandbox.errors import ProtocolViolation
from sandbox.spec import KernelSettings
from sandbox.terms import Terms
from tests.conftest import REPOSITORY


def trees(root: Path) -> Iterator[tuple[str, ast.Module]]:
    for zone in ("orchestrator", "sandbox"):
        for file in sorted((root / zone).rglob("*.py")):
            yield file.relative_to(root).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


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


CALLERS = {"orchestrator/gate.py", "orchestrator/providers/direct.py"}
"""The second is `llm.query(prompt)` of a caller's own, outside of any run."""


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
    await door.handle("What?", None)
    assert len(model.reserved) == 2
    assert all(min(reserved) > 0 for reserved in model.reserved)


async def test_law_1_without_a_permit_the_provider_is_not_called() -> None:
    ledgers = family(max_tokens=10)
    model = Model(ledgers)
    with pytest.raises(LimitExceeded):
        await gate(model, ledgers[0]).ask_root(QUESTION)
    assert isinstance(await gate(model, ledgers[0]).handle("What?", None), messages.SubCallFailure)
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
        await (door.handle("What?", None) if sub_call else door.ask_root(QUESTION))

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


async def test_law_2_an_ancestor_can_refuse() -> None:
    top = Ledger(Limits(max_sub_calls=1))
    child = Ledger(Limits(max_sub_calls=50), parent=top)
    model = Model([child])
    door = gate(model, child)
    answers = [await door.handle("What?", None) for _ in range(2)]
    assert answers == ["yes", messages.SubCallFailure("LimitExceeded", "1 of 1 sub-calls used")]
    assert top.refusals == 1


# --- 3. Identity comes from the host, never from a message. ---


def test_law_3_a_sub_call_has_no_field_for_identity() -> None:
    fields = {field.name for field in dataclasses.fields(messages.Query)}
    assert fields == {"call_id", "indexes", "prompts", "data", "child"}, "child is its kind, not whose it is"
    assert list(inspect.signature(Gate.handle).parameters) == ["self", "prompt", "data"]


def comm(data: dict[str, object], *, comm_id: str = "ours") -> messages.Message:
    header, content = {"msg_type": "comm_msg"}, {"comm_id": comm_id, "data": data}
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
    terms = Terms.of("ours", KernelSettings())
    return protocol.decode(messages.IOPUB, [b"<IDS|MSG>", b"", *parts, b"prompt"], terms)


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
    assert comm({**QUERY, **claims}) == comm(QUERY) == messages.Query("0" * 32, (0,), ("prompt",), (None,))


@pytest.mark.parametrize("kind", ["child", "tool", "model", "", None, 5])
def test_law_3_a_message_of_no_declared_kind_is_a_violation(kind: object) -> None:
    with pytest.raises(ProtocolViolation):
        comm({**QUERY, "kind": kind})


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
