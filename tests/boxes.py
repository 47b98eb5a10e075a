"""Real boxes for the tests that need an engine: one host a session, and one box a module that comes back when lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.engine import Engine
from sandbox.host import Host, shared_host
from sandbox.kernel import Kernel
from sandbox.messages import Asked, SubCallFailure
from sandbox.sandbox import Sandbox
from sandbox.spec import MIB, KernelSettings, SandboxSpec
from sandbox.store import Store
from sandbox.subcalls import QueryHandler

SMALL = SandboxSpec(memory_bytes=512 * MIB, tmp_bytes=64 * MIB, tmp_inodes=2000, pids=256)
SETTINGS = KernelSettings(output_chars=1000)


class Box(Sandbox):
    """A sandbox whose handler a test may replace.

    Attributes:
        answer: Answers sub-calls; the standard one echoes.
    """

    answer: QueryHandler

    @classmethod
    async def open(cls, host: Host, spec: SandboxSpec = SMALL, settings: KernelSettings = SETTINGS) -> Box:
        async def ask(asked: Asked) -> str | SubCallFailure:
            return await opened.answer(asked)

        started = await cls.start(
            spec, engine=host.engine, store=host.store, image=host.image, settings=settings, handler=ask
        )
        assert isinstance(started, Box)
        opened: Box = started
        opened.answer = echo
        return opened

    @property
    def container(self) -> str:
        assert self._box
        assert self._box.container
        return self._box.container

    @property
    def directory(self) -> Path:
        """The host's side of its contexts."""
        assert self._box
        return self._box.directory

    @property
    def kernel(self) -> Kernel:
        assert self._box
        assert self._box.kernel
        return self._box.kernel

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def store(self) -> Store:
        return self._store

    async def shown(self, code: str) -> str:
        """The last value of a cell, as text; a cell that fails fails the test."""
        result = await self.execute(code)
        assert result.status == "ok", result
        return result.result.text


async def echo(asked: Asked) -> str:
    return f"<{asked.prompt}>" if asked.data is None else f"<{asked.prompt}|{asked.data}>"


async def never(asked: Asked) -> str:
    """A model server that does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def exists(engine: Engine, container: str) -> bool:
    """Whether the engine still knows a box."""
    return container in {box["Id"] for box in await engine.list_boxes()}


@pytest.fixture(scope="session")
def box_host(image_id: str, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The engine, the image and a store for those tests alone that open boxes themselves: they leave contexts in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRLOCK_STATE", str(tmp_path_factory.mktemp("state")))
        host = asyncio.run(shared_host(print))
    assert host.image == image_id
    return host


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _module_box(box_host: Host) -> AsyncIterator[Box]:
    async with await Box.open(box_host) as box:
        assert isinstance(box, Box)
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def box(_module_box: Box) -> Box:
    """The module's box; a test that loses it leaves a fresh one to the next."""
    _module_box.answer = echo
    if not _module_box.alive:
        await _module_box.restart()
    return _module_box
