"""Places in a run at which something ends its process: hooks around the real methods, for `tests.lifecycle.driver`."""

from __future__ import annotations

import functools
import http.client
import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from orchestrator.providers.scripted import ScriptedProvider
from sandbox.cell import Capture
from sandbox.engine import Engine
from sandbox.owned_dir import OwnedDir
from sandbox.sandbox import Sandbox
from sandbox.store import Store

End = Callable[[], None]
"""Ends this process, or tells it to end."""


def hook(owner: Any, name: str, end: End, *, before: bool = False, call: int = 1) -> None:
    """Let `end` happen before or after the nth call of a method, which is the real one, async or not."""
    real = getattr(owner, name)
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == call

    @functools.wraps(real)
    def plain(*args: Any, **named: Any) -> Any:
        now = due()
        if now and before:
            end()
        value = real(*args, **named)
        if now and not before:
            end()
        return value

    @functools.wraps(real)
    async def waiting(*args: Any, **named: Any) -> Any:
        now = due()
        if now and before:
            end()
        value = await real(*args, **named)
        if now and not before:
            end()
        return value

    setattr(owner, name, waiting if inspect.iscoroutinefunction(real) else plain)


def after(owner: Any, name: str, call: int = 1) -> Callable[[End], None]:
    """A point behind the nth call."""
    return lambda end: hook(owner, name, end, call=call)


def before(owner: Any, name: str, call: int = 1) -> Callable[[End], None]:
    """A point in front of the nth call."""
    return lambda end: hook(owner, name, end, before=True, call=call)


def asked(method: str, path_end: str) -> Callable[[End], None]:
    """A point at which the engine has been sent a request, and its answer has not been read."""

    def install(end: End) -> None:
        connection = http.client.HTTPConnection
        put, get = connection.putrequest, connection.getresponse
        urls: dict[int, tuple[str, str]] = {}

        def putrequest(self: Any, verb: str, url: str, *args: Any, **named: Any) -> None:
            urls[id(self)] = (verb, url.partition("?")[0])
            put(self, verb, url, *args, **named)

        def getresponse(self: Any) -> Any:
            verb, path = urls.get(id(self), ("", ""))
            if verb == method and path.endswith(path_end) and "/containers/" in path:
                end()
            return get(self)

        connection.putrequest = putrequest  # type: ignore[assignment]
        connection.getresponse = getresponse  # type: ignore[method-assign]

    return install


def half_written(end: End) -> None:
    """All of the document is on disk, under the name that a context has until it is complete."""
    real = Path.rename

    def rename(self: Path, target: Any) -> Path:
        if self.suffix == ".part":
            end()
        return real(self, target)

    Path.rename = rename  # type: ignore[method-assign, assignment]


def half_removed(end: End) -> None:
    """The store is being removed."""

    def close(self: OwnedDir) -> None:
        hook(os, "rmdir", end, before=True)
        shutil.rmtree(self.path)
        real(self)

    real = OwnedDir.close
    OwnedDir.close = close  # type: ignore[method-assign]


POINTS: Final[dict[str, Callable[[End], None]]] = {
    "store made": after(Store, "__init__"),
    "context half written": half_written,
    "context stored": after(Store, "put"),
    "box directory made": after(Store, "new_box_dir"),
    "creation asked for": asked("POST", "/create"),
    "created": after(Engine, "create"),
    "attached": after(Engine, "attach"),
    "start asked for": asked("POST", "/start"),
    "started": after(Engine, "start"),
    "audited": after(Engine, "audit"),
    "context linked": after(Store, "link"),
    "context loaded": after(Sandbox, "load"),
    "first output of a cell": after(Capture, "add"),
    "in a sub-call": before(ScriptedProvider, "complete", call=2),
    "box lost": before(Sandbox, "restart"),
    "second box created": after(Engine, "create", call=2),
    "removal asked for": asked("DELETE", ""),
    "box removed": after(Engine, "remove"),
    "before the context is forgotten": before(Store, "forget"),
    "store half removed": half_removed,
}
NOT_STARTED: Final = ("creation asked for", "created", "attached", "start asked for", "second box created")
"""The box has no process, or not yet: nothing in it can notice the end of its host."""
