"""Exit codes of the command, and which of them each way to end has. The table in the README says the same."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from orchestrator.result import StopReason


class ExitCode(IntEnum):
    """What the shell gets."""

    ANSWERED = 0
    INTERNAL = 1
    """A bug of ours: no error of this package."""
    USAGE = 2
    """Arguments, settings or the document; nothing was spent."""
    LIMIT = 3
    SANDBOX = 4
    PROVIDER = 5
    POLICY = 6
    DIVERGED = 7
    """A resumed run did something else than its journal says."""
    INTERRUPTED = 130
    """Ctrl-C."""
    READER_GONE = 141
    """Whoever read stdout went away before the answer was out."""
    TERMINATED = 143
    """SIGTERM."""


OF_STOP_REASON: Final[dict[str, ExitCode]] = {
    "answered": ExitCode.ANSWERED,
    "turn_limit": ExitCode.LIMIT,
    "token_limit": ExitCode.LIMIT,
    "cost_limit": ExitCode.LIMIT,
    "call_limit": ExitCode.LIMIT,
    "time_limit": ExitCode.LIMIT,
    "no_progress": ExitCode.LIMIT,
    "overbilled": ExitCode.LIMIT,
    "policy_refused": ExitCode.POLICY,
    "diverged": ExitCode.DIVERGED,
    "provider_error": ExitCode.PROVIDER,
    "sandbox_error": ExitCode.SANDBOX,
    "protocol_violation": ExitCode.SANDBOX,
    "cancelled": ExitCode.INTERRUPTED,
    "internal_error": ExitCode.INTERNAL,
}


def exit_code_of_stop(reason: StopReason) -> ExitCode:
    """The exit code of a run that returned."""
    return OF_STOP_REASON[reason.value]


def exit_code_of_error(error: Exception) -> ExitCode:
    """The exit code of a run that raised."""
    from orchestrator.errors import BoxError, ConfigError, ContextError, Diverged, LimitExceeded, ProviderError

    codes: tuple[tuple[type[Exception], ExitCode], ...] = (
        (ConfigError, ExitCode.USAGE),
        (ContextError, ExitCode.USAGE),
        (LimitExceeded, ExitCode.LIMIT),
        (Diverged, ExitCode.DIVERGED),
        (BoxError, ExitCode.SANDBOX),
        (ProviderError, ExitCode.PROVIDER),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), ExitCode.INTERNAL)
