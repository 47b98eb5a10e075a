"""What all boxes of one process share: the engine, the image and the content store."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.build_dir import PREFIX as BUILD_PREFIX
from sandbox.build_dir import temp_dir
from sandbox.engine import Engine, connect
from sandbox.image import ensure_image
from sandbox.owned_dir import remove_orphans
from sandbox.spec import SandboxSpec
from sandbox.store import STORE_PREFIX, Store, shared_store, state_dir


@dataclass(frozen=True, slots=True)
class Host:
    """An engine that answers, the ID of the kernel's image on it, and a store."""

    engine: Engine
    image: str
    store: Store

    async def image_for(self, spec: SandboxSpec, progress: Callable[[str], None]) -> str:
        """ID of the image that a box of this spec runs; another one than the kernel's is built where it is missing.

        Args:
            spec: Its `image` is looked at.
            progress: As for `shared_host`.

        Raises:
            EngineUnavailable, ImageError: See `ensure_image`.
        """
        if spec.image == "kernel":
            return self.image
        if spec.image == "data":
            return await asyncio.to_thread(ensure_image, progress, name="data")
        return spec.image


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
        remove_orphans(temp_dir(), BUILD_PREFIX)
        known = _hosts.get(key)
        if known is None:
            client = connect()
            image = ensure_image(progress, client)
            _hosts[key] = Host(Engine(client), image, shared_store())
        else:
            remove_orphans(state_dir() / "store", STORE_PREFIX)
            # Somebody may have removed the image since the last run.
            _hosts[key] = dataclasses.replace(known, image=ensure_image(progress, known.engine.api))
        return _hosts[key]
