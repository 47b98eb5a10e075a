"""The interactive Docker session of the PyPI package llm-sandbox. It has no call of the host."""

from __future__ import annotations

import tempfile
from typing import Any

import docker
from llm_sandbox import InteractiveSandboxSession

from tests.bench.memory import container_memory
from tests.bench.own_process import Samples, measured_here
from tests.bench.speed.figures import MIB, Counts, context_text


def ran(session: InteractiveSandboxSession, code: str) -> None:
    """Run a cell that must not fail."""
    result = session.run(code)
    if result.exit_code:
        raise SystemExit(f"{code[:100]}: {result.stderr[-400:]}")


def measure(work: dict[str, Any]) -> dict[str, Any]:
    counts, samples = Counts.of(work), Samples()
    # 4 GB: with the default of 1 GB its reading of a context ends the container.
    session = InteractiveSandboxSession(image=work["image"], skip_environment_setup=True, max_memory="4GB")
    with samples.timed("start"):
        session.open()
        ran(session, "1")
    try:
        state = docker.from_env().api.inspect_container(session.container.id)["State"]
        for name, size in container_memory(int(state["Pid"])).items():
            samples.add(name, size)
        _cells(session, "cell", counts.cells, samples)
        for _ in range(counts.values):
            _by_file(session, "value", MIB, samples)
            text = context_text(MIB)
            with samples.timed("value_as_code"):
                ran(session, f"value = {text!r}")
        _by_file(session, "context", counts.context_bytes, samples)
        _cells(session, "cell_with_context", counts.cells, samples)
    finally:
        session.container.kill()  # a stop takes ten seconds
        session.close()
    return {"samples": samples.taken}


def _by_file(session: InteractiveSandboxSession, name: str, size: int, samples: Samples) -> None:
    """Its way for data: a file that is copied into the container, and read there."""
    text = context_text(size)
    with samples.timed(name), tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        session.copy_to_runtime(file.name, "/sandbox/value.txt")
        ran(session, f"{name} = open('/sandbox/value.txt', encoding='utf-8').read()")


def _cells(session: InteractiveSandboxSession, name: str, count: int, samples: Samples) -> None:
    for _ in range(count):
        with samples.timed(name):
            ran(session, "1")


if __name__ == "__main__":
    measured_here(measure)
