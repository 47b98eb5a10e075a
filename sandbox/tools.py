"""Tools: functions outside of the box that its cells may call, as a kernel is told of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from sandbox.messages import SubCallFailure

MAX_ARGUMENT_BYTES: Final = 1 << 20
"""Most JSON that any tool takes as its arguments."""

ToolHandler = Callable[[str, bytes], Awaitable[str | SubCallFailure]]
"""Answers one call: takes the name of a tool that the kernel was told of and its arguments, JSON that nobody has looked
at yet, of at most ``argument_bytes``; returns JSON or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolParameter:
    """A parameter as `help` shows it.

    Attributes:
        name: Its name.
        annotation: Its type, as text.
        default: Its default, as text; None where it must be given.
        keyword_only: Whether it must be given by name.
    """

    name: str
    annotation: str
    default: str | None = None
    keyword_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as a kernel is told of it. What it takes the handler checks, not the kernel.

    Attributes:
        name: The function's name in the namespace.
        description: Its docstring.
        parameters: Its parameters, in order.
        returns: Its result's type, as text, or "".
        argument_bytes: UTF-8 bytes of arguments as JSON above which the kernel itself refuses them.
    """

    name: str
    description: str = ""
    parameters: tuple[ToolParameter, ...] = ()
    returns: str = ""
    argument_bytes: int = 64 << 10

    @property
    def signature(self) -> str:
        """As Python writes it: ``(name: str, *, limit: int = 10) -> list[str]``."""
        shown = [
            f"{parameter.name}: {parameter.annotation}"
            + (f" = {parameter.default}" if parameter.default is not None else "")
            for parameter in self.parameters
        ]
        first = next((n for n, parameter in enumerate(self.parameters) if parameter.keyword_only), None)
        if first is not None:
            shown.insert(first, "*")
        return f"({', '.join(shown)})" + (f" -> {self.returns}" if self.returns else "")

    def as_json(self) -> dict[str, Any]:
        """For the kernel."""
        return asdict(self)


async def _no_tools(_name: str, _raw: bytes) -> SubCallFailure:
    return SubCallFailure("ToolError", "the host has no tools")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools of a box.

    Attributes:
        specs: What the kernel is told; a call of any other name is a violation.
        handler: Answers the calls.
    """

    specs: tuple[ToolSpec, ...] = ()
    handler: ToolHandler = _no_tools


NO_TOOLS: Final = Tools()
