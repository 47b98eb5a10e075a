"""What a pool of boxes is for and what a large context costs, by `tests.bench.pool` and `large_contexts`."""

from __future__ import annotations

import argparse
import ast
import asyncio
import dataclasses
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.host import Host, shared_host
from sandbox.large_text import put_text_file
from sandbox.spec import MIB
from sandbox.store import StoredContext
from tests.bench import large_contexts
from tests.bench.pool import one, waiting_costs

Figures = dict[str, float]
MEMORY_MIB = 512
"""Of the boxes that share."""


def _quiet(line: str) -> None:
    """The engine's progress is nobody's here."""


async def checkout(work: Mapping[str, Any]) -> Figures:
    """From the checkout of a box that waits to the result of its first cell, which has read a context of 10 MB."""
    from orchestrator import SandboxPool

    host = await shared_host(_quiet)
    text = "a line of fifty characters, the last one a newline\n" * (10_000_000 // 51)
    context = host.store.put(text)
    taken = []
    async with SandboxPool(2) as pool:
        for _ in range(work["checkouts"] + 1):  # the first imports what all use
            while pool.ready < 2:
                await asyncio.sleep(0.02)
            taken.append(1000 * (await one(pool.boxes, pool, context))["whole"])
        while pool.ready < 2:
            await asyncio.sleep(0.02)
        share, pss = await waiting_costs(pool.boxes._ready)
    taken = sorted(taken[1:])
    return {
        "a ready box with 10 MB, checkout to first result, p50, ms": taken[len(taken) // 2],
        "a ready box with 10 MB, checkout to first result, p99, ms": taken[min(len(taken) - 1, 99 * len(taken) // 100)],
        "a box that waits, of a core, %": 100 * share,
        "a box that waits, PSS, MB": pss / 1e6,
    }


async def large(work: Mapping[str, Any]) -> Figures:
    """A text of 1 GB as a str, and lazily in two boxes that share its pages."""
    host = await shared_host(_quiet)
    size_bytes = work["large_bytes"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text")
        large_contexts.write(path, size_bytes, "ascii")
        stored = put_text_file(host.store, path)
    try:
        return await _as_str(host, stored, work["loads"]) | await _shared(host, stored)
    finally:
        host.store.forget(stored)


def _options() -> argparse.Namespace:
    return argparse.Namespace(isolation="container", memory_mib=MEMORY_MIB)


async def _as_str(host: Host, stored: StoredContext, loads: int) -> Figures:
    memory_mib = max(512, 3 * stored.size_bytes // MIB)
    seconds = []
    for _ in range(loads):
        box = await large_contexts.start(host, _options(), memory_mib)
        async with box:
            began = time.perf_counter()
            await large_contexts.loaded(box, stored)
            seconds.append(time.perf_counter() - began)
    return {f"{stored.size_bytes / 1e9:.2g} GB of ASCII as a str, ms": 1000 * min(seconds)}


async def _shared(host: Host, stored: StoredContext) -> Figures:
    lazy = dataclasses.replace(stored, lazy=True)
    mapped = []
    first, second = [await large_contexts.start(host, _options(), MEMORY_MIB) for _ in range(2)]
    async with first, second:
        for box in (first, second):
            await box.load("context", lazy)
            await large_contexts.shown(box, large_contexts.MAPPED)
            await large_contexts.shown(box, f"context.find('nowhere', 0, {large_contexts.SEEN_BYTES})")
        for box in (first, second):
            rss_mib, pss_mib, *_ = ast.literal_eval(await large_contexts.shown(box, "mapped()"))
            mapped.append((rss_mib * MIB / 1e6, pss_mib * MIB / 1e6))
    return {
        "two boxes on one context: pages that one has mapped, MB": mapped[0][0],
        "two boxes on one context: its share of them, PSS, MB": mapped[0][1],
    }
