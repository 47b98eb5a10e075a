"""Every error the orchestrator raises on purpose.

Two of the three readers of DESIGN's error rule meet here: the caller catches these types and reads their
fields; the operator reads their text, which names the field, the value and the fix but never document text
or a key. What the model sees in its cell is made in `orchestrator.gate` and is shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orchestrator.result import RunResult


class RLMError(Exception):
    """Base of all errors of this package.

    Attributes:
        result: What the run had when it failed (turns, usage, a partial answer), or None where no run had started.
    """

    result: RunResult | None = None


class ConfigError(RLMError, ValueError):
    """A setting is wrong; nothing was started and nothing was spent. The text names field, value and range."""


class ContextError(RLMError, ValueError):
    """The context can't be used: wrong type (with the index or key), unreadable file, not UTF-8, too large."""


class LimitExceeded(RLMError):
    """A limit of the run refuses what was asked for.

    Attributes:
        limit: The field of `Limits` that refused, for example ``max_sub_calls``.
    """

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class PolicyRefused(RLMError):
    """A policy refused a request, a reply or an answer. Inside of a run only: a cell or the run's end tells of it.

    Attributes:
        policy: The policy's name.
        reason: Why, in the policy's words.
    """

    def __init__(self, *, policy: str, reason: str) -> None:
        super().__init__(f"{policy}: {reason}")
        self.policy = policy
        self.reason = reason


class ProviderError(RLMError):
    """A model's provider failed.

    Attributes:
        provider: Name of the provider, for example ``openai:gpt-5.4-mini``.
        status: HTTP status, or None where there was none (connection, stream, time-out).
        retryable: Whether the same request may succeed when sent again.
        retry_after_s: Seconds the server asked us to wait, or None.
        refused: No tokens were billed: the server answered with an error status instead of a reply, or there was no
            connection, so that nothing was sent. False for a stream that broke or a time-out: then what was
            generated may have been billed.
        outage: The provider does not serve (it can't be reached, is overloaded, knows no such key or model, wants
            money), so that another one may. False where it is this one request that can't be answered.
        too_long: The server says that the request is more than the model can read at once.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        refused: bool = False,
        outage: bool | None = None,
        too_long: bool = False,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.refused = refused
        self.outage = _is_outage(status, retryable) if outage is None else outage
        self.too_long = too_long


# The server's own (5xx) and: no or a wrong key, no money, no such model, too slow, in conflict, too many requests.
# Not 403, by which some servers refuse what a prompt says, nor 400, 413 and 422.
_OUTAGE_STATUS: Final = frozenset({401, 402, 404, 408, 409, 429})


def _is_outage(status: int | None, retryable: bool) -> bool:
    return retryable or status is None or status >= 500 or status in _OUTAGE_STATUS


class Diverged(RLMError):
    """A run that goes on from its journal did something else than the run that was recorded; nothing was paid for it.

    Attributes:
        recorded: The sub-question that the journal has in this place; None where it has none.
        asked: The one that was asked instead; None where something else differs. Both may hold the document's words.
    """

    def __init__(self, message: str, *, recorded: str | None = None, asked: str | None = None) -> None:
        super().__init__(message)
        self.recorded = recorded
        self.asked = asked


class RecordOver(RLMError):
    """A run that asks nobody (`airlock replay`) has come to the end of its journal."""


class BoxError(RLMError):
    """The sandbox failed: no engine, no image, the box would not start. `__cause__` is the `sandbox.SandboxError`."""


class SetupError(BoxError):
    """The setup code failed in the box. The text names the error, in the box's words, and the line."""


class ProtocolViolation(BoxError):
    """The box sent bytes that no honest box sends. It was killed and the run ended."""


class VariableError(RLMError, LookupError):
    """A variable of the REPL is undefined, or its value is not JSON.

    Attributes:
        name: The variable's name.
        undefined: Whether no variable has that name.
        size_bytes: What the box says that a value which is too large has; else None.
    """

    def __init__(self, message: str, *, name: str, undefined: bool = False, size_bytes: int | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.undefined = undefined
        self.size_bytes = size_bytes
