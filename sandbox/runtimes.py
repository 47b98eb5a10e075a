"""Which runtime a box gets, and the level of isolation that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sandbox.errors import EngineUnavailable
from sandbox.spec import Isolation

GVISOR: Final = "runsc"
"""gVisor is known by this name alone; a box that runs in it under another one fails its audit."""
GVISOR_FLAGS: Final = ("--oci-seccomp", "--network=none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What runs a box.

    Attributes:
        name: As the engine names it.
        arguments: What the engine passes to it besides.
        isolation: The level that it gives.
        podman: Whether the engine is Podman, whose API words some settings in a way of its own.
    """

    name: str
    arguments: tuple[str, ...] = ()
    isolation: Isolation = "container"
    podman: bool = False


def runtime_for(info: Mapping[str, Any], least: Isolation) -> Runtime:
    """The runtime that gives `least` or more: gVisor where it is demanded or the engine's default, else the default.

    Args:
        info: The engine's own description.
        least: Isolation to accept.

    Raises:
        EngineUnavailable: It has no gVisor, or one that would ignore the seccomp profile.
    """
    runtimes = info.get("Runtimes") or {}
    name = GVISOR if least == "gvisor" else str(info.get("DefaultRuntime") or "runc")
    if name == GVISOR:
        _check_gvisor(runtimes, least)
    return Runtime(
        name=name,
        arguments=_arguments(runtimes.get(name)),
        isolation="gvisor" if name == GVISOR else "container",
        podman="BuildahVersion" in info,
    )


def _arguments(runtime: Any) -> tuple[str, ...]:
    return tuple(runtime.get("runtimeArgs") or ()) if isinstance(runtime, Mapping) else ()


def _check_gvisor(runtimes: Mapping[str, Any], least: Isolation) -> None:
    if GVISOR not in runtimes:
        raise EngineUnavailable(
            f"isolation {least!r} needs the runtime {GVISOR!r}, which this engine does not have; "
            f"it has: {', '.join(sorted(runtimes))}"
        )
    missing = [flag for flag in GVISOR_FLAGS if flag not in _arguments(runtimes[GVISOR])]
    if missing:
        raise EngineUnavailable(
            f"the engine's runtime {GVISOR!r} lacks {' and '.join(missing)}: add it to its runtimeArgs in "
            "/etc/docker/daemon.json; without it the box's seccomp profile is ignored or its network set up"
        )


def demand_seccomp(info: Mapping[str, Any]) -> None:
    """Without seccomp in the engine or its kernel a profile is refused at the start, or worse, not."""
    if not any("seccomp" in str(option) for option in info.get("SecurityOptions") or ()):
        raise EngineUnavailable(
            "the engine has no seccomp ('docker info' does not list it under Security Options) and can't lock a box: "
            "its kernel needs CONFIG_SECCOMP_FILTER, and Docker or Podman must be built with seccomp"
        )
