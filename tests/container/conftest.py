"""The fixtures of `tests.boxes`."""

from __future__ import annotations

from tests.boxes import _module_box, box, box_host

__all__ = ["_module_box", "box", "box_host"]
