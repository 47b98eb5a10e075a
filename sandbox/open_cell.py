"""The cell that runs: what has come of it so far, and the `CellResult` that becomes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from sandbox.cell import Capture, CellError, CellResult, CellStatus, Clock
from sandbox.clocks import CellClocks
from sandbox.encoding import new_id
from sandbox.messages import Reply
from sandbox.protocol import decode_text


@dataclass(slots=True)
class OpenCell:
    """One cell between its request and its result; `chars` is what is kept of each text's head, and of its tail."""

    clocks: CellClocks
    chars: int
    msg_id: str = field(default_factory=new_id)
    captures: dict[str, Capture] = field(default_factory=dict)
    reply: Reply | None = None
    idle: bool = False
    answer: bytes | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)
    reported: int = 0
    stopping: bool = False
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.captures = {kind: Capture(self.chars) for kind in ("stdout", "stderr", "result")}

    def call_started(self) -> None:
        """A sub-call of it is in flight: the clocks can only run out later than they would have."""
        self.clocks.call_started()

    def call_ended(self) -> None:
        """One sub-call less is in flight."""
        self.clocks.call_ended()
        if not self.clocks.waiting:
            self.progress.set()

    def tell_if_ended(self) -> None:
        """Wake whoever waits for its end."""
        if self.ended:
            self.progress.set()

    @property
    def ended(self) -> bool:
        """Whether it has been answered and all its output has come."""
        return self.reply is not None and self.idle

    async def expired(self, gone: asyncio.Event) -> Clock | None:
        """The clock that has run out, if one has. An engine may take a second to say what CPU time was used: a cell
        that ends meanwhile, or whose box does, is not held up.
        """
        asking = asyncio.ensure_future(self.clocks.expired())
        try:
            while not (asking.done() or self.ended or gone.is_set()):
                self.progress.clear()
                told = asyncio.ensure_future(self.progress.wait())
                try:
                    await asyncio.wait((asking, told), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    told.cancel()
            return asking.result() if asking.done() else None
        finally:
            asking.cancel()

    def result(self, clock: Clock | None, late_chars: int) -> CellResult:
        """What it did, given the clock that ran out, if one did."""
        reply = self.reply
        sizes = reply.true_chars if reply else {}
        answered = self.answer is not None and reply is not None and reply.ok and clock is None
        stdout, stderr, result = (capture.text(sizes.get(kind, 0)) for kind, capture in self.captures.items())
        return CellResult(
            status=self._status(clock),
            stdout=stdout,
            stderr=stderr,
            result=result,
            error=None if reply is None or reply.ok else self._error(reply),
            answer=decode_text(self.answer) if answered and self.answer is not None else None,
            clock=clock,
            wall_s=self.clocks.wall_s,
            waited_s=self.clocks.waited_s,
            late_chars=late_chars,
            reports=tuple(self.reports),
        )

    def _status(self, clock: Clock | None) -> CellStatus:
        if not self.ended or self.reply is None:
            return "lost"
        if clock is not None:
            return "interrupted"
        return "ok" if self.reply.ok else "error"

    def _error(self, reply: Reply) -> CellError:
        return CellError(
            name=reply.error_name[:200],
            message=self._bounded(reply.error_text),
            traceback=self._bounded(reply.traceback),
            line=reply.error_line,
        )

    def _bounded(self, text: str) -> str:
        capture = Capture(self.chars)
        capture.add(text)
        return capture.text(0).text
