"""One box: a container, the kernel in it, and the directory of its contexts. For one run, and never used again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from sandbox.audit.findings import Audit
from sandbox.children import ChildCalls, Children
from sandbox.cpu_time import cpu_reader
from sandbox.engine import Engine
from sandbox.errors import BoxGone, BoxStartError, ControlMissing
from sandbox.kernel import Kernel
from sandbox.link import Link
from sandbox.owner import owner_label
from sandbox.reaper import reap
from sandbox.runtimes import Runtime
from sandbox.spec import KernelSettings, SandboxSpec
from sandbox.store import Store
from sandbox.subcalls import QueryHandler
from sandbox.threads import made_in_thread


class Box:
    """A box whose kernel has answered and knows nothing of a run yet; `set_up` gives it to one.

    Use `open`, and `aclose` at the end.

    Attributes:
        spec: Its size and isolation.
        directory: The host's side of the mount where it finds contexts and modules.
        kernel: The kernel; None before the container is there.
        container: Its ID; None where there is none any more.
        audit: What it was found to be; None before it was looked at.
        opened: When it was begun to be made, on the monotonic clock.
        waited: Whether it has waited in a pool: it may have ended a moment ago.
        on_close: Called once, when it is removed.
        removals: Where its removal is kept, if whoever closes the box need not wait for that; and `turn`, what it
            waits for.
    """

    def __init__(self, spec: SandboxSpec, engine: Engine, store: Store, directory: Path) -> None:
        self.spec = spec
        self.directory = directory
        self.kernel: Kernel | None = None
        self.container: str | None = None
        self.audit: Audit | None = None
        self.opened = time.monotonic()
        self.waited = False
        self.on_close: Callable[[], object] = lambda: None
        self.removals: set[asyncio.Task[None]] | None = None
        self.turn: AbstractAsyncContextManager[object] = contextlib.nullcontext()
        self._removal: asyncio.Task[None] | None = None
        self._read_cpu_s: Callable[[], float | None] | None = None
        self._engine = engine
        self._store = store

    @classmethod
    async def open(cls, spec: SandboxSpec, *, engine: Engine, store: Store, image: str) -> Box:
        """Start a box and wait until its kernel answers; a control that is missing kills it.

        Raises:
            EngineUnavailable: The engine can't give the isolation.
            BoxStartError: The box did not come up within ``spec.start_timeout_s``.
            ControlMissing: It came up without a restriction that the spec demands, and has been killed.
        """
        await reap(engine)
        box = cls(spec, engine, store, await made_in_thread(store.new_box_dir, store.remove_box_dir))
        await box.within_start(box.start(image))
        return box

    async def within_start(self, starting: Awaitable[None]) -> None:
        """Wait for a part of the start; where it fails, nothing of the box is left.

        Raises:
            BoxStartError: It took more than ``spec.start_timeout_s``, or the box ended over it. Else as it raises.
        """
        try:
            async with asyncio.timeout(self.spec.start_timeout_s):
                await starting
        except BaseException as error:
            await asyncio.shield(self.aclose())
            if isinstance(error, TimeoutError | BoxGone):
                raise BoxStartError(f"the kernel did not answer: {self._relay_words() or error!r}") from error
            raise

    async def start(self, image: str) -> None:
        """Create the container and greet what is in it."""
        runtime = await self._engine.check(self.spec)
        # More isolation than demanded, where the engine gives it.
        spec = dataclasses.replace(self.spec, isolation=runtime.isolation)
        place = {"image": image, "context_dir": str(self.directory)}
        self.container = await self._engine.create(spec, **place, owner=owner_label())
        reader, writer = await self._engine.attach(self.container)
        self.kernel = Kernel(Link(reader, writer, multiplexed=True))
        await self._engine.start(self.container)
        looking = self._look(self.kernel, spec, runtime, place)
        self.audit = await _answered(self.kernel, looking)
        if self.audit.missing:
            raise ControlMissing(self.audit)

    async def _look(self, kernel: Kernel, spec: SandboxSpec, runtime: Runtime, place: dict[str, str]) -> Audit:
        """Audit the box while its kernel starts: when PID 1 speaks, it is under all restrictions, for good."""
        container = str(self.container)
        record = await self._engine.inspect(container)
        self._read_cpu_s = cpu_reader(int(record["State"]["Pid"]), container)
        await kernel.greeted.wait()
        return await self._engine.audit(record, spec, runtime, **place)

    async def set_up(self, settings: KernelSettings, handler: QueryHandler, children: Children | None) -> None:
        """Tell its kernel what the run that it is for has.

        Raises:
            BoxStartError: It can't take it, or not in time.
        """
        if settings.modules:
            await asyncio.to_thread(self._store.write_modules, settings.modules, self.directory)
        calls = ChildCalls(children, self._store) if children is not None else None
        await self.within_start(self._kernel().set_up(settings, handler, calls))

    def _kernel(self) -> Kernel:
        if self.kernel is None:
            raise BoxGone("the box is gone")
        return self.kernel

    @property
    def alive(self) -> bool:
        """Whether its kernel answers."""
        return self.kernel is not None and not self.kernel.gone.is_set()

    def _relay_words(self) -> str:
        said = self.kernel.link.stderr if self.kernel is not None else b""
        return said.decode("utf-8", "replace").encode("unicode_escape").decode()[-300:]

    async def cpu_s(self) -> float | None:
        """CPU seconds of all its processes so far; None where nobody counts."""
        used_s = self._read_cpu_s() if self._read_cpu_s is not None else None
        if used_s is not None or self.container is None:
            return used_s
        return await self._engine.cpu_s(self.container)

    async def ran_out_of_memory(self, since: float) -> bool:
        """Whether the engine has said so since a Unix time."""
        return self.container is not None and await self._engine.ran_out_of_memory(self.container, since)

    async def aclose(self) -> None:
        """Close the stream, which ends the box, and remove what is left of it. Safe to call twice.

        No file of its contexts is left when this returns. Nor is the container, unless there are `removals` for it.
        """
        try:
            if self.kernel is not None:
                await self.kernel.aclose()
            if self.removals is not None:
                await asyncio.to_thread(self._store.remove_box_dir, self.directory)
        finally:
            if self._removal is None:
                self._removal = asyncio.create_task(self._remove(), name="airlock-box-removal")
            if self.removals is None:
                await asyncio.shield(self._removal)
            elif not self._removal.done():
                self.removals.add(self._removal)
                self._removal.add_done_callback(self.removals.discard)

    async def _remove(self) -> None:
        try:
            async with self.turn:
                if self.container is not None:
                    await self._engine.remove(self.container)
                    self.container = None
            await asyncio.to_thread(self._store.remove_box_dir, self.directory)
        finally:  # also where something is left to the reaper: the place is free
            self.on_close()


async def _answered(kernel: Kernel, looking: Awaitable[Audit]) -> Audit:
    """Wait for the kernel; the box is looked at meanwhile."""
    audit, answered = await asyncio.gather(looking, kernel.start(), return_exceptions=True)
    if isinstance(answered, BaseException):
        raise answered
    if isinstance(audit, BaseException):
        raise audit
    return audit
