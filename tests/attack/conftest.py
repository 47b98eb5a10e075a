"""The fixtures of `tests.boxes` and `tests.attack.levels`."""

from __future__ import annotations

from tests.attack.levels import _gvisor_box, gvisor_box, level, level_box
from tests.boxes import _module_box, box, box_host

__all__ = ["_gvisor_box", "_module_box", "box", "box_host", "gvisor_box", "level", "level_box"]
