"""The Docker executor of the PyPI package smolagents: a kernel behind Jupyter's gateway on a published port."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import DockerExecutor

from tests.bench.memory import container_memory
from tests.bench.own_process import Samples, measured_here
from tests.bench.speed.figures import MIB, Counts, context_text


def free_port() -> int:
    """One that nobody listens at now."""
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def measure(work: dict[str, Any]) -> dict[str, Any]:
    counts, samples = Counts.of(work), Samples()
    with samples.timed("start"):
        executor = DockerExecutor(
            [],
            AgentLogger(level=LogLevel.OFF),
            port=free_port(),
            image_name=work["image"],
            build_new_image=False,
        )
        executor("1")
    try:
        executor.container.reload()
        for name, size in container_memory(int(executor.container.attrs["State"]["Pid"])).items():
            samples.add(name, size)
        _cells(executor, "cell", counts.cells, samples)
        for _ in range(counts.values):
            text = context_text(MIB)
            with samples.timed("value"):
                executor.send_variables({"value": text})
            with samples.timed("value_as_code"):
                executor(f"value = {text!r}")
        _context(executor, counts, samples)
    finally:
        executor.container.kill()  # its own clean-up waits ten seconds for a stop
        executor.cleanup()
    return {"samples": samples.taken}


def _context(executor: DockerExecutor, counts: Counts, samples: Samples) -> None:
    """A message of 50 MB is more than its gateway takes: then there is no figure."""
    text = context_text(counts.context_bytes)
    try:
        with samples.timed("context"):
            executor.send_variables({"context": text})
    except Exception as refused:
        print(f"a context of {counts.context_bytes:,} bytes: {refused!r:.300}", file=sys.stderr)
        return
    _cells(executor, "cell_with_context", counts.cells, samples)


def _cells(executor: DockerExecutor, name: str, count: int, samples: Samples) -> None:
    for _ in range(count):
        with samples.timed(name):
            executor("1")


if __name__ == "__main__":
    measured_here(measure)
