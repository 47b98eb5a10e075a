"""One sandbox: a REPL in a locked container. The package's main door.

A `Sandbox` keeps its identity when its box is lost: `restart` takes a fresh box and loads the contexts again. What the
kernel's variables held is gone then, and the caller must say so to whoever relied on them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any, Final

from sandbox.audit.findings import Audit
from sandbox.box import Box
from sandbox.cell import CellResult
from sandbox.children import Children
from sandbox.clocks import CellClocks
from sandbox.engine import Engine
from sandbox.errors import BoxGone, BoxStartError, ContextLoadError, ProtocolViolation, ValueUnavailable
from sandbox.kernel import Kernel
from sandbox.pool import Pool
from sandbox.protocol import decode_json_value, decode_text, decode_variables
from sandbox.spec import CONTEXT_DIR, CellLimits, KernelSettings, SandboxSpec
from sandbox.store import Store, StoredContext
from sandbox.subcalls import QueryHandler
from sandbox.values import quote, value_in
from sandbox.variables import Variables

VALUE_TIMEOUT_S: Final = 20.0
"""Seconds to hand out a value: a cell may leave objects whose JSON form never ends."""
LOAD_TIMEOUT_S: Final = 120.0


class Sandbox:
    """A REPL in a locked container without a network. Not safe for concurrent cells: one at a time.

    Use `start`, then `load`, `execute`, `json_value`, and `aclose` at the end (or ``async with``).
    """

    def __init__(
        self,
        spec: SandboxSpec,
        engine: Engine,
        store: Store,
        image: str | None,
        settings: KernelSettings,
        handler: QueryHandler,
        children: Children | None = None,
        pool: Pool | None = None,
        waits: bool = True,
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._store = store
        self._image = image
        self._settings = settings
        self._handler = handler
        self._children = children
        self._pool = pool
        self._waits = waits
        self._contexts: dict[str, tuple[StoredContext, tuple[str, ...]]] = {}
        self._box: Box | None = None

    @classmethod
    async def start(
        cls,
        spec: SandboxSpec,
        *,
        engine: Engine,
        store: Store,
        image: str | None = None,
        settings: KernelSettings | None = None,
        handler: QueryHandler,
        children: Children | None = None,
        pool: Pool | None = None,
        waits: bool = True,
    ) -> Sandbox:
        """Start a box and wait until its kernel answers.

        Args:
            spec: Its size and isolation.
            engine: The engine to run it on.
            store: Where its contexts lie.
            image: Image ID; may be None where a pool knows it.
            settings: What the kernel is told.
            handler: Answers the cells' sub-calls.
            children: Answers the cells' child runs; None where there are none.
            pool: Where its boxes come from; None starts each anew.
            waits: Whether it waits where the pool has no place for it (`Pool.take`).

        Raises:
            EngineUnavailable: The engine can't give the isolation.
            BoxStartError: The box did not come up within ``spec.start_timeout_s``.
            ControlMissing: It came up without a restriction that the spec demands, and has been killed.
        """
        settings = settings or KernelSettings()
        if children is not None:
            settings = dataclasses.replace(settings, rlm_query=children.mode)
        sandbox = cls(spec, engine, store, image, settings, handler, children, pool, waits)
        await sandbox._open_box()
        return sandbox

    async def _open_box(self) -> None:
        while True:
            box = self._box = await self._take_box()
            try:
                return await box.set_up(self._settings, self._handler, self._children)
            except BaseException as error:
                await asyncio.shield(self._close_box())
                if not (box.waited and isinstance(error.__cause__, BoxGone)):  # else it had ended as it was taken
                    raise

    async def _take_box(self) -> Box:
        if self._pool is not None:
            return await self._pool.take(self._spec, waits=self._waits)
        if self._image is None:
            raise BoxStartError("neither an image nor a pool of boxes was given")
        return await Box.open(self._spec, engine=self._engine, store=self._store, image=self._image)

    async def load(self, name: str, context: StoredContext, *, also: tuple[str, ...] = ()) -> None:
        """Bind a stored context to a variable, now and after each `restart`. It takes the place of the one that was
        loaded by this name, whose file the box sees no longer.

        Args:
            name: The variable.
            context: Of the store.
            also: More names for the same value.

        Raises:
            ContextLoadError: The kernel could not read it, for example for want of memory.
            BoxGone: The box ended.
        """
        await self._load(name, context, also)
        before, _ = self._contexts.pop(name, (context, ()))
        self._contexts[name] = (context, also)
        if before.digest not in {loaded.digest for loaded, _ in self._contexts.values()}:
            await asyncio.to_thread(self._store.unlink, before, self._live_box().directory)

    async def reload(self) -> None:
        """Bind all contexts anew, as they were stored: cells may have changed what they are bound to.

        Raises:
            As `load`.
        """
        for name, (context, also) in tuple(self._contexts.items()):
            await self._load(name, context, also)

    async def _load(self, name: str, context: StoredContext, also: tuple[str, ...]) -> None:
        file = await asyncio.to_thread(self._store.link, context, self._live_box().directory)
        content = {
            "name": name,
            "also": list(also),
            "path": f"{CONTEXT_DIR}/{file}",
            "form": "lazy" if context.lazy else context.form,
            "is_ascii": context.is_ascii,
            "memory_bytes": self._spec.memory_bytes,
        }
        started = time.time()
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                reply = await self._live().request("airlock_load", content)
        except TimeoutError:
            await self.kill()
            raise ContextLoadError(f"the kernel did not read the context within {LOAD_TIMEOUT_S:.0f} s") from None
        except asyncio.CancelledError:  # the reply would come when nobody waits for one
            await asyncio.shield(self.kill())
            raise
        except BoxGone:
            raise ContextLoadError(f"loading the context failed: {await self._why_lost(started)}") from None
        if not reply.ok:
            raise ContextLoadError(f"the kernel could not read the context: {quote(reply.error_name)}")

    async def execute(self, code: str, limits: CellLimits | None = None) -> CellResult:
        """Run one cell. Never raises for what the code does: that is in the result.

        After a result with status ``lost`` call `restart` before the next cell.

        Raises:
            ProtocolViolation: The box sent illegal bytes; it has been killed.
            BoxGone: It was gone before the cell.
        """
        kernel = self._live()
        clocks = CellClocks(limits or CellLimits(), self._spec.cpus, self._read_cpu_s)
        started = time.time()
        try:
            result = await kernel.execute(code, clocks)
        except BaseException:
            await asyncio.shield(self.kill())
            raise
        if result.status != "lost":
            return result
        because = await self._why_lost(started, result)
        await self.kill()
        return dataclasses.replace(result, lost_because=because)

    async def _read_cpu_s(self) -> float | None:
        return await self._box.cpu_s() if self._box is not None else None

    async def _why_lost(self, since: float, result: CellResult | None = None) -> str:
        """In words for the model. Raises the violation, where that was the reason."""
        kernel = self._live(gone_is_fine=True)
        if kernel.violation is not None:
            await self.kill()
            raise kernel.violation
        if result is not None and result.clock is not None:
            return "it did not stop when interrupted"
        if self._box is not None and await self._box.ran_out_of_memory(since):
            return f"out of memory: the box has {self._spec.memory_bytes >> 20} MiB"
        if kernel.exit_code is None:
            return "the box ended"
        return f"the kernel died by signal {-kernel.exit_code}" if kernel.exit_code < 0 else "the kernel exited"

    async def json_value(self, name: str) -> Any:
        """The value of a variable, as JSON carries it: tuples become lists, keys become str.

        Raises:
            ValueUnavailable: Undefined, not JSON, or larger than ``settings.answer_bytes``; or the box ended over it
                (then `alive` is false).
            BoxGone: The box was gone before.
            ProtocolViolation: It misbehaved and has been killed.
        """
        raw = await self._value(name, "json")
        return await asyncio.to_thread(decode_json_value, raw)  # a hostile one takes a part of a second

    async def answer_text(self, name: str) -> str:
        """The value of a variable as answer text: str as it is, lists and dicts as JSON, else ``str()``.

        Raises:
            As `json_value`.
        """
        return decode_text(await self._value(name, "answer"))

    async def has_value(self, name: str) -> bool:
        """Whether a variable of this name exists."""
        try:
            await self._value(name, "exists")
        except ValueUnavailable as error:
            if error.undefined:
                return False
            raise
        return True

    async def variables(self) -> Variables:
        """Which variables the cells have made, as the box says: the last hundred by name, type and size.

        Raises:
            As `json_value`.
        """
        return decode_variables(await self._value("", "variables"))

    async def _value(self, name: str, form: str) -> bytes:
        content = {"name": name, "form": form, "max_bytes": self._settings.answer_bytes}
        kernel = self._live()
        try:
            async with asyncio.timeout(VALUE_TIMEOUT_S):
                reply = await kernel.request("airlock_value", content)
        except asyncio.CancelledError:
            await asyncio.shield(self.kill())
            raise
        except (TimeoutError, BoxGone):
            await self.kill()
            raise ValueUnavailable(
                f"it did not come within {VALUE_TIMEOUT_S:.0f} s, or ended the box", undefined=False
            ) from None
        try:
            return value_in(reply, most_bytes=self._settings.answer_bytes, has_bytes=form != "exists")
        except ProtocolViolation:
            await self.kill()
            raise

    async def settle(self) -> None:
        """End whatever threads of earlier cells have asked the host, and wait until it has ended."""
        if self._box is not None and self._box.kernel is not None:
            await self._box.kernel.settle()

    async def interrupt(self) -> None:
        """Interrupt the running cell, as Ctrl-C does in a notebook."""
        await self._live().interrupt()

    async def restart(self) -> None:
        """Take a fresh box and load the contexts again. All other variables are gone.

        Raises:
            As `start` and `load`.
        """
        await self._close_box()
        await self._open_box()
        await self.reload()

    @property
    def audit(self) -> Audit | None:
        """What the audit said of the newest box; None before the first one answered."""
        return self._box.audit if self._box is not None else None

    @property
    def alive(self) -> bool:
        """Whether the box can run a cell."""
        return self._box is not None and self._box.alive

    @property
    def violation(self) -> ProtocolViolation | None:
        """What the newest box did that no honest box does, perhaps while nobody asked it anything."""
        return self._box.kernel.violation if self._box is not None and self._box.kernel is not None else None

    def _live_box(self) -> Box:
        if self._box is None:
            raise BoxGone("the box is gone; restart() takes a fresh one")
        return self._box

    def _live(self, *, gone_is_fine: bool = False) -> Kernel:
        kernel = self._live_box().kernel
        if kernel is None or (kernel.gone.is_set() and not gone_is_fine):
            violation = kernel.violation if kernel else None
            raise violation or BoxGone("the box is gone; restart() takes a fresh one")
        return kernel

    async def kill(self) -> None:
        """Kill the box at once; `restart` still works."""
        await self._close_box()

    async def _close_box(self) -> None:
        if self._box is not None:
            await self._box.aclose()

    async def aclose(self) -> None:
        """Remove the box. Safe to call twice, and while a cell runs."""
        await asyncio.shield(self._close_box())

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
