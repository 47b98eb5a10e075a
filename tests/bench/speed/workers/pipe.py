"""The floor: a plain Python of this one's version behind a pipe, with no kernel and no container."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.bench.memory import pss_bytes
from tests.bench.own_process import Samples, measured_here
from tests.bench.speed.figures import GIVES_VALUE, MIB, Counts, calls_code, context_text, seconds_printed

GUEST = """
import contextlib, io, json, sys
source, sink = sys.stdin, sys.stdout
def tell(message):
    sink.write(json.dumps(message) + "\\n")
    sink.flush()
def ask(prompt):
    tell({"ask": prompt})
    return json.loads(source.readline())
names = {"ask": ask}
for line in source:
    message = json.loads(line)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if "code" in message:
            exec(message["code"], names)
        else:
            names["context"] = message["value"]
    tell({"printed": printed.getvalue()})
"""
VALUE = "v" * MIB


class Pipe:
    """The guest and its two pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", GUEST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, **message: str) -> str:
        """Have a message done; what it printed."""
        self._tell(message)
        while True:
            assert self.process.stdout is not None
            said = json.loads(self.process.stdout.readline())
            if "ask" not in said:
                return str(said["printed"])
            self._tell(VALUE if said["ask"] == GIVES_VALUE else said["ask"])

    def _tell(self, message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()


def measure(work: dict[str, Any]) -> dict[str, Any]:
    counts, samples = Counts.of(work), Samples()
    with samples.timed("start"):
        pipe = Pipe()
        pipe.send(code="1")
    try:
        samples.add("pss_bytes", pss_bytes([pipe.process.pid]))
        _cells(pipe, "cell", counts.cells, samples)
        samples.add("host_call", *seconds_printed(pipe.send(code=calls_code("ask('?')", counts.calls, reply_chars=1))))
        replies = calls_code(f"ask({GIVES_VALUE!r})", counts.values, reply_chars=MIB)
        samples.add("value_as_reply", *seconds_printed(pipe.send(code=replies)))
        for _ in range(counts.values):
            with samples.timed("value"):
                pipe.send(value=context_text(MIB))
            with samples.timed("value_as_code"):
                pipe.send(code=f"value = {context_text(MIB)!r}")
        text = context_text(counts.context_bytes)
        with samples.timed("context"):
            pipe.send(value=text)
        _cells(pipe, "cell_with_context", counts.cells, samples)
    finally:
        pipe.process.kill()
        pipe.process.communicate()
    return {"samples": samples.taken}


def _cells(pipe: Pipe, name: str, count: int, samples: Samples) -> None:
    for _ in range(count):
        with samples.timed(name):
            pipe.send(code="1")


if __name__ == "__main__":
    measured_here(measure)
