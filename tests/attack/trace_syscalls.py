"""Which system calls honest code makes in a real box, compared with the seccomp profile.

    sudo python -m tests.attack.trace_syscalls [--seccomp own|default|unconfined] [--image kernel|data]
        [--data ../shared/data] [--keep FILE]

Run it after a change of ipykernel, of the base image or of the workload, as root on the engine's own machine, with
`strace` installed. It starts boxes of the default spec through the real `Sandbox`, attaches `strace -f` to PID 1 of
each before it forks the kernel, and runs `valid_cells.py`, HumanEval where the data is there, a cell that is
interrupted and one that crashes the kernel; `--image data` adds the cells for numpy and pandas. What PID 1 does in
the milliseconds before strace holds it, the loader's part, is seen in the Pythons that the cells start. Only level
`container`: gVisor's processes are not the host's.

With `--seccomp unconfined` it shows what the code asks for; with `own`, the default, also what it falls back to.
The exit status is 1 where a name is used and not allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import get_args

from sandbox.engine import Engine
from sandbox.host import shared_host
from sandbox.inputs import images_dir
from sandbox.messages import Asked
from sandbox.sandbox import Sandbox
from sandbox.spec import CellLimits, ImageName, SandboxSpec
from sandbox.store import Store
from tests.attack.valid_cells import CELLS, humaneval
from tests.attack.weak import Weaken, WeakEngine, with_seccomp
from tests.conftest import REPOSITORY
from tests.container import data_cells

CALL = re.compile(r"^\d+ +([a-z_0-9]+)\((.*)")
ATTACH_S = 5.0
PROFILES: dict[str, Weaken] = {
    "own": lambda config: None,
    "default": with_seccomp(None),
    "unconfined": with_seccomp("unconfined"),
}


class TracedEngine(WeakEngine):
    """Attaches strace to each box that it starts."""

    def __init__(self, weaken: Weaken, folder: Path) -> None:
        super().__init__(weaken)
        self._folder = folder
        self._tracers: list[asyncio.subprocess.Process] = []

    async def start(self, container: str) -> None:
        await super().start(container)
        pid = str(self.changing.inspect_container(container)["State"]["Pid"])
        log = self._folder / f"{pid}.strace"
        options = ("-f", "-e", "signal=none", "-s", "0", "-o", str(log), "-p", pid)
        tracer = await asyncio.create_subprocess_exec("strace", *options, stderr=asyncio.subprocess.DEVNULL)
        self._tracers.append(tracer)
        async with asyncio.timeout(ATTACH_S):
            while not log.exists() or log.stat().st_size == 0:
                await asyncio.sleep(0.001)
        threads = len(self.changing.top(container)["Processes"])
        if threads != 1:
            raise SystemExit("strace came after the fork; try again on a machine that is not busy")

    async def finish(self) -> None:
        """Wait until the tracers have written everything: they end with their boxes."""
        await asyncio.gather(*(tracer.wait() for tracer in self._tracers))


async def answer(asked: Asked) -> str:
    """The sub-model repeats the question."""
    return asked.prompt


async def run_workload(engine: Engine, image: ImageName, data: Path) -> list[str]:
    """Run everything; returns the cells that failed."""
    host = await shared_host(print)
    spec = SandboxSpec(image=image)
    image_id = await host.image_for(spec, print)
    cells = CELLS | (humaneval(data) if data.is_dir() else {}) | (data_cells.CELLS if image == "data" else {})
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        context = store.put(data_cells.CONTEXT)
        box = await Sandbox.start(spec, engine=engine, store=store, image=image_id, handler=answer)
        async with box:
            await box.load("context", context)
            for name, code in cells.items():
                result = await box.execute(code)
                if result.status != "ok":
                    failed.append(f"{name}: {result.status} {result.error.message if result.error else ''}")
                if not box.alive:
                    await box.restart()
            await box.execute("while True: pass", CellLimits(wall_s=0.2))
            await box.execute("x = [1]; FINAL_VAR('x')")
            await box.json_value("x")
            await box.execute("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        store.close()
    return failed


def read_logs(folder: Path) -> tuple[collections.Counter[str], dict[str, str]]:
    """How often each system call was made, and one example of each."""
    counts: collections.Counter[str] = collections.Counter()
    examples: dict[str, str] = {}
    for log in sorted(folder.glob("*.strace")):
        for line in log.read_text(errors="replace").splitlines():
            if call := CALL.match(line):
                counts[call[1]] += 1
                examples.setdefault(call[1], f"{call[1]}({call[2][:110]}")
    return counts, examples


def allowed_names() -> set[str]:
    """Names that the profile allows, whatever their arguments, and those it answers with an errno of their own."""
    profile = json.loads((images_dir() / "kernel" / "seccomp.json").read_text())
    return {name for rule in profile["syscalls"] for name in rule["names"]}


async def trace(seccomp: str, image: ImageName, data: Path, folder: Path) -> int:
    engine = TracedEngine(PROFILES[seccomp], folder)
    try:
        failed = await run_workload(engine, image, data)
    finally:
        await engine.finish()
        await engine.aclose()
    counts, examples = read_logs(folder)
    allowed = allowed_names()
    print(f"{len(counts)} names used: {' '.join(sorted(counts))}\n")
    print(f"{len(set(counts) - allowed)} used and not allowed:")
    for name in sorted(set(counts) - allowed):
        print(f"  {counts[name]:>7} {examples[name]}")
    print(f"{len(allowed - set(counts))} allowed and not used: {' '.join(sorted(allowed - set(counts)))}\n")
    print(f"{len(failed)} cells failed" + "".join(f"\n  {line}" for line in failed))
    return 1 if set(counts) - allowed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seccomp", choices=list(PROFILES), default="own")
    parser.add_argument("--image", choices=get_args(ImageName), default="kernel")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--keep", type=Path, help="directory for strace's logs, which are otherwise removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
        return asyncio.run(trace(options.seccomp, options.image, options.data, options.keep or Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
