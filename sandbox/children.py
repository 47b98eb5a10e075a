"""Child runs of one box's cells: their contexts are taken in pieces, and whoever starts them answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from sandbox.messages import Piece, SubCallFailure
from sandbox.store import Store, StoredContext
from sandbox.uploads import StoreQuota, Uploads

ChildHandler = Callable[[str, StoredContext | None], Awaitable[str | SubCallFailure]]
"""Answers one child run: takes its question and context, which is in the store until it returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """How cells' `rlm_query` is answered.

    Attributes:
        handler: Answers them.
        quota: What their contexts may take; shared by the whole recursion tree.
        mode: What the kernel is told to do: start a ``child``, ask by ``llm_query`` instead, or ``raise``.
    """

    handler: ChildHandler
    quota: StoreQuota
    mode: Literal["child", "llm_query", "raise"] = "child"


class ChildCalls:
    """The child runs of one box."""

    def __init__(self, children: Children, store: Store) -> None:
        self._handler = children.handler
        self._starts = children.mode == "child"
        self._uploads = Uploads(store, children.quota)

    async def take(self, piece: Piece) -> bool:
        """Take a piece of a context. Returns whether it was kept: not where no child run may start.

        Raises:
            ProtocolViolation: See `Uploads.add`.
        """
        return self._starts and await self._uploads.add(piece)

    async def ask(self, question: str, upload_id: str | None) -> str | SubCallFailure:
        """Run one to its end."""
        if upload_id is None:
            return await self._handler(question, None)
        context = await self._uploads.take(upload_id)
        if isinstance(context, SubCallFailure):
            return context
        try:
            return await self._handler(question, context)
        finally:
            self._uploads.release(context)

    async def clear(self) -> None:
        """Drop what no child run was started with."""
        await self._uploads.clear()
