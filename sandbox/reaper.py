"""Second line against boxes that outlive their host: every start removes what a dead owner has left.

The first line is the box's own: its PID 1 ends when the host's stream ends. A box that was created and never started
has no process that could notice, and a stopped one does not.

An owner that lives is never robbed, not even of a box whose time is over: its own clocks end that. Where it can't be
told whether the owner lives (another machine or boot, another pid namespace), the expiry alone decides.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from sandbox.engine import LABEL, Engine
from sandbox.leftovers import Leftover, Outcome, remove_all
from sandbox.owner import Owner

_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
SHORT_ID: Final = 12


async def reap(engine: Engine) -> list[Outcome]:
    """Remove the boxes that dead owners have left; returns what became of all boxes of ours.

    Raises:
        EngineUnavailable: It does not answer.
    """
    return await remove_all(await find_boxes(engine))


async def find_boxes(engine: Engine, *, live_too: bool = False) -> list[Leftover]:
    """All boxes of ours, whoever owns them. Those whose owner is gone go, and with `live_too` all.

    Raises:
        EngineUnavailable: It does not answer.
    """
    found = []
    for box in await engine.list_boxes():
        goes, why = judge(box["Labels"], time.time())
        remove = partial(_remove, engine, box["Id"]) if goes or live_too else None
        found.append(Leftover(kind="box", name=box["Id"][:SHORT_ID], why=why, remove=remove))
    return found


async def _remove(engine: Engine, box: str) -> str:
    return "" if await engine.remove(box) else "the engine can't remove it; its log says more"


def judge(labels: Mapping[str, str], now: float) -> tuple[bool, str]:
    """Whether a box with these labels goes, and why.

    Args:
        labels: Of a container that has `LABEL`.
        now: Unix time in seconds.
    """
    owner = Owner.parse(labels[LABEL])
    alive = owner.is_alive() if owner else None
    if owner is not None and alive is not None:
        return not alive, f"its owner, process {owner.pid}, is {'alive' if alive else 'gone'}"
    expires = labels.get(f"{LABEL}.expires", "")
    if not _SECONDS.fullmatch(expires):
        return False, "its owner can't be looked at from here, and it has no time at which it ends"
    left_s = int(expires) - now
    if left_s < 0:
        return True, "its time is over, and its owner can't be looked at from here"
    return False, f"its owner can't be looked at from here; its time is over in {left_s / 60:.0f} min"
