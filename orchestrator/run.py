"""One run of the recursion tree: a question, worked on in a box, that always ends with a reason."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
from typing import Any, Final, Literal, cast

from orchestrator.announce import start_facts
from orchestrator.answers import Answer
from orchestrator.children import ChildRuns
from orchestrator.context import context_note, format_context_info
from orchestrator.ending import ended, reason_of
from orchestrator.errors import PolicyRefused, ProtocolViolation, RLMError
from orchestrator.gate import Gate
from orchestrator.journal import Journal
from orchestrator.ledger import Ledger
from orchestrator.loop import Handover, Loop, Outcome
from orchestrator.models import models_note
from orchestrator.opened import OpenBox, OwnBox, Place
from orchestrator.prompts import CHILD_RUNS
from orchestrator.providers.base import Message
from orchestrator.recorder import Recorder
from orchestrator.repl import CHILD_FUNCTIONS, REPORT_FUNCTIONS, SUB_CALL_FUNCTIONS, Repl
from orchestrator.result import Document, RunResult, StopReason
from orchestrator.settings import RunSettings
from orchestrator.tool_calls import ToolCalls
from orchestrator.tools import tools_note
from orchestrator.tree import Tree
from sandbox.store import StoredContext

BACKSTOP_S: Final = 10.0
"""The loop ends itself at the run's deadline; whatever keeps it busy so much longer is cancelled."""


