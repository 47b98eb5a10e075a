"""Frames decoded by `test_wire`, by test."""

from __future__ import annotations

COUNTED: dict[str, int] = {}
