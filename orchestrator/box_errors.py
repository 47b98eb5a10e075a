"""Where errors of `sandbox` become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from orchestrator.errors import BoxError, ContextError, ProtocolViolation, VariableError
from sandbox.errors import BoxGone, ContextLoadError, SandboxError, ValueUnavailable
from sandbox.errors import ProtocolViolation as SandboxProtocolViolation


@contextlib.contextmanager
def our_errors(variable: str = "") -> Iterator[None]:
    """Raise ours in the place of the sandbox's.

    Args:
        variable: The variable that the body asks for, where it asks for one.
    """
    try:
        yield
    except SandboxProtocolViolation as error:
        raise ProtocolViolation(f"the box broke the protocol and was killed: {error}") from error
    except ContextLoadError as error:
        raise ContextError(str(error)) from error
    except ValueUnavailable as error:
        raise VariableError(
            f"variable {variable!r}: {error}",
            name=variable,
            undefined=error.undefined,
            size_bytes=error.size_bytes,
        ) from error
    except SandboxError as error:
        if variable and isinstance(error, BoxGone):
            raise VariableError(f"variable {variable!r}: {error}", name=variable) from error
        raise BoxError(str(error)) from error
