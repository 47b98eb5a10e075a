"""A stock ipykernel of this Python, started and asked by jupyter_client, with no container around it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from tests.bench.memory import descendants, pss_bytes
from tests.bench.own_process import Samples, measured_here
from tests.bench.speed.figures import GIVES_VALUE, MIB, Counts, calls_code, context_text, seconds_printed

ANSWER_S = 300
VALUE = "v" * MIB


class OpenKernel:
    """A kernel and who asks it."""

    def __init__(self, manager: AsyncKernelManager, client: AsyncKernelClient) -> None:
        self._manager = manager
        self._client = client

    @classmethod
    async def start(cls) -> OpenKernel:
        manager = AsyncKernelManager()
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        return cls(manager, client)

    async def run(self, code: str) -> str:
        """Run a cell until the kernel is idle and has replied; what it printed."""
        asked = self._client.execute(code, allow_stdin=True, store_history=False)
        printed = []
        while True:
            message = await self._client.get_iopub_msg(timeout=ANSWER_S)
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                printed.append(content["text"])
            if message["msg_type"] == "error":
                raise SystemExit(str(content)[:500])
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                break
        await self._client.get_shell_msg(timeout=ANSWER_S)
        return "".join(printed)

    async def answer(self) -> None:
        """Answer whatever a cell asks for by `input`."""
        while True:
            message = await self._client.get_stdin_msg(timeout=ANSWER_S)
            prompt = message["content"]["prompt"]
            self._client.input(VALUE if prompt == GIVES_VALUE else prompt)

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.process.pid)  # type: ignore[union-attr]

    async def stop(self) -> None:
        self._client.stop_channels()
        await self._manager.shutdown_kernel(now=True)


async def measure(work: dict[str, Any]) -> dict[str, Any]:
    counts, samples = Counts.of(work), Samples()
    with samples.timed("start"):
        kernel = await OpenKernel.start()
        await kernel.run("1")
    answering = asyncio.create_task(kernel.answer())
    try:
        samples.add("pss_bytes", pss_bytes(descendants(kernel.pid)))
        await _cells(kernel, "cell", counts.cells, samples)
        samples.add(
            "host_call", *seconds_printed(await kernel.run(calls_code("input('?')", counts.calls, reply_chars=1)))
        )
        replies = calls_code(f"input({GIVES_VALUE!r})", counts.values, reply_chars=MIB)
        samples.add("value_as_reply", *seconds_printed(await kernel.run(replies)))
        for _ in range(counts.values):
            await _as_code(kernel, context_text(MIB), ("value", "value_as_code"), samples)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            await _by_file(kernel, Path(file.name), context_text(counts.context_bytes), samples)
        await _as_code(kernel, context_text(counts.context_bytes), ("context",), samples)
        await _cells(kernel, "cell_with_context", counts.cells, samples)
    finally:
        answering.cancel()
        await kernel.stop()
    return {"samples": samples.taken}


async def _cells(kernel: OpenKernel, name: str, count: int, samples: Samples) -> None:
    for _ in range(count):
        with samples.timed(name):
            await kernel.run("1")


async def _as_code(kernel: OpenKernel, text: str, names: tuple[str, ...], samples: Samples) -> None:
    """As interpreters on open kernels do it: the value stands in the code of the cell."""
    taken = Samples()
    with taken.timed("once"):
        await kernel.run(f"context = {text!r}")
    for name in names:
        samples.add(name, *taken.taken["once"])


async def _by_file(kernel: OpenKernel, path: Path, text: str, samples: Samples) -> None:
    """What a kernel can do that sees all of the host's files."""
    with samples.timed("context_by_file"):
        path.write_text(text, encoding="utf-8")
        await kernel.run(f"context = open({str(path)!r}, encoding='utf-8').read()")


def main(run: Callable[[dict[str, Any]], Any]) -> None:
    """With settings of its own: a user's start-up files are not a stock kernel's."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
            os.environ[name] = str(Path(folder, name.lower()))
        measured_here(lambda work: asyncio.run(run(work)))


if __name__ == "__main__":
    main(measure)
