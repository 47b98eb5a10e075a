"""Our own log's warnings (a retry, a dropped setting) on their way to the person who runs the command."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def warnings_shown_by(show: Callable[[str], None]) -> Iterator[None]:
    """Give the warnings of our own log (a retry, a dropped setting) to `show`, instead of to a raw stderr."""
    handler = _Handler(show)
    loggers = [logging.getLogger(name) for name in ("orchestrator", "sandbox")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


class _Handler(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())
