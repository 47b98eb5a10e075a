"""What the host binds in a REPL: the contexts and, in a session, its history. It comes back in a fresh box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.box_errors import our_errors
from orchestrator.errors import ContextError
from sandbox.sandbox import Sandbox
from sandbox.store import Store, StoredContext
from sandbox.threads import made_in_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class LateContext:
    """A context that comes while a run works in the box.

    Attributes:
        name: Its variable.
        value: In its normal form, or of the store.
        info: What the root is told of it.
        settled: Called with whether it could be bound.
    """

    name: str
    value: Any
    info: str
    settled: Callable[[bool], None]


class Bound:
    """The variables of one REPL that the host has bound.

    Args:
        sandbox: Where they are.
        store: Where their values are on the host.
    """

    def __init__(self, sandbox: Sandbox, store: Store) -> None:
        self._sandbox = sandbox
        self._store = store
        self._stored: dict[str, StoredContext] = {}
        self._names: set[str] = set()
        self._late: list[LateContext] = []

    @property
    def names(self) -> frozenset[str]:
        """All of them, further names for one value included."""
        return frozenset(self._names)

    @property
    def beside_context(self) -> list[str]:
        """Those but for `context`, in the order in which they came."""
        return [name for name in self._stored if name != "context"]

    async def bind(self, name: str, value: Any, *, also: tuple[str, ...] = ()) -> None:
        """Bind a value to a variable, now and in each fresh box, in the place of what was bound to it by this.

        Args:
            name: The variable.
            value: A context in its normal form, or one of the store that lives for as long.
            also: More names for the same value.

        Raises:
            BoxError: The store can't be written.
            ContextError: The value does not fit the box.
        """
        with our_errors():
            stored = await self._keep(value)
            try:
                await self._sandbox.load(name, stored, also=also)
            except BaseException:
                self._store.forget(stored)
                raise
            before = self._stored.get(name)
            self._stored[name] = stored
            self._names |= {name, *also}
            if before is not None:
                self._store.forget(before)

    async def _keep(self, value: Any) -> StoredContext:
        if isinstance(value, StoredContext):
            self._store.keep(value)
            return value
        return await made_in_thread(partial(self._store.put, value), self._store.forget)

    def bind_late(self, context: LateContext) -> None:
        """Bind a context while a run works in the box: behind the cells of this turn."""
        self._late.append(context)

    async def late(self) -> list[str]:
        """Bind the late contexts now; returns what the root is to be told of them.

        Raises:
            ContextError: One of them does not fit the box.
        """
        told = []
        while self._late:
            context = self._late.pop(0)
            try:
                await self.bind(context.name, context.value)
            except ContextError as error:
                context.settled(False)
                raise ContextError(f"{context.name}: {error}; it was taken out of the session") from error
            context.settled(True)
            told.append(f"The user has added a context: `{context.name}` is {context.info}.")
        return told

    def drop_late(self) -> None:
        """Bind them another way."""
        self._late.clear()

    def forget(self) -> None:
        """No text of a document stays on disk."""
        while self._stored:
            self._store.forget(self._stored.popitem()[1])
