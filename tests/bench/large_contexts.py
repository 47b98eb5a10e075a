"""What a large context costs: to store, to load as a str, to read lazily, and that boxes share its pages.

    python -m tests.bench.large_contexts [--megabytes 1000] [--memory-mib 512] [--isolation container] [--dir DIR]
        [--texts ascii mixed] [--rounds 3]

Writes a text, ASCII and mixed, and prints a Markdown row of each figure. `CPU` is what the box's core was busy: on a
machine that does other work too, it says more than the time. Loading as a str is measured from a file in the store and
a box that is ready until a cell has answered `len(context)`, in a fresh box each round; the least round counts, and
the worst is shown beside it. A str that would need more than the machine's memory is left out. Of two boxes on one
text it prints what each has mapped of it (RSS), its share of these pages (PSS) and how much of it others have mapped
too: the shares add up to one copy. Needs room on the disk for the text, twice.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

from sandbox.host import Host, shared_host
from sandbox.large_text import index_text, put_text_file
from sandbox.spec import MIB, CellLimits, SandboxSpec
from sandbox.store import INDEX_SUFFIX, StoredContext
from tests.bench.machine import program
from tests.bench.memory import container_memory
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
        elif inside and head[0] in ("Rss:", "Pss:", "Shared_Clean:"):
            sizes[head[0]] = sizes.get(head[0], 0) + int(head[1])
    return [sizes.get(name, 0) >> 10 for name in ("Rss:", "Pss:", "Shared_Clean:")]
"""
SEEN_BYTES = 100_000_000
"""Of the text, that two boxes both read before their memory is looked at."""


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


async def row(kind: str, name: str, size_bytes: int, box: Box, doing: Awaitable[object]) -> float:
    """Do it, and print what it took."""
    before, started = await box.engine.cpu_s(box.container), time.perf_counter()
    await doing
    seconds = time.perf_counter() - started
    after = await box.engine.cpu_s(box.container)
    cpu = f"{after - before:,.3f} s" if after is not None and before is not None else ""
    print(f"| {kind} | {name} | {seconds:,.3f} s | {cpu} | {size_bytes / seconds / 1e9:,.2f} GB/s |")
    return seconds


async def passes(host: Host, options: argparse.Namespace, kind: str, stored: StoredContext) -> None:
    lazy = dataclasses.replace(stored, lazy=True)
    box = await start(host, options, options.memory_mib)
    async with box:
        name = f"load, lazy, box of {options.memory_mib} MiB"
        await row(kind, name, stored.size_bytes, box, box.load("context", lazy))
        for name, code in PASSES.items():
            await row(kind, name, stored.size_bytes, box, shown(box, code))
        record = await box.engine.inspect(box.container)
        memory = container_memory(record["State"]["Pid"])
        used = ", ".join(f"{name.removesuffix('_bytes')} {(size or 0) / MIB:,.0f} MiB" for name, size in memory.items())
        print(f"| {kind} | memory of this box after all that | {used} | | |")
    if options.isolation == "container":
        await shared(host, options, kind, lazy)


async def shared(host: Host, options: argparse.Namespace, kind: str, lazy: StoredContext) -> None:
    """Two boxes on one text: each maps pages that both have read."""
    one, other = await start(host, options, options.memory_mib), await start(host, options, options.memory_mib)
    async with one, other:
        for box in (one, other):
            await box.load("context", lazy)
            await shown(box, MAPPED)
            await shown(box, f"context.find('nowhere', 0, {SEEN_BYTES})")
        shares = 0
        for name, box in (("first", one), ("second", other)):
            rss, pss, others = map(int, (await shown(box, "mapped()")).strip("[]").split(","))
            shares += pss
            print(f"| {kind} | {name} of two boxes: mapped | RSS {rss} MiB, others too {others}, PSS {pss} | | |")
        print(f"| {kind} | the two shares together, of a text of {lazy.size_bytes >> 20:,} MiB | {shares} MiB | | |")


async def as_str(host: Host, options: argparse.Namespace, stored: StoredContext) -> None:
    memory_mib = max(512, 3 * stored.size_bytes // MIB)
    if memory_mib * MIB > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        return
    name = f"as a str, until len(context) is answered, box of {memory_mib:,} MiB"
    taken = []
    for _ in range(options.rounds):
        box = await start(host, options, memory_mib)
        async with box:
            taken.append(await row("ascii", name, stored.size_bytes, box, loaded(box, stored)))
    print(f"| ascii | {name}: least, worst | {min(taken):,.3f} s, {max(taken):,.3f} s | | |")


async def loaded(box: Box, stored: StoredContext) -> None:
    await box.load("context", stored)
    assert int(await shown(box, "len(context)")) == stored.size_bytes


def texts(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        for kind in options.texts:
            path = Path(folder, kind)
            write(path, options.megabytes * 1_000_000, kind)
            yield kind, path


async def measure(options: argparse.Namespace) -> None:
    host = await shared_host(print)
    print("| text | what | time | CPU of the box | rate |\n|---|---|---|---|---|")
    for kind, path in texts(options):
        started = time.perf_counter()
        stored = put_text_file(host.store, path)
        seconds = time.perf_counter() - started
        print(f"| {kind} | into the store | {seconds:,.3f} s | | {stored.size_bytes / seconds / 1e9:,.2f} GB/s |")
        started = time.perf_counter()
        counted = index_text(host.store, stored)
        seconds = time.perf_counter() - started
        assert counted.counts == stored.counts
        size_bytes = Path(f"{host.store.blob(stored)}{INDEX_SUFFIX}").stat().st_size
        name = f"its index alone, of {size_bytes:,} bytes"
        print(f"| {kind} | {name} | {seconds:,.3f} s | | {stored.size_bytes / seconds / 1e9:,.2f} GB/s |")
        path.unlink()
        if kind == "ascii":
            await as_str(host, options, stored)
        await passes(host, options, kind, stored)
        host.store.forget(stored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--texts", nargs="+", choices=list(LINES), default=list(LINES))
    parser.add_argument("--rounds", type=int, default=3, help="of loading as a str")
    parser.add_argument("--memory-mib", type=int, default=512)
    parser.add_argument("--isolation", choices=["container", "gvisor"], default="container")
    parser.add_argument("--dir", help="where the text is written")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(program(main))
