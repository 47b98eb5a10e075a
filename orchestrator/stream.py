"""The events of one run for a reader that takes them at its own pace."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final

from orchestrator.audience import Listener
from orchestrator.errors import RLMError
from orchestrator.result import RunResult
from orchestrator.trace import PIECES, TraceEvent

MOST_PIECES: Final = 1_000
MOST_CHARS: Final = 1 << 20
"""Pieces, and their characters, that wait for a slow reader; more of them is left out."""


class RunStream:
    """The events of one run, in order: ``async for event in rlm.stream(...)``. The last one is ``run_end``.

    The run begins with the first event that is asked for, and does not wait for its reader. Of a slow reader's events
    those that say how the run went are all kept; they hold the texts that the result holds anyway. Neighbouring pieces
    of one text (``token``, ``output``) become one, and above a million characters of them the rest is left out.

    Whoever stops reading ends the run. ``async with`` waits until its box is removed, and so does `aclose`, or the
    cancellation of the task that reads; a plain ``break`` has the run cancelled and waits for nothing. One reader only.

    Attributes:
        left_out_chars: Characters of pieces that were left out.
    """

    def __init__(self, start: Callable[[Listener], Coroutine[Any, Any, RunResult]]) -> None:
        self._start = start
        self._waiting = _Waiting()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[RunResult] | None = None
        self._closed = False

    @property
    def left_out_chars(self) -> int:
        """Characters of pieces that were left out."""
        return self._waiting.left_out_chars

    @property
    def result(self) -> RunResult | None:
        """How the run ended, also by an error that carries it; None before its end, or where nothing was started."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        error = task.exception()
        if error is None:
            return task.result()
        return error.result if isinstance(error, RLMError) else None

    def __aiter__(self) -> RunStream:
        return self

    async def __anext__(self) -> TraceEvent:
        """The next event.

        Raises:
            StopAsyncIteration: The run is over.
            RLMError: The run failed, as `RLM.arun` says; after its last event, once.
        """
        if self._closed:
            raise StopAsyncIteration
        task = self._running()
        try:
            event = await self._waiting.next()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if event is not None:
            return event
        self._closed = True
        await task  # raises what the run raised
        raise StopAsyncIteration

    def _running(self) -> asyncio.Task[RunResult]:
        if self._task is None:
            waiting = self._waiting  # and not `self`: a stream that nobody holds any more ends its run
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._start(waiting.put), name="airlock-stream")
            self._task.add_done_callback(waiting.end)
        return self._task

    async def aclose(self) -> None:
        """End the run, if it still lasts. Its box is removed when this returns. Safe to call twice."""
        self._closed = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    async def __aenter__(self) -> RunStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._task is not None and self._loop is not None and not self._task.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


class _Waiting:
    """Events on their way to the reader."""

    def __init__(self) -> None:
        self._events: deque[TraceEvent] = deque()
        self._news = asyncio.Event()
        self._pieces = self._chars = 0
        self._over = False
        self.left_out_chars = 0

    def put(self, event: TraceEvent) -> None:
        """Take an event."""
        if event.kind not in PIECES:
            self._events.append(event)
        elif self._has_room(event):
            self._put_piece(event)
        self._news.set()

    def _has_room(self, piece: TraceEvent) -> bool:
        size = _chars(piece)
        if self._pieces < MOST_PIECES and self._chars + size <= MOST_CHARS:
            self._chars += size
            return True
        self.left_out_chars += size
        return False

    def _put_piece(self, piece: TraceEvent) -> None:
        before = self._events[-1] if self._events else None
        if before is not None and _continues(piece, before):
            text = before.texts["text"] + piece.texts["text"]
            self._events[-1] = dataclasses.replace(piece, texts={"text": text})
        else:
            self._pieces += 1
            self._events.append(piece)

    async def next(self) -> TraceEvent | None:
        """The next event; None when there will be none."""
        while not self._events:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        event = self._events.popleft()
        if event.kind in PIECES:
            self._pieces -= 1
            self._chars -= _chars(event)
        return event

    def end(self, task: asyncio.Task[RunResult]) -> None:
        """The run is over."""
        if not task.cancelled():
            task.exception()  # seen: whoever closed the stream does not ask for it
        self._over = True
        self._news.set()


def _chars(piece: TraceEvent) -> int:
    return len(piece.texts["text"])


def _continues(piece: TraceEvent, before: TraceEvent) -> bool:
    return piece.kind == before.kind and piece.facts | {"cut": False} == before.facts
