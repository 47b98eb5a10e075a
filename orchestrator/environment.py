"""`REPLEnvironment`: the locked REPL alone, without a root model, for code of the caller's own."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from orchestrator.box_spec import spec_for
from orchestrator.documents import documents_of
from orchestrator.errors import BoxError
from orchestrator.gate import Gate
from orchestrator.intake import ContextMode, checked_mode, let_go, take_in_now
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits, merge_limits
from orchestrator.models import checked_sub_llms
from orchestrator.policies.base import Policy
from orchestrator.policies.chain import PolicyChain, checked_policies
from orchestrator.providers.base import LLMInterface, Provider
from orchestrator.providers.custom import as_provider
from orchestrator.providers.prices import Price, checked_prices
from orchestrator.recorder import Recorder
from orchestrator.rendering import plain_output, truncate_output
from orchestrator.repl import SUB_CALL_FUNCTIONS, Repl
from orchestrator.result import PolicyDecision, SubCall
from orchestrator.sync import run_sync
from sandbox.cell import CellResult
from sandbox.spec import SandboxSpec

DEFAULT_SESSION_S = 8 * 3600.0


class Execution(NamedTuple):
    """What one cell did.

    Attributes:
        output: What it printed, the value of its last expression and its error, cut to size. The box's word.
        success: Whether it ended without an error, in time, with the box alive.
    """

    output: str
    success: bool


class REPLEnvironment:
    """A Python REPL in a locked container, with `context` bound. A context manager; blocking; one cell at a time.

    Args:
        context: A str, a list of str, a dict of JSON values, or a path.
        sub_llm: Answers `llm_query` and `llm_query_batched` in the cells; without it the REPL has neither.
        max_output_length: Characters of output kept; short for ``Limits(max_output_chars=...)``.
        limits: Bounds of the whole session; by default those of a run, but 8 hours, since a person may sit at it.
        sandbox: The box.
        policies: Asked about each sub-call and its reply (`orchestrator.policies`). A REPL has no answer to ask about.
        prices: What models cost, as for `RLM`.
        sub_llms: Further sub-models by name, as for `RLM`; they need a ``sub_llm`` too.
        context_mode: What a text is in the box, as for `RLM`.

    Raises:
        ConfigError, ContextError: A setting or the context is wrong; nothing was started.
    """

    def __init__(
        self,
        context: Any,
        sub_llm: LLMInterface | Provider | None = None,
        *,
        max_output_length: int | None = None,
        limits: Limits | None = None,
        sandbox: SandboxSpec | None = None,
        policies: Sequence[Policy] = (),
        prices: Mapping[str, Price] | None = None,
        sub_llms: Mapping[str, LLMInterface | Provider] | None = None,
        context_mode: ContextMode = "auto",
    ) -> None:
        base = limits or Limits(max_wall_s=DEFAULT_SESSION_S)
        self._limits = merge_limits(base, max_output_chars=max_output_length)
        self._spec = spec_for(sandbox, self._limits)
        self._context = take_in_now(context, checked_mode(context_mode), self._limits.memory_bytes)
        weakref.finalize(self, let_go, self._context)
        self._sub = as_provider(sub_llm) if sub_llm is not None else None
        self._policies = checked_policies(policies)
        self._sub_llms = checked_sub_llms(sub_llms)
        self._prices = checked_prices(prices, self._limits, self._sub, *self._sub_llms.values())
        self._repl: Repl | None = None
        self._recorder = Recorder()

    @property
    def sub_calls(self) -> list[SubCall]:
        """What the cells have asked, in the order of the answers."""
        return self._recorder.outside_calls

    @property
    def decisions(self) -> list[PolicyDecision]:
        """What the policies redacted, refused or reported; at most 100 are kept."""
        return self._recorder.decisions

    def __enter__(self) -> Self:
        if self._repl is not None:
            raise BoxError("the environment is open already")
        self._repl = run_sync(self._open())
        return self

    async def _open(self) -> Repl:
        ledger = Ledger(self._limits)
        size_bytes = sum(document.size_bytes for document in documents_of(self._context))
        policies = PolicyChain(self._policies, record=self._recorder.policy, document_bytes=size_bytes)
        gate = Gate(
            root=None,
            sub=self._sub,
            sub_llms=self._sub_llms,
            limits=self._limits,
            ledger=ledger,
            recorder=self._recorder,
            policies=policies,
            prices=self._prices,
        )
        return await Repl.open(
            self._context,
            spec=self._spec,
            limits=self._limits,
            deadline=ledger.deadline,
            handler=gate.handle,
            functions=SUB_CALL_FUNCTIONS if gate.allows_sub_calls else (),
            budget=gate.cell_budget,
            progress=lambda _: None,
        )

    def execute(self, code: str) -> Execution:
        """Run one cell. What the code does wrong is in the output, not raised.

        A cell that costs the box its life (out of memory, killed) says so in its output; a fresh box with `context`
        is taken, all other variables are gone.

        Raises:
            BoxError: The environment is closed, or the engine failed; `ProtocolViolation` if the box misbehaved.
        """
        return run_sync(self._execute(code))

    async def _execute(self, code: str) -> Execution:
        result = await (await self._live()).run(code)
        return Execution(_output(result, self._limits.max_output_chars), result.status == "ok")

    def get_variable(self, name: str) -> Any:
        """The value of a variable, as JSON carries it: tuples become lists, keys become str.

        Raises:
            VariableError: Undefined, not JSON, or larger than ``Limits.max_reply_bytes``. (It is a `LookupError` too.)
            BoxError: As `execute`.
        """
        return run_sync(self._json_value(name))

    async def _json_value(self, name: str) -> Any:
        return await (await self._live()).json_value(name)

    def has_variable(self, name: str) -> bool:
        """Whether a variable of this name exists.

        Raises:
            BoxError: As `execute`.
        """
        return run_sync(self._has_value(name))

    async def _has_value(self, name: str) -> bool:
        return await (await self._live()).has_value(name)

    async def _live(self) -> Repl:
        """The REPL, in a fresh box where the last one is gone: a cell or a value may have cost it."""
        if self._repl is None:
            raise BoxError("the environment is not open: use it in a `with` block")
        if not self._repl.alive:
            await self._repl.restart()
        return self._repl

    def close(self) -> None:
        """Remove the box. Safe to call twice."""
        repl, self._repl = self._repl, None
        if repl is not None:
            run_sync(repl.aclose())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _output(result: CellResult, max_chars: int) -> str:
    parts = [plain_output(result, max_chars)]
    if result.error:
        parts += [result.error.traceback, f"{result.error.name}: {result.error.message}"]
    if result.clock:
        parts.append(f"[stopped: the cell's {result.clock} clock ran out]")
    if result.lost_because:
        parts.append(f"[the box was lost: {result.lost_because}; only `context` is there again]")
    return truncate_output("\n".join(part for part in parts if part), max_chars)
