"""Where the time of a cold start goes: the engine's calls, PID 1, the kernel's imports, the audit, the first cell.

    python -m tests.bench.cold_start [--rounds 20] [--image sha256:... --image sha256:...] [--modules 15]

Starts boxes one after another, as `Sandbox.start` does, and prints the minimum and the median of each phase; two images
are measured in turn. Then what stands below all of it: a container of the same restrictions in which Python prints a
line, and the import of the kernel by itself, with the modules that take longest (`python -X importtime`).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable
from typing import Any, TypeVar

from sandbox.box import Box
from sandbox.clocks import CellClocks
from sandbox.encoding import encode_frame
from sandbox.engine import LABEL, Engine
from sandbox.host import Host, shared_host
from sandbox.link import Link
from sandbox.messages import RELAY, Asked
from sandbox.owner import owner_label
from sandbox.spec import BOX_USER, CellLimits, KernelSettings, SandboxSpec
from tests.bench.memory import container_memory
from tests.bench.own_process import count, interruptible

T = TypeVar("T")
MIB = 1 << 20
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
IMPORT_CODE = "import sys; sys.path.insert(0, '/opt/airlock'); import kernel"


class TimedEngine(Engine):
    """An engine that notes when each call of a start began and ended."""

    spans: dict[str, tuple[float, float]]

    async def _timed(self, name: str, call: Awaitable[T]) -> T:
        began = time.perf_counter()
        result = await call
        self.spans[name] = began, time.perf_counter()
        return result

    async def list_boxes(self) -> list[dict[str, Any]]:
        return await self._timed("look for boxes of dead owners", super().list_boxes())

    async def create(self, *args: Any, **options: Any) -> str:
        return await self._timed("create", super().create(*args, **options))

    async def attach(self, container: str) -> Any:
        return await self._timed("attach", super().attach(container))

    async def start(self, container: str) -> None:
        await self._timed("start", super().start(container))

    async def inspect(self, container: str) -> dict[str, Any]:
        return await self._timed("of it: inspect", super().inspect(container))

    async def audit(self, *args: Any, **options: Any) -> Any:
        return await self._timed("of it: audit", super().audit(*args, **options))


async def answer(asked: Asked) -> str:
    """The sub-model that is never asked."""
    return asked.prompt


async def no_cpu_s() -> float | None:
    """The cell's clocks do not look at the engine here."""
    return None


async def start(engine: TimedEngine, host: Host, image: str) -> dict[str, float]:
    """Seconds of each phase of one start, and bytes of the ready box."""
    engine.spans = {}
    spec = SandboxSpec()
    began = time.perf_counter()
    box = await Box.open(spec, engine=engine, store=host.store, image=image)
    opened = time.perf_counter()
    try:
        await box.set_up(KernelSettings(), answer, None)
        ready = time.perf_counter()
        assert box.kernel is not None
        result = await box.kernel.execute("1", CellClocks(CellLimits(), spec.cpus, no_cpu_s))
        ended = time.perf_counter()
        assert result.status == "ok"
        record = await engine.inspect(str(box.container))
        memory = container_memory(int(record["State"]["Pid"]))
    finally:
        await box.aclose()
    phases = {name: end - begin for name, (begin, end) in engine.spans.items() if not name.startswith("of it")}
    phases["until the kernel answers and the box is audited"] = opened - engine.spans["start"][1]
    phases |= {name: end - begin for name, (begin, end) in engine.spans.items() if name.startswith("of it")}
    phases |= {"settings": ready - opened, "first cell": ended - ready, "whole": ended - began}
    return phases | {name: float(size) for name, size in memory.items() if size is not None}


async def first_byte(engine: TimedEngine, host: Host, image: str) -> float:
    """Seconds from the end of the engine's start until PID 1 has said hello."""
    engine.spans = {}
    directory = host.store.new_box_dir()
    container = await engine.create(SandboxSpec(), image=image, context_dir=str(directory), owner=owner_label())
    try:
        reader, writer = await engine.attach(container)
        link = Link(reader, writer, multiplexed=True)
        await engine.start(container)
        began = time.perf_counter()
        await link.send(encode_frame(RELAY, [b"{}"]))
        async for _ in link.frames():
            break
        return time.perf_counter() - began
    finally:
        await engine.remove(container)
        host.store.remove_box_dir(directory)