class Run:
    """One run: takes a box, runs the loop in it, and always ends with a reason.

    Args:
        settings: Models, limits, box and prompts.
        question: What is asked.
        context: A context in its normal form, or of the store.
        documents: What is in it.
        recorder: Its memory.
        parent: The run whose cell started this one; None for the first.
        tree: What it shares with others; by default a tree of its own, or its parent's.
        ledger: What it may spend; by default the limits, on its parent's account.
        journal: Of a first run: where it keeps what it needs to go on after its process was killed, and finds it.

    Attributes:
        settings: As given, or as the strategy changed them that the run goes on by.
        context, recorder, tree, ledger: As given.
        before: What the root is told of the session before its question; "" outside of one.
        gate: Its way to the models.
        tool_calls: Answers its cells' calls of tools.
    """

    def __init__(
        self,
        settings: RunSettings,
        question: str,
        context: Any,
        documents: tuple[Document, ...],
        recorder: Recorder,
        parent: Run | None = None,
        *,
        tree: Tree | None = None,
        ledger: Ledger | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.settings = self._given = settings
        self._question = question
        self.context = context
        self._documents = documents
        self.recorder = recorder
        self._depth: int = parent._depth + 1 if parent else 0
        self.tree: Tree = tree or (parent.tree if parent else Tree(settings, documents, recorder))
        self._policies = self.tree.policies
        spent_s = journal.record.wall_s if journal else 0.0
        self.ledger: Ledger = ledger or Ledger(settings.limits, parent.ledger if parent else None, spent_s=spent_s)
        if parent is None and tree is None:
            self.tree.remember(journal, self.ledger)
        self._schema = settings.schema if parent is None else None
        self._loop: Loop | None = None
        self._memory = self.tree.memory_of(recorder, self.ledger)
        self.before = ""
        self.gate = self._new_gate()
        self.tool_calls = ToolCalls(
            toolbox=self.tree.tools,
            ledger=self.ledger,
            recorder=recorder,
            depth=self._depth,
            memory=self._memory,
        )

    @property
    def is_child(self) -> bool:
        """Whether a cell of another run has started it."""
        return self._depth > 0

    def _new_gate(self) -> Gate:
        return Gate(
            root=self.settings.root,
            sub=self.settings.sub,
            limits=self.settings.limits,
            ledger=self.ledger,
            recorder=self.recorder,
            policies=self._policies,
            depth=self._depth,
            slots=self.tree.slots,
            prices=self.settings.prices,
            sub_llms=self.settings.sub_llms,
            fallback=self.settings.fallback,
            outages=self.tree.outages,
            cache=self.tree.cache,
            memory=self._memory,
        )

    async def _start_child(self, question: str, stored: StoredContext | None, number: int) -> RunResult:
        """Run a child to its end. It draws on this run's account, and ends when this run does.

        Raises:
            LimitExceeded: Too many boxes are alive.
            RLMError: As `run`.
        """
        recorder = self.recorder.child(run=number, depth=self._depth + 1)
        document = Document(
            name="context",
            kind=stored.form if stored else "text",
            size_bytes=stored.size_bytes if stored else 0,
            sha256=stored.digest if stored else hashlib.sha256(b"").hexdigest(),
        )
        context = "" if stored is None else stored
        return await Run(self._given, question, context, (document,), recorder, parent=self).run()

    async def run(self) -> RunResult:
        """Run it in a box of its own.

        Raises:
            RLMError: It can't go on; carries what there was as its ``result``.
            LimitExceeded: A child's box would be one too many. Nothing of it is recorded: a cell can ask without end.
        """
        with self.tree.boxes.alive():
            return await self.run_in(OwnBox())

    async def run_in(self, place: Place) -> RunResult:
        """Run it in the box of a place.

        Raises:
            RLMError: As `run`.
        """
        self._announce()
        try:
            outcome = await self._work_in(place)
        except RLMError as error:
            if isinstance(error, ProtocolViolation):
                self.recorder.violation(str(error))
            error.result = self._end(reason_of(error), failure=error)
            raise
        except Exception as error:  # a bug, of ours or of a listener's
            self._end(StopReason.INTERNAL_ERROR, failure=error)
            raise
        except BaseException as error:
            self._end(StopReason.CANCELLED, failure=error)
            raise
        return self._end(outcome.stop_reason, outcome.answer, detail=outcome.stop_detail)

    async def _work_in(self, place: Place) -> Outcome:
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.ledger.deadline.remaining_s) as opening:
                    box = await stack.enter_async_context(place.box_for(self))
            except TimeoutError:
                if not opening.expired():
                    raise
                return Outcome(None, StopReason.TIME_LIMIT)
            self._documents = tuple(dataclasses.replace(document, loaded=True) for document in self._documents)
            return await self._work(box)

    async def _work(self, box: OpenBox) -> Outcome:
        """Work on the question in an open box: as it is given, and where that is stuck, by the next strategy."""
        self._loop = self._loop_over(box.repl)
        outcome = await self._until_deadline(self._loop)
        for number, strategy in enumerate(self._given.strategies, start=1):
            if outcome.stop_reason is not StopReason.NO_PROGRESS:
                break
            left = self._loop.hand_over(outcome.stop_detail or "", strategy.note or "")
            self.settings = self._given.by(strategy)
            self.gate = self._new_gate()
            self.recorder.strategy(
                number, root=self.settings.root.name, prompt_mode=self.settings.prompt_mode, why=left.why
            )
            self._loop = self._loop_over(box.repl, left)
            outcome = await self._until_deadline(self._loop)
        if self._memory is not None:
            self._memory.check_end()
        return outcome

    def _loop_over(self, repl: Repl, after: Handover | None = None) -> Loop:
        return Loop(
            gate=self.gate,
            repl=repl,
            ledger=self.ledger,
            limits=self.settings.limits,
            recorder=self.recorder,
            system_prompt=self._system_prompt(),
            question=self._question,
            context_info=self._context_info(),
            before="\n\n".join(filter(None, (context_note(self.context), self.before))),
            typed=self.settings.observe == "typed",
            schema=self._schema,
            window_tokens=self.settings.window_tokens,
            reply_tokens=max(0, self.settings.root.max_output_tokens),
            after=after,
        )

    def opening(self) -> tuple[Message, ...]:
        """What the root would be asked first, as the policies leave it. Starts nothing and spends nothing.

        Raises:
            PolicyRefused: Nothing of it would be sent.
        """
        no_repl = cast("Repl", None)  # what is asked first is asked before there is any code
        messages = self._loop_over(no_repl).messages
        name = self.settings.root.name
        return self._policies.request(messages, role="root", depth=self._depth, model=name, sent_bytes=0)

    def box_opened(self, facts: dict[str, Any]) -> None:
        """Take note of a new box: what its audit says."""
        if self.tree.isolation != "container":
            self.tree.isolation = facts["isolation"]
        self.recorder.emit("box", facts)

    def doing(self, line: str) -> None:
        """Take note of something that takes long."""
        self.recorder.emit("setup", {"doing": line})

    async def _until_deadline(self, loop: Loop) -> Outcome:
        try:
            async with asyncio.timeout(self.ledger.deadline.remaining_s + BACKSTOP_S) as backstop:
                return await loop.run()
        except TimeoutError:
            if not backstop.expired():
                raise
            return Outcome(loop.partial, StopReason.TIME_LIMIT)

    @property
    def functions(self) -> tuple[str, ...]:
        """What the namespace of its box has beside the ways to answer."""
        sub_calls = SUB_CALL_FUNCTIONS if self.gate.allows_sub_calls else ()
        if self.settings.observe == "typed":
            return sub_calls + REPORT_FUNCTIONS
        return sub_calls + (CHILD_FUNCTIONS if sub_calls else ())

    @property
    def at_depth_limit(self) -> Literal["child", "llm_query", "raise"] | None:
        """What `rlm_query` does in its box; None: a child's root reads the question that the box wrote, so a
        quarantine has no children.
        """
        if self.settings.observe == "typed":
            return None
        return "child" if self.gate.allows_children else self.settings.on_depth_limit

    def children_in(self, box: OpenBox) -> ChildRuns:
        """Answers `rlm_query` of its cells in this box."""
        return ChildRuns(
            gate=self.gate,
            recorder=self.recorder,
            turns=box.turns,
            start=self._start_child,
            next_run=self.tree.next_run,
            model=self.settings.root.name,
            depth=self._depth + 1,
        )

    def _system_prompt(self) -> str:
        """A caller's own prompt says of models, children and tools what it wants to; a quarantine has no children."""
        settings = self.settings
        children = CHILD_RUNS if self.gate.allows_children and settings.observe != "typed" else ""
        models = models_note(settings.sub_llms) if self.gate.allows_sub_calls else ""
        said = "" if settings.own_prompt else models + children + tools_note(settings.tools)
        return settings.system_prompt + said + self._policies.system_note

    def _context_info(self) -> str:
        return format_context_info(self.context)

    def _announce(self) -> None:
        facts = start_facts(
            self.settings,
            context_info=self._context_info(),
            documents=self._documents,
            policy_summaries=self._policies.summaries,
        )
        self.recorder.emit("run_start", facts, question=self._question)

    def _end(
        self,
        reason: StopReason,
        answer: Answer | None = None,
        *,
        detail: str | None = None,
        failure: BaseException | None = None,
    ) -> RunResult:
        """The one way out for every answer, whole or partial: the policies are asked about each."""
        if self.ledger.overbilled and failure is None and reason is not StopReason.POLICY_REFUSED:
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
        recorder = self.recorder
        if self.tree.memory is not None and not recorder.run:
            self.tree.memory.charge_rest()
        memory = self.tree.memory if not recorder.run else None
        return ended(
            recorder,
            reason,
            answer,
            detail=detail,
            failure=failure,
            schema=self._schema,
            usage=self.ledger.usage(turns=len(recorder.turns), wall_s=recorder.wall_s),
            isolation=self.tree.isolation,
            documents=self._documents,
            divergences=memory.divergences if memory else (),
        )
