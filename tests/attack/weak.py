"""Boxes with a restriction off, for the controls of the attack tests and for tracing: never for anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.audit.findings import Audit
from sandbox.engine import Engine, connect
from sandbox.runtimes import Runtime
from sandbox.spec import SandboxSpec

Weaken = Callable[[dict[str, Any]], None]


class WeakEngine(Engine):
    """Changes the restrictions of its boxes and starts them all the same: their audit says nothing.

    Args:
        weaken: Is given the keyword arguments of `create_host_config` and changes them.
    """

    def __init__(self, weaken: Weaken) -> None:
        self.client = connect()
        super().__init__(self.client)
        self._weaken = weaken

    def restrictions(self, spec: SandboxSpec, context_dir: str) -> dict[str, Any]:
        config = super().restrictions(spec, context_dir)
        self._weaken(config)
        return config

    async def audit(
        self, record: dict[str, Any], spec: SandboxSpec, runtime: Runtime, *, image: str, context_dir: str
    ) -> Audit:
        return Audit(isolation=spec.isolation, runtime=runtime.name, image=image, findings=())


def with_seccomp(option: str | None) -> Weaken:
    """Another seccomp option: ``unconfined``, a profile's text, or None for the engine's default."""

    def weaken(config: dict[str, Any]) -> None:
        config["security_opt"] = [said for said in config["security_opt"] if not said.startswith("seccomp=")]
        if option is not None:
            config["security_opt"].append(f"seccomp={option}")

    return weaken
