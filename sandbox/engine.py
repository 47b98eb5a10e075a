"""The container engine: every call of Docker's API that a box needs, off the event loop.

docker-py is synchronous, so each call runs in a thread. No other module of a running box talks to the engine; the
image is built by `sandbox.image`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from typing import Any, Final

import docker
import docker.errors
import docker.types
import requests

from sandbox.errors import BoxStartError, EngineUnavailable
from sandbox.inputs import images_dir
from sandbox.spec import BOX_USER, CONTEXT_DIR, RUN_DIR, Isolation, SandboxSpec

LABEL: Final = "rlm-airlock"
"""Every container of ours has it; its value is the owner. ``rlm-airlock.expires`` is a Unix time in seconds."""

_RUNTIMES: Final = {"container": None, "gvisor": "runsc"}
_GVISOR_FLAGS: Final = ("--oci-seccomp", "--network=none")
_TMPFS: Final = "nosuid,nodev,noexec"


class Engine:
    """A connection to the engine. One is enough for all boxes of a process."""

    def __init__(self, client: docker.APIClient) -> None:
        self._api = client

    @classmethod
    async def connect(cls) -> Engine:
        """Connect to the engine that ``DOCKER_HOST``, Docker's current context or the default socket names.

        Raises:
            EngineUnavailable: None answers; the text says what to type.
        """
        return cls(await asyncio.to_thread(connect))

    async def check(self, spec: SandboxSpec) -> None:
        """Raise `EngineUnavailable` where the engine can't give the isolation that `spec` demands."""
        runtime = _RUNTIMES[spec.isolation]
        if runtime is None:
            return
        runtimes = (await asyncio.to_thread(self._api.info)).get("Runtimes", {})
        if runtime not in runtimes:
            raise EngineUnavailable(
                f"isolation {spec.isolation!r} needs the runtime {runtime!r}, which this engine does not have; "
                f"it has: {', '.join(sorted(runtimes))}"
            )
        missing = [flag for flag in _GVISOR_FLAGS if flag not in (runtimes[runtime].get("runtimeArgs") or [])]
        if missing:
            raise EngineUnavailable(
                f"the engine's runtime {runtime!r} lacks {' and '.join(missing)}: add it to its runtimeArgs in "
                "/etc/docker/daemon.json; without it the box's seccomp profile is ignored or its network set up"
            )

    async def create(self, spec: SandboxSpec, *, image: str, context_dir: str, owner: str) -> str:
        """Create a locked container, not yet started; returns its ID."""
        labels = {LABEL: owner, f"{LABEL}.expires": str(int(time.time() + spec.lifetime_s))}
        try:
            created = await asyncio.to_thread(
                self._api.create_container,
                image,
                command=[RUN_DIR],
                user=BOX_USER,
                host_config=self._api.create_host_config(**host_config(spec, context_dir)),
                network_disabled=True,
                stdin_open=True,
                tty=False,
                detach=False,
                healthcheck={"test": ["NONE"]},
                labels=labels,
            )
        except docker.errors.DockerException as error:
            raise BoxStartError(f"the engine would not create the box: {_say(error)}") from error
        return str(created["Id"])

    async def attach(self, container: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Take hold of stdin, stdout and stderr, before the start, so that no byte is lost."""
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        try:
            holder = await asyncio.to_thread(self._api.attach_socket, container, params)
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise BoxStartError(f"the engine would not attach to the box: {_say(error)}") from error
        raw = getattr(holder, "_sock", None)
        if not isinstance(raw, socket.socket):
            raise BoxStartError("the engine is reached by a transport without a plain socket; use unix:// or tcp://")
        # The holder closes the connection when it is collected: keep a duplicate and let it go.
        own = raw.dup()
        own.setblocking(False)
        holder.close()
        raw.close()
        if own.family == socket.AF_UNIX:
            return await asyncio.open_unix_connection(sock=own)
        return await asyncio.open_connection(sock=own)

    async def start(self, container: str) -> None:
        """Start a created container."""
        try:
            await asyncio.to_thread(self._api.start, container)
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise BoxStartError(f"the engine would not start the box: {_say(error)}") from error

    async def remove(self, container: str) -> None:
        """Kill and remove; returns when it is gone, also where it has gone by itself."""
        with contextlib.suppress(docker.errors.APIError, requests.RequestException):
            await asyncio.to_thread(self._api.remove_container, container, v=True, force=True)

    async def cpu_s(self, container: str) -> float | None:
        """CPU seconds of all its processes so far, from the engine's cgroup reading; None where it has none."""
        with contextlib.suppress(docker.errors.APIError, requests.RequestException, KeyError, TypeError):
            stats = await asyncio.to_thread(self._api.stats, container, stream=False, one_shot=True)
            return int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
        return None

    async def ran_out_of_memory(self, container: str, since: float) -> bool:
        """Whether the engine has reported `oom` for this container since a Unix time. Waits up to 0.5 s for it."""

        def look() -> bool:
            filters = {"type": "container", "container": container, "event": "oom"}
            until = time.time() + 0.5
            events = self._api.events(since=int(since), until=until, filters=filters, decode=True)
            try:
                return next(iter(events), None) is not None
            finally:
                events.close()

        with contextlib.suppress(docker.errors.APIError, requests.RequestException):
            return await asyncio.to_thread(look)
        return False

    async def list_boxes(self) -> list[dict[str, Any]]:
        """All containers of ours, running or not: ``{"Id": ..., "Labels": ...}``."""
        found: list[dict[str, Any]] = await asyncio.to_thread(self._api.containers, all=True, filters={"label": LABEL})
        return found

    async def aclose(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._api.close)


def connect() -> docker.APIClient:
    """Connect and check that the engine answers (blocks).

    Raises:
        EngineUnavailable: It does not.
    """
    try:
        client = docker.APIClient(version="auto", timeout=60, **_address())
        client.ping()
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineUnavailable(
            f"no container engine answers ({_say(error)}); start Docker, or run 'make engine' on Debian or Ubuntu"
        ) from error
    return client


def _address() -> dict[str, Any]:
    """``DOCKER_HOST`` and its TLS settings, else Docker's current context."""
    if os.environ.get("DOCKER_HOST"):
        return docker.utils.kwargs_from_env()  # type: ignore[no-any-return]
    from docker.context import ContextAPI

    context = ContextAPI.get_current_context()
    return {"base_url": context.Host} if context is not None and context.Host else {}


def host_config(spec: SandboxSpec, context_dir: str) -> dict[str, Any]:
    """Every restriction that Docker's API takes, as keyword arguments of `create_host_config`."""
    run_tmpfs = f"size=1m,nr_inodes=64,mode=0700,uid=65532,gid=65532,{_TMPFS}"
    limits = [("nofile", spec.open_files), ("fsize", spec.file_bytes), ("core", 0)]
    return {
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true", *_seccomp(spec.isolation)],
        "privileged": False,
        "mem_limit": spec.memory_bytes,
        "memswap_limit": spec.memory_bytes,
        "oom_kill_disable": False,
        "pids_limit": spec.pids,
        "nano_cpus": int(spec.cpus * 1e9),
        "ulimits": [docker.types.Ulimit(name=name, soft=value, hard=value) for name, value in limits],
        "shm_size": spec.shm_bytes,
        "ipc_mode": "private",
        "cgroupns": "private",
        "tmpfs": {
            "/tmp": f"size={spec.tmp_bytes},nr_inodes={spec.tmp_inodes},mode=1777,{_TMPFS}",  # noqa: S108
            RUN_DIR: run_tmpfs,
        },
        "mounts": [
            docker.types.Mount(CONTEXT_DIR, context_dir, type="bind", read_only=True, propagation="rprivate"),
        ],
        "log_config": docker.types.LogConfig(type="none"),
        "restart_policy": {"Name": "no"},
        "auto_remove": True,
        "init": False,
        "runtime": _RUNTIMES[spec.isolation],
    }


def _seccomp(isolation: Isolation) -> list[str]:
    """gVisor gets a profile of ours: runsc ignores `errnoRet`, so the engine's own breaks threads (clone3) there."""
    if isolation == "container":
        return []  # the engine's default profile
    profile = json.loads((images_dir() / "kernel" / "seccomp-gvisor.json").read_text())
    return [f"seccomp={json.dumps(profile)}"]


def _say(error: BaseException) -> str:
    """The engine's own words, bounded."""
    text = getattr(error, "explanation", None) or str(error)
    return str(text).strip()[:300]
