"""Every error the orchestrator raises on purpose.

Two of the three readers of DESIGN's error rule meet here: the caller catches these types and reads their
fields; the operator reads their text, which names the field, the value and the fix but never document text
or a key. What the model sees in its cell is made in `orchestrator.gate` and is shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.refused = refused


class BoxError(RLMError):
    """The sandbox failed: no engine, no image, the box would not start. `__cause__` is the `sandbox.SandboxError`."""


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
