"""One run's policies, asked one after the other. The gate asks about requests and replies, the run about the answer."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from orchestrator.errors import ConfigError, PolicyRefused
from orchestrator.policies.base import (
    Allow,
    Decision,
    FinalAnswer,
    IncomingReply,
    OutgoingRequest,
    Policy,
    Redact,
    Refuse,
    Role,
)
from orchestrator.providers.base import Message
from orchestrator.providers.failures import safe_text
from orchestrator.result import PolicyDecision

MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
"""What a redacted reply or answer may have: no limit allows a larger one either."""

_log = logging.getLogger(__name__)


class PolicyChain:
    """The policies of one run.

    Args:
        policies: In the order in which they are asked.
        record: Is told of every decision but a plain allowance.
        document_bytes: Size of the run's document.
    """

    def __init__(
        self,
        policies: Iterable[Policy] = (),
        *,
        record: Callable[[PolicyDecision], None] = lambda _: None,
        document_bytes: int = 0,
    ) -> None:
        self._policies = tuple(policy.for_run() for policy in policies)
        self._names = {id(policy): safe_text(policy.name) for policy in self._policies}
        self._record = record
        self.document_bytes = document_bytes
        self.system_note = "".join(policy.system_note for policy in self._policies)
        """What stands behind every system prompt of the run."""
        self.summaries = [safe_text(policy.summary(document_bytes)) for policy in self._policies]
        """What the start of the run says of each."""

    @property
    def reads_replies(self) -> bool:
        """Whether a policy may change or refuse a reply, so that nobody may see it before it is whole."""
        hooks = (getattr(policy.on_reply, "__func__", None) for policy in self._policies)
        return any(hook is not Policy.on_reply for hook in hooks)

    def request(
        self, messages: Sequence[Message], *, role: Role, depth: int, model: str, sent_bytes: int
    ) -> tuple[Message, ...]:
        """What may be sent of an attempt's messages.

        Raises:
            PolicyRefused: Nothing.
        """
        left = tuple(messages)
        for policy in self._policies:
            seen = OutgoingRequest(
                role=role,
                depth=depth,
                model=model,
                messages=left,
                document_bytes=self.document_bytes,
                sent_bytes=sent_bytes,
            )
            new = self._ask(policy, "on_request", seen, texts=len(left), role=role, depth=depth, model=model)
            if isinstance(new, tuple):
                left = tuple(dataclasses.replace(old, content=text) for old, text in zip(left, new, strict=True))
        return left

    def reply(self, text: str, *, role: Role, depth: int, model: str) -> str:
        """What may be taken of a reply.

        Raises:
            PolicyRefused: Nothing.
        """
        for policy in self._policies:
            seen = IncomingReply(role=role, depth=depth, model=model, text=text)
            new = self._ask(policy, "on_reply", seen, role=role, depth=depth, model=model)
            text = new if isinstance(new, str) else text
        return text

    def answer(self, text: str, *, partial: bool, depth: int = 0) -> str:
        """What may be returned of an answer.

        Raises:
            PolicyRefused: Nothing.
        """
        for policy in self._policies:
            seen = FinalAnswer(text=text, partial=partial)
            new = self._ask(policy, "on_answer", seen, role="root", depth=depth)
            text = new if isinstance(new, str) else text
        return text

    def _ask(
        self,
        policy: Policy,
        hook: str,
        seen: OutgoingRequest | IncomingReply | FinalAnswer,
        *,
        role: Role,
        depth: int,
        model: str = "",
        texts: int = 0,
    ) -> str | tuple[str, ...] | None:
        """The new text or texts, or None where it stays."""
        decision = _decide(policy, hook, seen, texts)
        match decision:
            case Allow(reason=""):
                return None
            case Allow(reason=reason):
                action, count = "report", 1
            case Redact(count=count, reason=reason):
                action = "redact"
            case Refuse(reason=reason):
                action, count = "refuse", 1
        name, reason = self._names[id(policy)], safe_text(reason)
        self._record(
            PolicyDecision(
                policy=name, hook=hook, action=action, count=count, reason=reason, role=role, depth=depth, model=model
            )
        )
        if isinstance(decision, Refuse):
            raise PolicyRefused(policy=name, reason=reason)
        return decision.text if isinstance(decision, Redact) else None


def _decide(policy: Policy, hook: str, seen: object, texts: int) -> Decision:
    """What the policy says; what is no decision, or was never said, is a refusal."""
    try:
        decision = getattr(policy, hook)(seen)
        return decision if _is_sound(decision, texts) else Refuse(f"{hook} returned no decision that can be followed")
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - a check that broke has not passed
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
        _log.error("%s.%s raised %s at %s", type(policy).__name__, hook, type(error).__name__, where)
        return Refuse(f"{hook} failed: {type(error).__name__}")


def _is_sound(decision: object, texts: int) -> bool:
    match decision:
        case Allow(reason=str()) | Refuse(reason=str()):
            return True
        case Redact(text=str(text), count=int(count), reason=str()):
            return not texts and count >= 1 and len(text.encode("utf-8", "surrogatepass")) <= MAX_TEXT_BYTES
        case Redact(text=tuple(new), count=int(count), reason=str()):
            return 0 < texts == len(new) and count >= 1 and all(isinstance(text, str) for text in new)
    return False


def checked_policies(policies: object) -> tuple[Policy, ...]:
    """The policies as given.

    Raises:
        ConfigError: One is none, named by its index.
    """
    if not isinstance(policies, Sequence) or isinstance(policies, str):
        raise ConfigError(f"policies: a {type(policies).__name__} is no list of policies")
    for index, policy in enumerate(policies):
        if not isinstance(policy, Policy):
            what = f"the class {policy.__name__}" if isinstance(policy, type) else f"a {type(policy).__name__}"
            raise ConfigError(f"policies[{index}]: {what} is no instance of Policy")
    return tuple(policies)
