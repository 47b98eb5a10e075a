"""Run a coroutine from ordinary code, also from inside a running event loop (a notebook).

One daemon thread holds one event loop for the whole process. All blocking calls of this package run on it, so
that connections kept by a model's client stay usable from one call to the next.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


PATIENCE_S: Final = 1.0
"""After an interruption: seconds of clean-up before the caller is told that it takes long."""


def run_sync(coroutine: Coroutine[Any, Any, T], *, on_slow_stop: Callable[[], None] = lambda: None) -> T:
    """Run `coroutine` on the background loop and wait for it.

    The caller's context variables are seen by the coroutine. An exception that interrupts the wait (Ctrl-C, a
    signal handler that raises) cancels the coroutine, waits until its clean-up is done and is then raised
    again; a second one is raised at once and leaves the clean-up to the background thread.

    Args:
        coroutine: What to run. It is closed if it can't be started.
        on_slow_stop: Called on this thread where the clean-up after an interruption takes longer than a second, as it
            does while the coroutine blocks the loop.

    Returns:
        What the coroutine returned.

    Raises:
        RuntimeError: Called on the background loop itself, where waiting would never end.
        BaseException: Whatever the coroutine raised.
    """
    try:
        loop = _background.get()
        loop.refuse_own_thread()
    except BaseException:
        coroutine.close()
        raise
    return _Call(coroutine, loop.loop).wait(on_slow_stop)


class _BackgroundLoop:
    """The event loop and the daemon thread that runs it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="airlock-loop", daemon=True)
        self._thread.start()

    @property
    def usable(self) -> bool:
        return self._thread.is_alive()

    def refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call was made on Airlock's own event loop; await the async form instead")

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # asyncio lets these two escape from a task after storing them in it. The waiting caller gets
                # them from there; for this thread they mean nothing.
                continue


class _Background:
    """Holds the process's background loop and makes it at first use."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: in a forked child the loop's thread is missing and the lock may be held by nobody."""
        self._lock = threading.Lock()
        self._loop: _BackgroundLoop | None = None

    def get(self) -> _BackgroundLoop:
        with self._lock:
            if self._loop is None or not self._loop.usable:
                self._loop = _BackgroundLoop()
            return self._loop


_background = _Background()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_background.forget)


class _Call(Generic[T]):
    """One coroutine on its way through the background loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        self._ended = threading.Event()

    def wait(self, on_slow_stop: Callable[[], None]) -> T:
        try:
            self._loop.call_soon_threadsafe(self._start)
            self._ended.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(self._cancel)
            if not self._ended.wait(PATIENCE_S):
                on_slow_stop()
                self._ended.wait()
            raise
        return self._result()

    def _result(self) -> T:
        if self._task is None:
            raise RuntimeError("the coroutine was never started")
        return self._task.result()

    def _start(self) -> None:
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self._ended.set())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # interrupted before the start was even queued; the loop runs its callbacks in order
            self._coroutine.close()
            self._ended.set()
