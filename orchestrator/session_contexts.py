"""The contexts of a session: their names, their values until cells have them, and what is told of them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import keyword
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.context import format_context_info
from orchestrator.documents import documents_of
from orchestrator.errors import ConfigError
from orchestrator.intake import ContextMode, let_go, take_in
from orchestrator.modules import NAMES_OF_OURS
from orchestrator.result import Document

MAX_CONTEXTS: Final = 100
FIRST: Final = "context"


@dataclass(slots=True, kw_only=True)
class SessionContext:
    """One context.

    Attributes:
        name: Its variable.
        value: In its normal form.
        info: What the root is told of it.
        documents: What is in it.
        bound: Whether cells can read it.
    """

    name: str
    value: Any
    info: str
    documents: tuple[Document, ...]
    bound: bool = False


class SessionContexts:
    """All contexts of a session; the first one is `context`.

    Args:
        mode: What texts are in the box.
        memory_bytes: The box's.
    """

    def __init__(self, mode: ContextMode, memory_bytes: int) -> None:
        self._mode = mode
        self._memory_bytes = memory_bytes
        self._all: dict[str, SessionContext] = {}
        self._taking = asyncio.Lock()

    async def take(self, value: Any, name: str | None = None) -> SessionContext:
        """Check a context and give it a name: `context`, then `context_1`, `context_2` and so on.

        Raises:
            ConfigError: The name can't be used, or there are too many.
            ContextError: The context can't be used.
        """
        async with self._taking:
            if len(self._all) >= MAX_CONTEXTS:
                raise ConfigError(f"add_context: a session has at most {MAX_CONTEXTS} contexts")
            name = self._next_name() if name is None else self._checked(name)
            checked = await take_in(value, self._mode, self._memory_bytes)
            try:
                found = await asyncio.to_thread(documents_of, checked)
                info = await asyncio.to_thread(format_context_info, checked)
            except BaseException:
                let_go(checked)
                raise
            named = (dataclasses.replace(one, name=name) if one.name == FIRST else one for one in found)
            self._all[name] = SessionContext(name=name, value=checked, info=info, documents=tuple(named))
            return self._all[name]

    def _next_name(self) -> str:
        if not self._all:
            return FIRST
        numbered = (f"context_{number}" for number in itertools.count(1))
        return next(name for name in numbered if name not in self._all)

    def _checked(self, name: Any) -> str:
        if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
            raise ConfigError(f"add_context: {name!r:.80} is no name that a variable can have")
        if name.startswith("_") or name in NAMES_OF_OURS or name == "context_0" or name in self._all:
            raise ConfigError(f"add_context: the name {name!r:.80} is taken")
        return name

    def drop(self, context: SessionContext) -> None:
        """Take one out that does not fit the box."""
        if self._all.pop(context.name, None) is not None:
            let_go(context.value)

    def close(self) -> None:
        """Give back what the store has of them. Safe to call twice."""
        for context in self._all.values():
            let_go(context.value)
            context.value = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        return tuple(self._all)

    @property
    def first(self) -> SessionContext:
        """The one that is `context`."""
        return self._all[FIRST]

    @property
    def others(self) -> tuple[SessionContext, ...]:
        """All but the first."""
        return tuple(context for context in self._all.values() if context.name != FIRST)

    @property
    def documents(self) -> tuple[Document, ...]:
        """What is in them."""
        return tuple(document for context in self._all.values() for document in context.documents)
