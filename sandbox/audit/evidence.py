"""What a box should be and what is known of it: all that the audit's readers look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sandbox.audit.proc import BoxProcess, Unreadable
from sandbox.runtimes import Runtime
from sandbox.spec import SandboxSpec

Source = Literal["inspect", "proc", "runtime"]
"""``inspect``: the engine's record of the container. ``proc``: the kernel's of its first process and its cgroup.
``runtime``: the engine's configuration of the runtime."""
Value = str | int | float | bool | None

NONE: Final = "none"
UNLIMITED: Final = "unlimited"
NO_ENVIRONMENT: Final = Unreadable("the engine does not describe the image")
NOT_LOOKED_AT: Final = Unreadable("nobody looked at the box's process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a box should be, and what is known of it.

    Attributes:
        spec: The box that was asked for; its isolation is the level that was given.
        image: Image ID.
        context_dir: The host's directory that is mounted at /context.
        seccomp: The security option that names the seccomp profile.
        label: Name of the label with the box's expiry.
        runtime: What runs it.
        inspect: The engine's record of the container.
        environment: What the image sets, as ``NAME=value``, or why that can't be known.
        process: Its first process, or why that can't be looked at.
    """

    spec: SandboxSpec
    image: str
    context_dir: str
    seccomp: str
    label: str
    runtime: Runtime
    inspect: Mapping[str, Any]
    environment: frozenset[str] | Unreadable = NO_ENVIRONMENT
    process: BoxProcess | Unreadable = NOT_LOOKED_AT

    def said(self, path: str) -> Any:
        """A value of the engine's record, by its path.

        Raises:
            Unreadable: The engine does not report it.
        """
        value: Any = self.inspect
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                raise Unreadable(f"the engine does not report {path}")
            value = value[key]
        return value

    def listed(self, path: str) -> list[Any]:
        """A list of the engine's record; a missing or null one is empty, as Docker writes it."""
        try:
            value = self.said(path)
        except Unreadable:
            if self.runtime.podman:
                raise
            return []
        return list(value) if isinstance(value, list | tuple | Mapping) else [value] if value else []

    def proc(self) -> BoxProcess:
        """The process.

        Raises:
            Unreadable: It can't be looked at.
        """
        if isinstance(self.process, Unreadable):
            raise self.process
        return self.process


Read = Callable[[Evidence], Value]


def plain(value: Any) -> Value:
    """A value of the engine's record, as it is where it is of a simple type."""
    return value if value is None or isinstance(value, str | int | float | bool) else f"{value!r:.80}"


def words(values: Iterable[Any]) -> str:
    """Several values in one text for a person: few, short and escaped."""
    shown = sorted(str(value).encode("unicode_escape").decode()[:120] for value in values)
    return " ".join(shown[:5] + ([f"and {len(shown) - 5} more"] if len(shown) > 5 else [])) or NONE
