"""Child runs: what a cell's `rlm_query` starts, in a box of its own, one level deeper and on the same account."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial

from orchestrator.boxes import BoxTurns
from orchestrator.errors import LimitExceeded, RLMError
from orchestrator.gate import Gate
from orchestrator.recorder import Recorder
from orchestrator.result import RunResult, SubCall
from sandbox.messages import SubCallFailure
from sandbox.store import StoredContext

StartChild = Callable[[str, StoredContext | None, int], Awaitable[RunResult]]
"""Runs a child with a question, a context and its number to its end; raises what `RLM.arun` raises, and LimitExceeded.
"""


class ChildRuns:
    """Answers one box's `rlm_query`.

    Args:
        gate: Says whether a child may be.
        recorder: Is told of each.
        turns: The box's: it gives its turn away while it waits.
        start: Starts a child run.
        next_run: Gives a child its number.
        model: Name of the children's root model.
        depth: Of the children.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        recorder: Recorder,
        turns: BoxTurns,
        start: StartChild,
        next_run: Callable[[], int],
        model: str,
        depth: int,
    ) -> None:
        self._gate = gate
        self._recorder = recorder
        self._turns = turns
        self._start = start
        self._next_run = next_run
        self._model = model
        self._depth = depth

    async def handle(self, question: str, context: StoredContext | None) -> str | SubCallFailure:
        """Answer one, where it was not answered before. Raises nothing but cancellation: the cell gets every failure as
        a value.
        """
        memory = self._gate.memory
        call = SubCall(model=self._model, prompt=question, depth=self._depth)
        if memory is None:
            return await self._run(call, context)
        asked = memory.question(question, context.digest if context else None, to="a child run")
        known = await memory.recall(asked)
        if known is not None and known.outcome is not None:
            if not memory.is_again:
                self._given_again(call, known.outcome)
            return known.outcome
        number = known.child if known is not None else None
        outcome = await self._run(call, context, number, started=partial(memory.child_starts, asked))
        memory.replied(asked, outcome, model=self._model, child=call.child.run if call.child else None)
        return outcome

    def _given_again(self, call: SubCall, outcome: str | SubCallFailure) -> None:
        if isinstance(outcome, str):
            call.reply = outcome
        else:
            call.failed(outcome.kind, outcome.message)
        self._recorder.sub_call(call, self._gate.left())

    async def _run(
        self,
        call: SubCall,
        context: StoredContext | None,
        number: int | None = None,
        *,
        started: Callable[[int], None] = lambda _: None,
    ) -> str | SubCallFailure:
        if number is None and (refusal := self._gate.refuses_child(call.prompt)):
            return self._refused(call, refusal)
        if number is None:
            number = self._next_run()
            started(number)
        began = time.monotonic()
        try:
            async with self._turns.child():
                call.child = await self._start(call.prompt, context, number)
        except LimitExceeded as error:
            return self._refused(call, SubCallFailure("LimitExceeded", str(error)))
        except RLMError as error:  # its text may hold words of a server's, so the cell learns the reason alone
            call.child = error.result
        finally:
            call.wall_s = time.monotonic() - began
        return self._ended(call)

    def _refused(self, call: SubCall, why: SubCallFailure) -> SubCallFailure:
        call.failed(why.kind, why.message)
        self._gate.count_refusal()
        self._recorder.refused(call, self._gate.left())
        return why

    def _ended(self, call: SubCall) -> str | SubCallFailure:
        """The child's answer, also a partial one; else why there is none."""
        result = call.child
        if result is not None and result.answer is not None:
            call.reply = result.answer
            outcome: str | SubCallFailure = result.answer
        else:
            reason = result.stop_reason.value if result is not None else "failed"
            outcome = SubCallFailure("ChildRunFailed", f"the child run ended without an answer: {reason}")
            call.failed(outcome.kind, outcome.message)
        if result is not None:
            self._recorder.violations.extend(result.violations)
        self._recorder.sub_call(call, self._gate.left())
        return outcome
