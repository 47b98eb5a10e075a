"""Blocking calls that make something, run in a thread by a task that may be cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def made_in_thread(
    make: Callable[[], T], undo: Callable[[T], object], on_cancel: Callable[[], object] = lambda: None
) -> T:
    """Run `make` in a thread. A thread can't be cancelled: who is cancelled meanwhile waits for it, and undoes it.

    Args:
        make: Makes something.
        undo: Takes it away again; runs in a thread too.
        on_cancel: Tells `make` that nobody wants it any more; it may then raise.

    Returns:
        What `make` returned.

    Raises:
        Exception: Whatever `make` raised.
    """
    making = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.shield(asyncio.ensure_future(_undo(making, undo)))
        raise


async def _undo(making: asyncio.Future[T], undo: Callable[[T], object]) -> None:
    try:
        made = await making
    except Exception:  # noqa: BLE001 - nothing was made, and whoever would be told is cancelled
        return
    await asyncio.to_thread(undo, made)
