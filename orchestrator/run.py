"""One run of the recursion tree: opens a box, runs the loop in it, and always ends with a reason."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, cast

from orchestrator.answers import Answer
from orchestrator.boxes import BoxTurns
from orchestrator.children import ChildRuns
from orchestrator.context import describe_stored, format_context_info
from orchestrator.errors import PolicyRefused, ProtocolViolation, ProviderError, RLMError
from orchestrator.gate import Gate
from orchestrator.ledger import Ledger
from orchestrator.limits import Limits
from orchestrator.loop import Loop, Outcome
from orchestrator.prompts import CHILD_RUNS
from orchestrator.providers.base import Message, Provider
from orchestrator.providers.prices import Price, price_of
from orchestrator.recorder import Recorder
from orchestrator.repl import CHILD_FUNCTIONS, REPORT_FUNCTIONS, SUB_CALL_FUNCTIONS, Repl
from orchestrator.result import Document, RunResult, StopReason, json_values
from orchestrator.settings import RunSettings
from orchestrator.tree import Tree
from orchestrator.typed import Vocabulary
from sandbox.children import Children
from sandbox.store import StoredContext

BACKSTOP_S: Final = 10.0
"""The loop ends itself at the run's deadline; whatever keeps it busy so much longer is cancelled."""


class Run:
    """One run: opens a box, runs the loop, and always ends with a reason.

    Args:
        settings: Models, limits, box and prompts.
        question: What is asked.
        context: A context in its normal form, or of the store.
        documents: What is in it.
        recorder: Its memory.
        parent: The run whose cell started this one; None for the first.
    """

    def __init__(
        self,
        settings: RunSettings,
        question: str,
        context: Any,
        documents: tuple[Document, ...],
        recorder: Recorder,
        parent: Run | None = None,
    ) -> None:
        self._settings = settings
        self._question = question
        self._context = context
        self._documents = documents
        self._recorder = recorder
        self._depth: int = parent._depth + 1 if parent else 0
        self._tree: Tree = parent._tree if parent else Tree(settings, documents, recorder)
        self._policies = self._tree.policies
        self._ledger: Ledger = Ledger(settings.limits, parent._ledger if parent else None)
        self._schema = settings.schema if parent is None else None
        self._loop: Loop | None = None

    async def _start_child(self, question: str, stored: StoredContext | None) -> RunResult:
        """Run a child to its end. It draws on this run's account, and ends when this run does.

        Raises:
            LimitExceeded: Too many boxes are alive.
            RLMError: As `run`.
        """
        recorder = self._recorder.child(run=self._tree.next_run(), depth=self._depth + 1)
        document = Document(
            name="context",
            kind=stored.form if stored else "text",
            size_bytes=stored.size_bytes if stored else 0,
            sha256=stored.digest if stored else hashlib.sha256(b"").hexdigest(),
        )
        context = "" if stored is None else stored
        return await Run(self._settings, question, context, (document,), recorder, parent=self).run()

    async def run(self) -> RunResult:
        """Run it.

        Raises:
            RLMError: It can't go on; carries what there was as its ``result``.
            LimitExceeded: A child's box would be one too many. Nothing of it is recorded: a cell can ask without end.
        """
        with self._tree.boxes.alive():
            return await self._run()

    async def _run(self) -> RunResult:
        self._announce()
        try:
            outcome = await self._run_in_box()
        except RLMError as error:
            if isinstance(error, ProtocolViolation):
                self._recorder.violation(str(error))
            error.result = self._end(_reason(error), failure=error)
            raise
        except Exception as error:  # a bug, of ours or of a listener's
            self._end(StopReason.INTERNAL_ERROR, failure=error)
            raise
        except BaseException as error:
            self._end(StopReason.CANCELLED, failure=error)
            raise
        return self._end(outcome.stop_reason, outcome.answer, detail=outcome.stop_detail)

    async def _run_in_box(self) -> Outcome:
        settings, loop = self._settings, asyncio.get_running_loop()

        def say(line: str) -> None:  # from a thread, which outlives a cancelled run; listeners are called on the loop
            loop.call_soon_threadsafe(self._recorder.emit, "setup", {"doing": line})

        gate = self._new_gate()
        turns = self._tree.boxes.turns()
        try:
            async with asyncio.timeout(self._ledger.deadline.remaining_s) as opening:
                repl = await Repl.open(
                    self._context,
                    spec=settings.spec,
                    limits=settings.limits,
                    deadline=self._ledger.deadline,
                    handler=gate.handle,
                    functions=self._functions(gate),
                    progress=say,
                    turns=turns,
                    children=self._children(gate, turns),
                    budget=gate.budget,
                    on_box=self._box_opened,
                )
        except TimeoutError:
            if not opening.expired():
                raise
            return Outcome(None, StopReason.TIME_LIMIT)
        self._documents = tuple(dataclasses.replace(document, loaded=True) for document in self._documents)
        try:
            self._loop = self._loop_over(gate, repl)
            return await self._until_deadline(self._loop)
        finally:
            await repl.aclose()

    def _new_gate(self) -> Gate:
        return Gate(
            root=self._settings.root,
            sub=self._settings.sub,
            limits=self._settings.limits,
            ledger=self._ledger,
            recorder=self._recorder,
            policies=self._policies,
            depth=self._depth,
            slots=self._tree.slots,
            prices=self._settings.prices,
        )

    def _loop_over(self, gate: Gate, repl: Repl) -> Loop:
        return Loop(
            gate=gate,
            repl=repl,
            ledger=self._ledger,
            limits=self._settings.limits,
            recorder=self._recorder,
            system_prompt=self._system_prompt(gate),
            question=self._question,
            context_info=self._context_info(),
            quarantine=Vocabulary() if self._settings.observe == "typed" else None,
            schema=self._schema,
        )

    def opening(self) -> tuple[Message, ...]:
        """What the root would be asked first, as the policies leave it. Starts nothing and spends nothing.

        Raises:
            PolicyRefused: Nothing of it would be sent.
        """
        no_repl = cast("Repl", None)  # what is asked first is asked before there is any code
        messages = self._loop_over(self._new_gate(), no_repl).messages
        name = self._settings.root.name
        return self._policies.request(messages, role="root", depth=self._depth, model=name, sent_bytes=0)

    def _box_opened(self, facts: dict[str, Any]) -> None:
        if self._tree.isolation != "container":
            self._tree.isolation = facts["isolation"]
        self._recorder.emit("box", facts)

    async def _until_deadline(self, loop: Loop) -> Outcome:
        try:
            async with asyncio.timeout(self._ledger.deadline.remaining_s + BACKSTOP_S) as backstop:
                return await loop.run()
        except TimeoutError:
            if not backstop.expired():
                raise
            return Outcome(loop.partial, StopReason.TIME_LIMIT)

    def _functions(self, gate: Gate) -> tuple[str, ...]:
        sub_calls = SUB_CALL_FUNCTIONS if gate.allows_sub_calls else ()
        if self._settings.observe == "typed":
            return sub_calls + REPORT_FUNCTIONS
        return sub_calls + (CHILD_FUNCTIONS if sub_calls else ())

    def _children(self, gate: Gate, turns: BoxTurns) -> Children | None:
        """A child's root reads the question that the box wrote, so a quarantine has no children."""
        if self._settings.observe == "typed":
            return None
        runs = ChildRuns(
            gate=gate,
            recorder=self._recorder,
            turns=turns,
            start=self._start_child,
            model=self._settings.root.name,
            depth=self._depth + 1,
        )
        at_limit = "child" if gate.allows_children else self._settings.on_depth_limit
        return Children(handler=runs.handle, quota=self._tree.quota, mode=at_limit)

    def _system_prompt(self, gate: Gate) -> str:
        """A caller's own prompt says of child runs what it wants to; a quarantine has none."""
        settings = self._settings
        tells = gate.allows_children and settings.observe != "typed" and not settings.own_prompt
        return settings.system_prompt + (CHILD_RUNS if tells else "") + self._policies.system_note

    def _context_info(self) -> str:
        if isinstance(self._context, StoredContext):
            return describe_stored(self._context)
        return format_context_info(self._context)

    def _announce(self) -> None:
        settings = self._settings
        facts = {
            "root": settings.root.name,
            "sub": settings.sub.name if settings.sub else None,
            "prompt_mode": settings.prompt_mode,
            "observe": settings.observe,
            "isolation": settings.spec.isolation,
            "context": self._context_info(),
            "documents": [
                {"kind": document.kind, "size_bytes": document.size_bytes, "sha256": document.sha256}
                for document in self._documents
            ],
            "policies": [policy.name for policy in settings.policies],
            "policy_summaries": self._policies.summaries,
            "limits": {
                field.name: _json_number(getattr(settings.limits, field.name)) for field in dataclasses.fields(Limits)
            },
            "prices": {
                model.name: _price_facts(model, settings.prices)
                for model in filter(None, (settings.root, settings.sub))
            },
        }
        self._recorder.emit("run_start", facts, question=self._question)

    def _end(
        self,
        reason: StopReason,
        answer: Answer | None = None,
        *,
        detail: str | None = None,
        failure: BaseException | None = None,
    ) -> RunResult:
        """The one way out for every answer, whole or partial: the policies are asked about each."""
        if self._ledger.overbilled and failure is None and reason is not StopReason.POLICY_REFUSED:
            reason, detail = StopReason.OVERBILLED, None
        if answer is None and self._loop is not None and reason is not StopReason.POLICY_REFUSED:
            answer = self._loop.partial
        if answer is not None:
            try:
                partial = reason is not StopReason.ANSWERED
                text = self._policies.answer(answer.text, partial=partial, depth=self._depth)
                answer = answer.as_policies_left(text, self._schema)
            except PolicyRefused as refusal:
                answer = None
                if not failure:
                    reason, detail = StopReason.POLICY_REFUSED, str(refusal)
        recorder = self._recorder
        usage = self._ledger.usage(turns=len(recorder.turns), wall_s=recorder.wall_s)
        kind, valid = (None, None) if answer is None else (answer.kind, answer.valid(self._schema))
        recorder.run_ends(
            reason,
            usage,
            answer.text if answer else None,
            answer_kind=kind,
            valid=valid,
            failure=type(failure).__name__ if failure else None,
            stop_detail=detail,
        )
        return RunResult(
            answer=answer.text if answer else None,
            answer_kind=kind,
            valid=valid,
            value=answer.checked.value if answer and answer.checked else None,
            stop_reason=reason,
            stop_detail=detail,
            usage=usage,
            turns=tuple(recorder.turns),
            isolation=self._tree.isolation,
            documents=self._documents,
            sub_replies=tuple(recorder.sub_replies),
            decisions=tuple(recorder.decisions),
            decision_count=recorder.decision_count,
            redactions=dict(recorder.redactions),
            violations=tuple(recorder.violations),
            trace=recorder.trace,
        )


def _reason(error: RLMError) -> StopReason:
    if isinstance(error, ProtocolViolation):
        return StopReason.PROTOCOL_VIOLATION
    return StopReason.PROVIDER_ERROR if isinstance(error, ProviderError) else StopReason.SANDBOX_ERROR


def _json_number(value: float | Decimal) -> float | str:
    if value == float("inf"):
        return "unlimited"
    return float(value) if isinstance(value, Decimal) else value


def _price_facts(model: Provider, own: Mapping[str, Price]) -> dict[str, Any] | None:
    price = price_of(model.name, own)
    facts: dict[str, Any] | None = json_values(price)
    return facts
