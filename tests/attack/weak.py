"""Boxes with a restriction off, for the controls of the attack tests and for tracing: never for anything else.

A box is weakened below the product: the client changes the request on its way to the engine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import docker

from sandbox.audit.findings import Audit
from sandbox.engine import Engine, _address
from sandbox.runtimes import Runtime
from sandbox.spec import SandboxSpec

Weaken = Callable[[dict[str, Any]], None]
"""Changes the body of the request that creates a container, as Docker's API words it: ``config["User"]``,
``config["HostConfig"]["PidsLimit"]``."""


class ChangingClient(docker.APIClient):  # type: ignore[misc]
    """Changes what it asks the engine for, and remembers the containers."""

    def __init__(self, change: Weaken = lambda _: None) -> None:
        super().__init__(version="auto", timeout=60, **_address())
        self.change = change
        self.created: list[str] = []

    def create_container_from_config(self, config: dict[str, Any], *more: Any, **named: Any) -> Any:
        changed = copy.deepcopy(dict(config))
        self.change(changed)
        answer = super().create_container_from_config(changed, *more, **named)
        self.created.append(answer["Id"])
        return answer


class WeakEngine(Engine):
    """Starts boxes with restrictions off: their audit says nothing.

    Args:
        weaken: Takes restrictions away.
    """

    def __init__(self, weaken: Weaken) -> None:
        self.changing = ChangingClient(weaken)
        super().__init__(self.changing)

    async def audit(
        self, record: dict[str, Any], spec: SandboxSpec, runtime: Runtime, *, image: str, context_dir: str
    ) -> Audit:
        return Audit(isolation=spec.isolation, runtime=runtime.name, image=image, findings=())


# ------------------------------------------------------------------------------------------------ words for a change


def host(**values: Any) -> Weaken:
    """Other values in ``HostConfig``."""
    return lambda config: config["HostConfig"].update(values)


def top(**values: Any) -> Weaken:
    """Other values beside ``HostConfig``."""
    return lambda config: config.update(values)


def both(*changes: Weaken) -> Weaken:
    """One after the other."""

    def change(config: dict[str, Any]) -> None:
        for one in changes:
            one(config)

    return change


def without_option(start: str, *instead: str) -> Weaken:
    """Without the security options that start so."""

    def change(config: dict[str, Any]) -> None:
        options = config["HostConfig"]["SecurityOpt"]
        config["HostConfig"]["SecurityOpt"] = [o for o in options if not o.startswith(start)] + list(instead)

    return change


def only_option(option: str) -> Weaken:
    """With one security option."""
    return host(SecurityOpt=[option])


def without_ulimit(name: str) -> Weaken:
    """Without one limit of a process."""

    def change(config: dict[str, Any]) -> None:
        config["HostConfig"]["Ulimits"] = [u for u in config["HostConfig"]["Ulimits"] if u["Name"] != name]

    return change


def tmpfs(point: str, old: str, new: str) -> Weaken:
    """Another option of a tmpfs."""

    def change(config: dict[str, Any]) -> None:
        options = config["HostConfig"]["Tmpfs"]
        assert old in options[point]
        options[point] = options[point].replace(old, new)

    return change


def mounted(**more: Any) -> Weaken:
    """One more mount."""
    return lambda config: config["HostConfig"]["Mounts"].append({"Type": "bind", "ReadOnly": True} | more)


def with_seccomp(option: str | None) -> Weaken:
    """Another seccomp option: ``unconfined``, a profile's text, or None for the engine's default."""
    return without_option("seccomp=", *([] if option is None else [f"seccomp={option}"]))
