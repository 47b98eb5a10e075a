"""`docker run` of the box's image with nothing of ours in it: until Python's first line is read."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.bench.own_process import Samples, measured_here


def measure(work: dict[str, Any]) -> dict[str, Any]:
    samples = Samples()
    command = [
        *("docker", "run", "--rm", "--network", "none", "--label", work["label"], "--entrypoint", "python3"),
        *(work["image"], "-c", "print(1, flush=True)"),
    ]
    with samples.timed("start"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
    process.communicate()
    if line != "1\n":
        raise SystemExit(f"it printed {line!r}")
    return {"samples": samples.taken}


if __name__ == "__main__":
    measured_here(measure)
