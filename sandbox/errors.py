"""What can go wrong with a box. An exception in the model's own cell is data (`CellResult`), not one of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.audit.findings import Audit


class SandboxError(Exception):
    """Base of all errors of this package."""


class SpecError(SandboxError, ValueError):
    """A field of `SandboxSpec` is out of its range; nothing was started."""


class EngineUnavailable(SandboxError):
    """No container engine answers, or it can't give what the spec asks for; the text says what to type."""


class ImageError(SandboxError):
    """The box's image is missing and can't be built; the text says what to type."""


class BoxStartError(SandboxError):
    """The box was created but its kernel never answered."""


class PoolClosed(SandboxError):
    """The pool that a run's boxes come from was closed."""


class ControlMissing(SandboxError):
    """The live box lacks a restriction that its spec demands; it has been killed before any cell ran.

    Attributes:
        audit: What is known of that box.
    """

    def __init__(self, audit: Audit) -> None:
        from sandbox.audit.advice import advice_for

        listed = "; ".join(str(finding) for finding in audit.missing[:3])
        more = f"; and {len(audit.missing) - 3} more" if len(audit.missing) > 3 else ""
        super().__init__(
            f"the engine gave a box without what locks it, so nothing was run in it: {listed}{more}. "
            f"{advice_for(audit.missing[0].setting)}. 'airlock doctor' shows all"
        )
        self.audit = audit


class BoxGone(SandboxError):
    """The box ended while something was asked of it outside a cell."""


class ProtocolViolation(SandboxError):
    """The box sent what no honest box sends. It has been killed."""


class ContextLoadError(SandboxError):
    """The kernel could not read the context; names the exception it met."""


class ValueUnavailable(SandboxError):
    """A variable is undefined, not JSON, or too large.

    Attributes:
        undefined: Whether there is no such variable.
        size_bytes: What the box says that a value which is too large has; else None.
    """

    def __init__(self, message: str, *, undefined: bool, size_bytes: int | None = None) -> None:
        super().__init__(message)
        self.undefined = undefined
        self.size_bytes = size_bytes


class NotUtf8(SandboxError):
    """A text is not UTF-8.

    Attributes:
        offset: Of the first wrong byte.
        byte: Its value.
    """

    def __init__(self, *, offset: int, byte: int) -> None:
        super().__init__(f"not UTF-8: byte 0x{byte:02x} at offset {offset:,}")
        self.offset = offset
        self.byte = byte
