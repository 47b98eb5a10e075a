"""The box's own programs as a local process: the real relay, kernel and REPL, reached through the real host code.

Only the container around them is missing, so these tests need no engine. Nothing here locks anything: the cells run
with the rights of whoever runs the tests, so no hostile cell belongs into this folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, cast

from sandbox.box import Box
from sandbox.encoding import encode_frame
from sandbox.engine import Engine
from sandbox.kernel import Kernel
from sandbox.link import Link
from sandbox.messages import RELAY, Asked, SubCallFailure
from sandbox.sandbox import Sandbox
from sandbox.spec import KernelSettings, SandboxSpec
from sandbox.store import Store
from sandbox.subcalls import QueryHandler
from tests.conftest import REPOSITORY

RELAY_PROGRAM = REPOSITORY / "images" / "kernel" / "relay.py"
OUTPUT_CHARS = 1000
PROMPT_BYTES = 100_000
VALUE_BYTES = 200_000
SETTINGS = KernelSettings(output_chars=OUTPUT_CHARS, prompt_bytes=PROMPT_BYTES, answer_bytes=VALUE_BYTES)


async def spawn_relay(run_dir: Path) -> Process:
    """Start the relay, which starts a kernel. The directory's path must be short: it names unix sockets."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(run_dir),
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, str(RELAY_PROGRAM), str(run_dir / "run"), stdin=PIPE, stdout=PIPE, env=environment
    )


class LocalBox(Sandbox):
    """A `Sandbox` whose box is a local process. All else, from the link to the values, is the real thing.

    Attributes:
        handler: Answers sub-calls; tests replace it.
        prompts: What sub-calls were asked, as (prompt, data).
    """

    def __init__(self, settings: KernelSettings = SETTINGS) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix="box"))
        self.handler: QueryHandler = echo
        self.prompts: list[tuple[str, str | None]] = []
        self.process: Process | None = None
        self._kernel_pids: list[int] = []
        self._closing = asyncio.Lock()
        self.store = Store(self.run_dir / "store")
        super().__init__(SandboxSpec(), cast("Engine", None), self.store, "no image", settings, self._ask)

    async def _ask(self, asked: Asked) -> str | SubCallFailure:
        self.prompts.append((asked.prompt, asked.data))
        return await self.handler(asked)

    async def open(self) -> LocalBox:
        await self._open_box()
        return self

    async def _take_box(self) -> Box:
        no_engine = cast("Engine", None)  # used for containers only, and there is none
        box = Box(self._spec, no_engine, self.store, self.store.new_box_dir())
        self.process = await spawn_relay(self.run_dir)
        assert self.process.stdout
        assert self.process.stdin
        box.kernel = Kernel(Link(self.process.stdout, self.process.stdin, multiplexed=False))
        self._kernel_pids += children_of(self.process.pid)
        await box.kernel.start()
        return box

    async def _close_box(self) -> None:
        await super()._close_box()
        async with self._closing:
            await self._end_process()

    async def _end_process(self) -> None:
        for pid in self._kernel_pids:  # in a container they end with their PID 1
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._kernel_pids.clear()
        if self.process:
            await self.process.communicate()

    async def aclose(self) -> None:
        await super().aclose()
        if self.run_dir.exists():
            self.store.close()
        shutil.rmtree(self.run_dir, ignore_errors=True)

    @property
    def kernel(self) -> Kernel:
        assert self._box
        assert self._box.kernel
        return self._box.kernel

    async def load_value(self, name: str, value: Any) -> None:
        """Bind a context, by the path where a local process finds it: there is no mount."""
        assert self._box
        file = self.store.link(self.store.put(value), self._box.directory)
        content = {
            "name": name,
            "path": str(self._box.directory / file),
            "form": "text" if isinstance(value, str) else "json",
        }
        reply = await self.kernel.request("airlock_load", content)
        assert reply.ok, reply

    async def printed(self, code: str) -> str:
        """What a cell prints; a cell that fails fails the test."""
        result = await self.execute(code)
        assert result.status == "ok", result
        return result.stdout.text

    async def value(self, expression: str) -> Any:
        """A Python value out of the box, printed as JSON by a cell."""
        return json.loads(await self.printed(f"import json; print(json.dumps({expression}))"))


async def echo(asked: Asked) -> str:
    """The standard answer of these tests' host."""
    return f"<{asked.prompt}>" if asked.data is None else f"<{asked.prompt}|{asked.data}>"


def children_of(pid: int) -> list[int]:
    """A relay's kernel, at the time when it must be there."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for _ in range(10_000):
        if pids := children.read_text().split():
            return [int(child) for child in pids]
        time.sleep(0.001)
    raise AssertionError("the relay has started no kernel")


def hello() -> bytes:
    """The host's first frame."""
    return encode_frame(RELAY, [b"{}"])
