"""The Docker environment of the PyPI package rlms, by its public classes. Runs under that package's Python."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import Any

from rlm.clients.base_lm import BaseLM
from rlm.core.lm_handler import LMHandler
from rlm.core.types import ModelUsageSummary, UsageSummary
from rlm.environments.docker_repl import DockerREPL

from tests.bench.memory import container_memory
from tests.bench.own_process import Samples, measured_here
from tests.bench.speed.figures import GIVES_VALUE, MIB, Counts, calls_code, context_text, seconds_printed

VALUE = "v" * MIB


class Echo(BaseLM):  # type: ignore[misc]  # its base is not in our environment
    """The sub-model that costs nothing."""

    def completion(self, prompt: Any) -> str:
        return VALUE if prompt == GIVES_VALUE else str(prompt)

    async def acompletion(self, prompt: Any) -> str:
        return self.completion(prompt)

    def get_usage_summary(self) -> UsageSummary:
        return UsageSummary(model_usage_summaries={})

    def get_last_usage(self) -> ModelUsageSummary:
        return ModelUsageSummary(total_calls=1, total_input_tokens=1, total_output_tokens=1)


def ran(repl: DockerREPL, code: str) -> str:
    """What a cell printed."""
    result = repl.execute_code(code)
    if result.stderr:
        raise SystemExit(f"{code[:100]}: {result.stderr[-400:]}")
    return str(result.stdout)


def measure(work: dict[str, Any]) -> dict[str, Any]:
    counts, samples = Counts.of(work), Samples()
    handler = LMHandler(Echo(model_name="echo"))
    address = handler.start()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLM_DOCKER_WORKSPACE_DIR"] = folder
        with samples.timed("start"):
            repl = DockerREPL(image=work["image"], lm_handler_address=address)
            ran(repl, "1")
        try:
            _measure(repl, counts, samples)
        finally:
            repl.cleanup()
            handler.stop()
    return {"samples": samples.taken}


def _measure(repl: DockerREPL, counts: Counts, samples: Samples) -> None:
    asked = ["docker", "inspect", "--format", "{{.State.Pid}}", str(repl.container_id)]
    pid = int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    for name, size in container_memory(pid).items():
        samples.add(name, size)
    _cells(repl, "cell", counts.cells, samples)
    samples.add("host_call", *seconds_printed(ran(repl, calls_code("llm_query('?')", counts.calls, reply_chars=1))))
    replies = calls_code(f"llm_query({GIVES_VALUE!r})", counts.values, reply_chars=MIB)
    samples.add("value_as_reply", *seconds_printed(ran(repl, replies)))
    for _ in range(counts.values):
        text = context_text(MIB)
        with samples.timed("value"):
            repl.add_context(text, 1)
        with samples.timed("value_as_code"):
            ran(repl, f"value = {text!r}")
    text = context_text(counts.context_bytes)
    with samples.timed("context"):
        repl.add_context(text, 0)
    _cells(repl, "cell_with_context", min(counts.cells, 3), samples)


def _cells(repl: DockerREPL, name: str, count: int, samples: Samples) -> None:
    for _ in range(count):
        with samples.timed(name):
            ran(repl, "1")


if __name__ == "__main__":
    measured_here(measure)
