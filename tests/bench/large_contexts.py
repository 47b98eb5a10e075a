"""What a large context costs: to store, to load as a str, to read lazily, and that boxes share its pages.

    python -m tests.bench.large_contexts [--megabytes 1000] [--memory-mib 512] [--isolation container] [--dir DIR]

Writes a text, ASCII and mixed, and prints a Markdown row of each figure. `CPU` is what the box's core was busy: on a
machine that does other work too, it says more than the time. `PSS` is a box's share of the pages that it has mapped.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

from sandbox.host import Host, shared_host
from sandbox.large_text import put_text_file
from sandbox.spec import MIB, CellLimits, SandboxSpec
from sandbox.store import StoredContext
from tests.boxes import Box

LINES = {
    "ascii": "line %08d of a text in plain English, as long as lines are in books\n",
    "mixed": "line %08d, Größe, 漢字, и ещё мягких булок, \U0001f600, as long as lines are\n",
}
PASSES = {
    "find": "context.find('NEEDLE')",
    "count": "context.count('as long')",
    "lines": "sum(1 for _ in context)",
    "chunks of 1 M": "sum(len(chunk) for chunk in context.chunks(1_000_000))",
    "search, literal": "context.search(r'NEEDLE\\s')",
    "search, (?i)": "context.search(r'(?i)needle\\s')",
    "slice in the middle": "context[len(context) // 2 : len(context) // 2 + 1000][:10]",
}
MAPPED = """
def mapped():
    sizes = {}
    inside = False
    for line in open("/proc/self/smaps"):
        head = line.split()
        if "-" in head[0] and not head[0].endswith(":"):
            inside = len(head) > 5 and head[5].startswith("/context/") and not head[5].endswith(".index")
        elif inside and head[0] in ("Rss:", "Pss:"):
            sizes[head[0]] = sizes.get(head[0], 0) + int(head[1])
    return sizes.get("Rss:", 0) >> 10, sizes.get("Pss:", 0) >> 10
"""


def write(path: Path, size_bytes: int, kind: str) -> None:
    block = "".join(LINES[kind] % number for number in range(20_000)).encode()
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            file.write(block)
        file.write(b"and here is the NEEDLE to find\n")


async def start(host: Host, options: argparse.Namespace, memory_mib: int) -> Box:
    return await Box.open(host, SandboxSpec(memory_bytes=memory_mib * MIB, isolation=options.isolation))


async def shown(box: Box, code: str) -> str:
    """What a cell shows."""
    result = await box.execute(code, CellLimits(wall_s=600, cpu_s=600))
    if result.status != "ok":
        raise SystemExit(f"{code}: {result}")
    return result.result.text


async def row(kind: str, name: str, size_bytes: int, box: Box, doing: Awaitable[object]) -> None:
    """Do it, and print what it took."""
    before, started = await box.engine.cpu_s(box.container), time.perf_counter()
    await doing
    seconds = time.perf_counter() - started
    after = await box.engine.cpu_s(box.container)
    cpu = f"{after - before:,.3f} s" if after is not None and before is not None else ""
    print(f"| {kind} | {name} | {seconds:,.3f} s | {cpu} | {size_bytes / seconds / 1e9:,.2f} GB/s |")


async def passes(host: Host, options: argparse.Namespace, kind: str, stored: StoredContext) -> None:
    lazy = dataclasses.replace(stored, lazy=True)
    box = await start(host, options, options.memory_mib)
    async with box:
        name = f"load, lazy, box of {options.memory_mib} MiB"
        await row(kind, name, stored.size_bytes, box, box.load("context", lazy))
        for name, code in PASSES.items():
            await row(kind, name, stored.size_bytes, box, shown(box, code))
        if options.isolation == "container":
            await shared(host, options, kind, box, lazy)


async def shared(host: Host, options: argparse.Namespace, kind: str, one: Box, lazy: StoredContext) -> None:
    """Two boxes on one text: each maps pages that both have read."""
    other = await start(host, options, options.memory_mib)
    async with other:
        await other.load("context", lazy)
        for box in (one, other):
            await shown(box, MAPPED)
            await shown(box, "context.find('nowhere', 0, 100_000_000)")  # so much stays in memory
        for name, box in (("first", one), ("second", other)):
            rss, pss = map(int, (await shown(box, "mapped()")).strip("()").split(","))
            print(f"| {kind} | {name} of two boxes: pages mapped | {rss} MiB, PSS {pss} MiB | | |")


async def as_str(host: Host, options: argparse.Namespace, stored: StoredContext) -> None:
    memory_mib = max(512, 3 * stored.size_bytes // MIB)
    box = await start(host, options, memory_mib)
    async with box:
        name = f"load, str, box of {memory_mib:,} MiB"
        await row("ascii", name, stored.size_bytes, box, box.load("context", stored))


def texts(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        for kind in LINES:
            path = Path(folder, kind)
            write(path, options.megabytes * 1_000_000, kind)
            yield kind, path
            path.unlink()


async def measure(options: argparse.Namespace) -> None:
    host = await shared_host(print)
    print("| text | what | time | CPU of the box | rate |\n|---|---|---|---|---|")
    for kind, path in texts(options):
        started = time.perf_counter()
        stored = put_text_file(host.store, path)
        seconds = time.perf_counter() - started
        print(f"| {kind} | into the store | {seconds:,.3f} s | | {stored.size_bytes / seconds / 1e9:,.2f} GB/s |")
        if kind == "ascii":
            await as_str(host, options, stored)
        await passes(host, options, kind, stored)
        host.store.forget(stored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--memory-mib", type=int, default=512)
    parser.add_argument("--isolation", choices=["container", "gvisor"], default="container")
    parser.add_argument("--dir", help="where the text is written")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
