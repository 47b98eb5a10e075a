"""How a policy is written: three hooks, each of which allows, redacts or refuses.

    class NoNames(Policy):
        def on_request(self, request: OutgoingRequest) -> Decision:
            if "Ada" in request.text:
                return Refuse("names a person")
            return Allow()

    rlm = RLM(model, policies=[NoNames()])

Policies are asked in the order of the list, and each sees what the one before left. One that raises has refused:
nothing passes because a check broke. A hook blocks the run while it works, so it should be quick; it may not call a
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.providers.base import Message

Role = Literal["root", "sub"]


@dataclass(frozen=True, slots=True)
class Allow:
    """Let it pass.

    Attributes:
        reason: What was found all the same: then the decision is recorded, as ``report``. Safe to show.
    """

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redact:
    """Let another text pass.

    Attributes:
        text: The new text; of a request one for each message, in order.
        count: How many places were changed, 1 and more.
        reason: What was changed, in words that are safe to show.
    """

    text: str | tuple[str, ...]
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Let nothing pass.

    Attributes:
        reason: Why. It is shown to the root's code, to the caller and in the trace, so it may hold neither a secret nor
            text of the document.
    """

    reason: str


Decision = Allow | Redact | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRequest:
    """One attempt at a model; retries are asked about again.

    Attributes:
        role: Who is asked: the ``root``, or a ``sub``-model.
        depth: 0 for the first root, one more for each level below.
        model: The provider's name, for example ``openai:gpt-5.4-mini``.
        messages: What is to be sent: the system message, then user and assistant. In a root's request these are all
            turns so far, cells' output included.
        document_bytes: Size of the run's document.
        sent_bytes: What the run and its whole recursion tree have sent before, retries and calls in flight included.
    """

    role: Role
    depth: int
    model: str
    messages: tuple[Message, ...]
    document_bytes: int
    sent_bytes: int

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of all messages' texts. What HTTP and JSON put around them comes on top."""
        return sum(message.size_bytes for message in self.messages)

    @property
    def text(self) -> str:
        """All messages but the system's, one behind the other."""
        return "\n".join(message.content for message in self.messages if message.role != "system")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingReply:
    """One reply of a model; it has been paid for already.

    Attributes:
        role, depth, model: As of the request.
        text: What it says. Code in it has not run.
    """

    role: Role
    depth: int
    model: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalAnswer:
    """The answer of a run, however it was given.

    Attributes:
        text: What the caller would get.
        partial: Whether a limit or a failure ended the run, and this is what there was.
    """

    text: str
    partial: bool


class Policy:
    """Base of all policies. Each hook allows, unless a subclass says otherwise."""

    @property
    def name(self) -> str:
        """Stands in refusals, in the trace and in the result."""
        return type(self).__name__

    @property
    def system_note(self) -> str:
        """Text put behind the system prompts of the root and of the sub-models; "" for none."""
        return ""

    def summary(self, document_bytes: int) -> str:
        """What the start of a run says of it, in a few words that are safe to show: by default its name.

        Args:
            document_bytes: Size of the run's document.
        """
        return self.name

    def for_run(self) -> Policy:
        """The policy as one run (with its whole recursion tree) is to use it: this one, unless it keeps state."""
        return self

    def on_request(self, request: OutgoingRequest) -> Decision:
        """Decide on one attempt at a model, before anything is reserved or sent.

        Refused, it costs nothing. A sub-call's refusal is a ``PolicyRefused`` in the cell; the root's ends the run.
        """
        return Allow()

    def on_reply(self, reply: IncomingReply) -> Decision:
        """Decide on a reply, before a cell gets it or the root's code runs. Refusals are as for `on_request`."""
        return Allow()

    def on_answer(self, answer: FinalAnswer) -> Decision:
        """Decide on the answer, partial ones included. Refused, the run ends without one.

        The turns in the result, which show what cells and models said, are not changed.
        """
        return Allow()
