"""The box that a run's limits ask for."""

from __future__ import annotations

import dataclasses
from typing import Final

from orchestrator.errors import ConfigError
from orchestrator.limits import Limits
from sandbox.errors import SpecError
from sandbox.spec import SandboxSpec

LIFETIME_MARGIN_S: Final = 120
"""A box's expiry lies so far behind its run's deadline."""


def spec_for(spec: SandboxSpec | None, limits: Limits) -> SandboxSpec:
    """The box of a run: the caller's spec with the memory and lifetime that the limits say.

    Raises:
        ConfigError: The spec and the limits disagree about memory.
    """
    default = SandboxSpec()
    spec = spec or default
    if spec.memory_bytes not in (default.memory_bytes, limits.memory_bytes):
        raise ConfigError(
            f"sandbox.memory_bytes: {spec.memory_bytes:,} differs from Limits.memory_bytes: "
            f"{limits.memory_bytes:,}; set Limits.memory_bytes alone"
        )
    lifetime_s = min(limits.max_wall_s + LIFETIME_MARGIN_S, 24 * 3600)
    try:
        return dataclasses.replace(spec, memory_bytes=limits.memory_bytes, lifetime_s=lifetime_s)
    except SpecError as error:
        raise ConfigError(str(error)) from error
