"""A cell's sub-call: which model is meant, whether it may be asked, how its text is framed, and what is recorded.

What a cell asks for arrives as a prompt, its data and the name of a model, nothing else: which run it belongs to, how
deep it is and what is left of its budget the host knows by itself. A refusal goes back into the cell as a typed
exception, so that the model can finish with what it has.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.errors import LimitExceeded, PolicyRefused, ProviderError
from orchestrator.prompts import SUB_SYSTEM_PROMPT, sub_message
from orchestrator.providers.base import Message, Provider
from orchestrator.result import SubCall
from sandbox.messages import Asked, SubCallFailure

if TYPE_CHECKING:
    from orchestrator.call import Call
    from orchestrator.gate import Gate
    from orchestrator.recorded import CellCall


class _Refusal(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class SubCalls:
    """Answers the sub-calls of one run's cells.

    Args:
        gate: The run's: it has the models, the limits, the policies and the account.
        sub: The model that answers where a cell names none; None where the run has no sub-calls.
        named: Models that a cell may ask by these names.
    """

    def __init__(self, gate: Gate, sub: Provider | None, named: Mapping[str, Provider]) -> None:
        self._gate = gate
        self._sub = sub
        self._named = named

    async def handle(self, asked: Asked) -> str | SubCallFailure:
        """Answer one, where it was not answered before. Raises nothing but cancellation: the cell gets every failure as
        a value.
        """
        memory = self._gate.memory
        if memory is None:
            return await self._ask(asked)
        question = memory.question(asked.prompt, asked.data, to=asked.model or "")
        known = await memory.recall(question)
        if known is None or known.outcome is None:
            return await self._ask(asked, partial(memory.replied, question))
        if not memory.is_again:
            self._given_again(asked, known, known.outcome)
        return known.outcome

    def _given_again(self, asked: Asked, known: CellCall, outcome: str | SubCallFailure) -> None:
        call, record = self._record_of(asked), self._gate.recorder.sub_call
        call.usage, call.model = known.usage, known.model or call.model
        if isinstance(outcome, str):
            call.reply = outcome
        else:
            call.failed(outcome.kind, outcome.message)
            if not known.permits:
                self._gate.ledger.refuse()
                record = self._gate.recorder.refused
        record(call, self._gate.left())

    async def _ask(self, asked: Asked, replied: Callable[..., None] = lambda *_, **__: None) -> str | SubCallFailure:
        """Ask a model.

        Args:
            asked: What the cell asks.
            replied: Told what the cell is told.
        """
        gate, started = self._gate, time.monotonic()
        record, call = gate.recorder.sub_call, self._record_of(asked)
        asking: Call | None = None
        told: str | None = None
        try:
            asking = self._checked(asked)
            asking.begins = partial(self._begins, asking, call)
            reply = await gate.calls.ask(asking)
            call.usage = reply.usage
            reply = gate.calls.received(asking, reply)
            call.answered(reply)
            return reply.text
        except (_Refusal, LimitExceeded, PolicyRefused) as refusal:
            gate.ledger.refuse()
            if asking is None or not asking.sent:
                record = gate.recorder.refused
            return _failed(call, refusal.kind if isinstance(refusal, _Refusal) else type(refusal).__name__, refusal)
        except ProviderError as error:
            call.failed("ProviderError", str(error))
            told = _for_the_cell(error)
            return SubCallFailure("ProviderError", told)
        except asyncio.CancelledError:
            call.failed("Cancelled", "the run did not wait for its answer")
            if asking is None or not asking.sent:
                call.shorten()
            raise
        finally:
            call.wall_s = time.monotonic() - started
            if asking is not None:
                call.model, call.cached = asking.model.name, asking.cached
            replied(
                call.reply
                if call.reply is not None
                else SubCallFailure(call.error_kind or "", told or call.error or ""),
                permits=asking.permits if asking else (),
                usage=call.usage,
                model=call.model,
            )
            record(call, gate.left())

    def _begins(self, asking: Call, call: SubCall) -> None:
        call.model = asking.model.name  # which need not be the one that was asked for
        self._gate.recorder.sub_call_starts(call)

    def _record_of(self, asked: Asked) -> SubCall:
        """A name that the host did not give is the box's word, so it is not recorded as a model's."""
        name = asked.model if asked.model in self._named else None
        model = self._named[name] if name is not None else self._sub
        return SubCall(
            model=model.name if model is not None and name == asked.model else "",
            name=name,
            prompt=asked.prompt,
            data=asked.data,
            depth=self._gate.depth + 1,
        )

    def _checked(self, asked: Asked) -> Call:
        sub, limits = self._sub, self._gate.limits
        if sub is None or not self._gate.allows_sub_calls:
            raise _Refusal("LimitExceeded", "this run has no sub-calls")
        model = sub if asked.model is None else self._named.get(asked.model)
        if model is None:
            raise _Refusal("UnknownModel", f"there is no model {asked.model!a}; {self._known}")
        size = len(asked.prompt.encode("utf-8", "replace")) + len((asked.data or "").encode("utf-8", "replace"))
        if size > limits.max_prompt_bytes:
            raise _Refusal("PromptTooLarge", f"{size:,} bytes; at most {limits.max_prompt_bytes:,} are allowed")
        nonce = secrets.token_hex(8)
        messages = [
            Message(role="system", content=SUB_SYSTEM_PROMPT + self._gate.policies.system_note),
            Message(role="user", content=sub_message(asked.prompt, asked.data, nonce=nonce)),
        ]
        return self._gate.calls.new(model, "sub", self._gate.depth + 1, messages, nonce=nonce)

    @property
    def _known(self) -> str:
        if not self._named:
            return "this run has one sub-model: leave model= out"
        return f"model= is one of {', '.join(map(repr, self._named))}, or is left out"


def _failed(call: SubCall, kind: str, refusal: Exception) -> SubCallFailure:
    call.failed(kind, str(refusal))
    return SubCallFailure(kind, str(refusal))


def _for_the_cell(error: ProviderError) -> str:
    """What the box may know of a failure: a provider's words can hold addresses and paths of the host."""
    return "the sub-model gave no answer" + (f" (HTTP status {error.status})" if error.status else "")
