"""Many runs of the bAbI task at once, by the PyPI package rlms in its Docker environment. Runs under its Python."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rlm import RLM

from tests.bench.end_to_end.crowd import Crowd, sampled
from tests.bench.end_to_end.model_server import model_server
from tests.bench.end_to_end.script import Task, tasks
from tests.bench.memory import container_memory
from tests.bench.own_process import measured_here


def docker(*arguments: str) -> Sequence[str]:
    """What the command says, line by line."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.split()


def measure(work: dict[str, Any]) -> dict[str, Any]:
    """Work: ``runs``, ``latency_s``, ``cell_s`` and ``image``."""
    of_each = tasks(work["runs"])
    with tempfile.TemporaryDirectory() as folder, model_server(work["latency_s"]) as (address, server):
        os.environ["RLM_DOCKER_WORKSPACE_DIR"] = folder
        rlm_of = {"model_name": "played", "base_url": address, "api_key": "none"}

        def one(task: Task) -> None:
            began = time.perf_counter()
            rlm = RLM(backend_kwargs=rlm_of, environment="docker", environment_kwargs={"image": work["image"]})
            answer = rlm.completion(task.context, root_prompt=task.question).response
            if answer != task.gold:
                raise RuntimeError(f"{task.question}: {answer!r:.300}, not {task.gold!r}")
            crowd.ended(time.perf_counter() - began)

        def memory() -> list[float]:
            alive = sampled(docker("ps", "-q", "--filter", named))
            pids = docker("inspect", "--format", "{{.State.Pid}}", *alive) if alive else ()
            return [size for pid in pids if (size := container_memory(int(pid))["pss_bytes"])]

        named = f"ancestor={work['image']}"
        crowd = Crowd(work["latency_s"], memory, server)
        crowd.starts()
        with ThreadPoolExecutor(work["runs"]) as threads:
            list(threads.map(one, of_each))
        return crowd.figures(f"{work['runs']} runs at once, rlms", work["cell_s"])


if __name__ == "__main__":
    measured_here(measure)
