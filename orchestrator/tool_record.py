"""What a result and a trace say of one call of a tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MAX_SHORT_CHARS: Final = 200


@dataclass(slots=True, kw_only=True)
class ToolCall:
    """One call of a tool by a cell.

    Attributes:
        tool: Its name.
        arguments: As the cell sent them: JSON, if they are any.
        argument_bytes: Their size; of a call that was not made, little of them is kept.
        called: Whether the function was called.
        result: What it returned, as JSON; None where it failed.
        error_kind: Name of the exception the cell got, ``Cancelled``, or None.
        error: Why, with the words of the tool's own exception, which the cell did not get; or None.
        wall_s: Seconds, waiting for its turn included.
        depth: The run's: 0 for a cell of the first root.
    """

    tool: str
    argument_bytes: int
    arguments: str = ""
    called: bool = False
    result: str | None = None
    error_kind: str | None = None
    error: str | None = None
    wall_s: float = 0.0
    depth: int = 0

    def failed(self, kind: str, message: str) -> None:
        """Take over why there is no result."""
        self.error_kind = kind
        self.error = message

    def shorten(self) -> None:
        """Keep little of a call that was not made: a cell can make any number of them."""
        self.arguments = self.arguments[:MAX_SHORT_CHARS]

    def facts(self) -> dict[str, Any]:
        """What a trace says of it without its texts."""
        return {
            "tool": self.tool,
            "depth": self.depth,
            "called": self.called,
            "argument_bytes": self.argument_bytes,
            "result_bytes": None if self.result is None else len(self.result.encode("utf-8", "replace")),
            "error_kind": self.error_kind,
            "wall_s": round(self.wall_s, 6),
        }