def alone(engine: Engine, image: str, command: list[str], *, locked: bool) -> tuple[float, str]:
    """Seconds of a container that runs Python with this command, from its creation to its end, and what it said."""
    restrictions = engine.restrictions(SandboxSpec(), "/") if locked else {"network_mode": "none"}
    restrictions |= {"auto_remove": False, "log_config": {"type": "json-file"}}
    restrictions.pop("mounts", None)
    began = time.perf_counter()
    container = engine.api.create_container(
        image,
        entrypoint=["python3"],
        command=command,
        user=BOX_USER,
        network_disabled=True,
        labels={LABEL: owner_label()},
        host_config=engine.api.create_host_config(**restrictions),
    )["Id"]
    try:
        engine.api.start(container)
        engine.api.wait(container)
        return time.perf_counter() - began, engine.api.logs(container).decode()
    finally:
        engine.api.remove_container(container, force=True)


def import_s(engine: Engine, image: str, rounds: int) -> dict[str, float]:
    """Seconds that each module takes by itself, without those that it imports: the least of all rounds."""
    least: dict[str, float] = {}
    for _ in range(rounds):
        _, said = alone(engine, image, ["-X", "importtime", "-c", IMPORT_CODE], locked=True)
        for micros, name in IMPORT.findall(said):
            least[name] = min(int(micros) / 1e6, least.get(name, float("inf")))
    return least


def row(name: str, figures: list[float], unit: float = 1e-3) -> str:
    """A line of the table: in ms, or in the unit that is given."""
    return f"| {name} | {min(figures) / unit:,.1f} | {statistics.median(figures) / unit:,.1f} |"


def show_imports(modules: dict[str, float], most: int) -> None:
    """Sums by package, then the modules that take longest."""
    packages: Counter[str] = Counter()
    for name, seconds in modules.items():
        packages[name.partition(".")[0]] += seconds  # type: ignore[assignment]
    whole = 1e3 * sum(modules.values())
    print(f"\nimport of the kernel: {len(modules)} modules, {whole:,.0f} ms as -X importtime measures it")
    print("by package, ms: " + ", ".join(f"{name} {1e3 * took:.1f}" for name, took in packages.most_common(most)))
    longest = sorted(modules.items(), key=lambda item: -item[1])[:most]
    print("by module, ms: " + ", ".join(f"{name} {1e3 * took:.1f}" for name, took in longest))


async def measure(rounds: int, images: list[str], most: int) -> None:
    """The images in turn, so that the machine's moods meet them all."""
    host = await shared_host(print)
    engine = TimedEngine(host.engine.api)
    await engine.check(SandboxSpec())  # once a process
    images = images or [host.image]
    found: dict[str, dict[str, list[float]]] = {image: defaultdict(list) for image in images}
    for _ in range(rounds):
        for image, figures in found.items():
            for name, figure in (await start(engine, host, image)).items():
                figures[name].append(figure)
            figures["PID 1's first byte after the start"].append(await first_byte(engine, host, image))
            for name, locked in (("locked", True), ("with no network alone", False)):
                took, _ = await asyncio.to_thread(alone, engine, image, ["-c", "print(1)"], locked=locked)
                figures[f"`docker run` of Python that prints a line, {name}"].append(took)
    for image, figures in found.items():
        print(f"\n{image[:19]}, {rounds} rounds\n\n| ms | least | median |\n|---|---|---|")
        for name, values in figures.items():
            is_size = name.endswith("_bytes")
            print(row(f"{name.removesuffix('_bytes')}, MiB" if is_size else name, values, MIB if is_size else 1e-3))
        show_imports(await asyncio.to_thread(import_s, engine, image, min(rounds, 10)), most)


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=count, default=20)
    parser.add_argument("--image", action="append", default=[], metavar="ID", help="sha256:...; else that of today")
    parser.add_argument("--modules", type=count, default=15, metavar="N", help="how many modules are named")
    options = parser.parse_args()
    asyncio.run(measure(options.rounds, options.image, options.modules))
    return 0


if __name__ == "__main__":
    raise SystemExit(interruptible(main))
