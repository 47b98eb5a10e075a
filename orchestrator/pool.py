"""`SandboxPool`: boxes that wait with a ready kernel, shared by the runs of one process."""

from __future__ import annotations

import asyncio
import dataclasses
from types import TracebackType
from typing import TYPE_CHECKING, Self

from orchestrator.box_errors import our_errors
from orchestrator.box_spec import spec_for
from orchestrator.errors import BoxError, ConfigError
from orchestrator.limits import Limits
from orchestrator.sync import run_sync
from sandbox.spec import SandboxSpec

if TYPE_CHECKING:
    from sandbox.box import Box
    from sandbox.host import Host
    from sandbox.pool import Pool

MAX_BOXES = 1024
MAX_IDLE_S = 24 * 3600


class SandboxPool:
    """Boxes that wait with a ready kernel, for ``RLM(pool=...)``: a run that takes one starts in milliseconds.

    Each box is used by one run and removed behind it; a fresh one takes its place, at most one start at a time for each
    core. A waiting box has been checked like any other and belongs to nobody. One pool serves any number of `RLM`\\ s,
    their sessions and child runs; where none of its boxes is ready, a run starts its own.

    ``async with`` opens it for `arun`, `stream` and sessions that are awaited; ``with`` for what blocks (`query`),
    which runs on an event loop of this package's own. It belongs to that one loop.

    Args:
        size: Boxes kept ready, 0 to `max_boxes`.
        max_boxes: Runs that have a box at once, and boxes that wait for one, together (these give way); more runs wait
            for their turn, within their own time. Child runs do not wait, or a run could hold what its own child
            needs; they are bounded by ``Limits.max_live_boxes`` of each run.
        limits: Those of the runs: their memory and time are the boxes'.
        sandbox: The boxes; likewise.
        idle_s: Seconds that a box waits, then a fresh one takes its place. 1 to 86,400.

    Raises:
        ConfigError: A setting is out of its range.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        max_boxes: int = 16,
        limits: Limits | None = None,
        sandbox: SandboxSpec | None = None,
        idle_s: float = 600.0,
    ) -> None:
        _check("max_boxes", max_boxes, 1, MAX_BOXES, whole=True)
        _check("size", size, 0, max_boxes, whole=True)
        _check("idle_s", idle_s, 1, MAX_IDLE_S)
        self.spec = spec_for(sandbox, limits or Limits())
        self._size = size
        self._max_boxes = max_boxes
        self._idle_s = idle_s
        self._boxes: Pool | None = None
        self._host: Host | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def boxes(self) -> Pool:
        """The boxes, on this event loop.

        Raises:
            BoxError: The pool is not open, or was opened on another loop.
        """
        if self._boxes is None:
            raise BoxError("the pool is not open: use it in `with SandboxPool(...) as pool:`, or `async with`")
        if self._loop is not asyncio.get_running_loop():
            raise BoxError(
                "the pool was opened on another event loop: open it by `with` for RLM.query, by `async with` for arun"
            )
        return self._boxes

    @property
    def host(self) -> Host:
        """The engine and the store of the boxes.

        Raises:
            BoxError: As `boxes`.
        """
        if self._host is None:
            raise BoxError("the pool is not open")
        return self._host

    @property
    def ready(self) -> int:
        """Boxes that wait."""
        return self._boxes.ready if self._boxes is not None else 0

    async def aopen(self) -> None:
        """Start to keep boxes ready, on this event loop; returns with the first.

        Raises:
            BoxError: No engine, no image, or the box would not start.
        """
        from sandbox.host import shared_host
        from sandbox.pool import Pool

        if self._boxes is not None:
            raise BoxError("the pool is open already")
        with our_errors():
            self._host = await shared_host(lambda _: None)
            boxes = Pool(self.spec, self._open_box, size=self._size, max_boxes=self._max_boxes, idle_s=self._idle_s)
            await boxes.open()
        self._boxes, self._loop = boxes, asyncio.get_running_loop()

    async def _open_box(self, spec: SandboxSpec) -> Box:
        """Look for the image each time: somebody may have removed it since."""
        from sandbox.box import Box
        from sandbox.host import shared_host

        image = await (await shared_host(lambda _: None)).image_for(spec, lambda _: None)
        return await Box.open(spec, engine=self.host.engine, store=self.host.store, image=image)

    async def aclose(self) -> None:
        """Remove the boxes that wait. Runs that have one keep it. Safe to call twice."""
        boxes, self._boxes = self._boxes, None
        if boxes is not None:
            await boxes.aclose()

    async def __aenter__(self) -> Self:
        await self.aopen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.aclose())

    def __enter__(self) -> Self:
        run_sync(self.aopen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run_sync(self.aclose())


def checked_pool(pool: object, spec: SandboxSpec) -> SandboxPool | None:
    """A run's pool.

    Raises:
        ConfigError: It is none, or its boxes are not those of the run.
    """
    if pool is None:
        return None
    if not isinstance(pool, SandboxPool):
        raise ConfigError(f"pool: of type {type(pool).__name__}; write pool=SandboxPool(...)")
    for name in (field.name for field in dataclasses.fields(SandboxSpec)):
        ours, theirs = getattr(spec, name), getattr(pool.spec, name)
        if ours != theirs and name != "lifetime_s":
            raise ConfigError(
                f"pool: its boxes have {name} {theirs!r}, this RLM's {ours!r}: give both the same limits= and sandbox="
            )
    if spec.lifetime_s > pool.spec.lifetime_s:
        raise ConfigError(
            f"pool: its boxes live for {pool.spec.lifetime_s:,g} s in a run, this RLM's for {spec.lifetime_s:,g}: "
            "give both the same Limits.max_wall_s"
        )
    return pool


def _check(name: str, value: object, least: float, most: float, *, whole: bool = False) -> None:
    number = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not number or not least <= value <= most:  # type: ignore[operator]
        kind = "an integer" if whole else "a number"
        raise ConfigError(f"SandboxPool.{name}: {value!r} is not {kind} from {least:,} to {most:,}")
