"""What all boxes of one process share: the engine, the image and the content store."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.engine import Engine, connect
from sandbox.image import ensure_image
from sandbox.store import Store, state_dir


@dataclass(frozen=True, slots=True)
class Host:
    """An engine that answers, the ID of the box's image on it, and a store."""

    engine: Engine
    image: str
    store: Store


_hosts: dict[tuple[str, str], Host] = {}
_opening = threading.Lock()


async def shared_host(progress: Callable[[str], None]) -> Host:
    """The `Host` of this process for the engine that the environment names now; opened at the first call.

    Args:
        progress: Is called with a line of text at each step that takes long, such as building the image; from a thread.

    Raises:
        EngineUnavailable, ImageError, SandboxError: See `connect`, `ensure_image` and `Store`.
    """
    return await asyncio.to_thread(_shared_host, progress)


def _shared_host(progress: Callable[[str], None]) -> Host:
    key = (os.environ.get("DOCKER_HOST", ""), str(state_dir()))
    with _opening:
        if key not in _hosts:
            client = connect()
            image = ensure_image(progress, client)
            store = Store(state_dir() / "store")
            atexit.register(store.close)
            _hosts[key] = Host(Engine(client), image, store)
        return _hosts[key]
