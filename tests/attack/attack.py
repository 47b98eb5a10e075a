"""What an attack of this suite is: code for a cell, the settings that stop it, and what it says where it is stopped.

`test_restrictions` runs each attack in a locked box, in the same box without the settings that stop it, and in boxes
that have only one of those settings. How a setting is taken away stands in `tests.attack.off`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sandbox.spec import CellLimits, Isolation

LEVELS: tuple[Isolation, ...] = ("container", "gvisor")

Need = Literal["bridge network", "host", "host's network"]
"""What a control needs of the engine: a bridge network; the tests' own machine; their own network namespace there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One thing that code in a box may try.

    Attributes:
        name: What it tries, in a few plain words; unique.
        stopped_by: Settings (`Control.setting`) of which each alone stops it; more than one is an overlap.
        code: A cell that prints one short word at its end: ``worked``, ``EPERM``, ``EROFS``. A box that ends says
            ``lost``, a cell that a clock ended ``interrupted``.
        held: What the locked box may say, by level.
        worked: What it says where nothing stops it.
        not_available: Why a level has no such thing, by level.
        no_control: Why it can't be shown to work on a level without harm, by level.
        absent: What it says where nothing stops it on a kernel that has no such thing; then there is no control.
        needs: What its control needs of the engine; where that is missing there is no control.
        limits: The clocks of the cell.
        destructive: It leaves a box in which the next attack would say something else.
    """

    name: str
    stopped_by: tuple[str, ...]
    code: str
    held: Mapping[Isolation, frozenset[str]]
    worked: frozenset[str] = frozenset({"worked"})
    not_available: Mapping[Isolation, str] = field(default_factory=dict)
    no_control: Mapping[Isolation, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    needs: Need | None = None
    limits: CellLimits = field(default_factory=lambda: CellLimits(wall_s=20, cpu_s=20))
    destructive: bool = False
