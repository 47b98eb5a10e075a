"""Second line against boxes that outlive their host: every box has an expiry, every start removes the expired ones.

The first line is the box's own: its PID 1 ends when the host's stream ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from sandbox.engine import LABEL, Engine


def owner_label() -> str:
    """Who owns a box: boot id, pid namespace, pid. Shown to operators."""
    boot = namespace = "unknown"
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{boot} {namespace} {os.getpid()}"


async def reap_expired(engine: Engine) -> int:
    """Remove the boxes of ours whose expiry has passed, whoever owns them; returns how many."""
    now = time.time()
    expired = [box["Id"] for box in await engine.list_boxes() if _expiry(box["Labels"]) < now]
    for box in expired:
        await engine.remove(box)
    return len(expired)


def _expiry(labels: dict[str, str]) -> float:
    """A label that is no number is not ours to judge: such a box stays."""
    try:
        return float(labels[f"{LABEL}.expires"])
    except (KeyError, ValueError):
        return float("inf")
