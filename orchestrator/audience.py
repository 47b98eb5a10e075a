"""Who is told what happens in a run: its records, which must be written, and its watchers, who may fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from orchestrator.errors import ConfigError
from orchestrator.result import TraceInfo
from orchestrator.trace import TraceEvent, TraceFile

_log = logging.getLogger(__name__)

Listener = Callable[[TraceEvent], None]
"""Is called with each event, on the event loop: be quick, for the run waits. One that raises gets no more events."""


def checked_ask(question: object, listeners: object) -> tuple[Listener, ...]:
    """Who is to be told of the work on a question.

    Raises:
        ConfigError: It is no question, or they are no list of functions.
    """
    if not isinstance(question, str) or not question.strip():
        raise ConfigError(f"query: {question!r:.80} is not a question (a str that is not blank)")
    return checked_listeners(listeners)


def checked_listeners(listeners: object) -> tuple[Listener, ...]:
    """Who is to be told.

    Raises:
        ConfigError: They are no list of functions.
    """
    if not isinstance(listeners, Sequence) or isinstance(listeners, str):
        raise ConfigError(f"listeners: of type {type(listeners).__name__}; give a list of functions")
    for index, listener in enumerate(listeners):
        if not callable(listener):
            raise ConfigError(f"listeners[{index}]: of type {type(listener).__name__}, which can't be called")
    return tuple(listeners)


class Audience:
    """The listeners of one recursion tree.

    A `TraceFile` is a record: it is not told of what is transient, and where it fails, the run does. All others are
    watchers. A watcher that raises is a bug of the caller's that must not cost them the run: it is left out from then
    on, and a warning is logged.
    """

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._records = [listener for listener in listeners if isinstance(listener, TraceFile)]
        self._watchers = [listener for listener in listeners if not isinstance(listener, TraceFile)]

    @property
    def watches(self) -> bool:
        """Whether anybody wants what is transient."""
        return bool(self._watchers)

    @property
    def trace(self) -> TraceInfo | None:
        """The trace that is written, where one is; of several the first, and a journal is the last."""
        return self._records[0].info() if self._records else None

    def tell(self, event: TraceEvent) -> None:
        """Tell everybody; the records first, so that nobody knows what is not on disk."""
        if not event.transient:
            for record in self._records:
                record(event)
        for watcher in tuple(self._watchers):
            try:
                watcher(event)
            except Exception as error:  # noqa: BLE001 - whatever a caller's function raises
                self._watchers.remove(watcher)
                name = getattr(watcher, "__qualname__", type(watcher).__name__)
                _log.warning("the listener %s raised %s and is left out from now on", name, type(error).__name__)
                _log.debug("the listener's failure", exc_info=error)
