"""The container engine: every call of Docker's API that a box needs, off the event loop.

docker-py is synchronous, so each call runs in a thread. No other module of a running box talks to the engine; the
image is built by `sandbox.image`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import docker
import docker.errors
import docker.types
import requests

from sandbox.audit.evidence import Evidence
from sandbox.audit.findings import Audit, audit_live
from sandbox.audit.proc import Unreadable
from sandbox.errors import BoxStartError, EngineUnavailable
from sandbox.inputs import images_dir
from sandbox.runtimes import GVISOR, Runtime, demand_seccomp, runtime_for
from sandbox.spec import BOX_USER, CONTEXT_DIR, NO_CORE_BYTES, RUN_DIR, SandboxSpec
from sandbox.threads import made_in_thread
from sandbox.unreachable import no_engine

REMOVE_TRIES: Final = 6  # 3 s: a removal that is in progress answers with an error until it is done
_log = logging.getLogger(__name__)

LABEL: Final = "rlm-airlock"
"""Every container of ours has it; its value is the owner. ``rlm-airlock.expires`` is a Unix time in seconds."""

_RUNTIMES: Final = {"container": None, "gvisor": GVISOR}
_TMPFS: Final = "nosuid,nodev,noexec"


class Engine:
    """A connection to the engine. One is enough for all boxes of a process."""

    def __init__(self, client: docker.APIClient) -> None:
        self._api = client
        self._default: Runtime | None = None
        self._environments: dict[str, frozenset[str]] = {}

    @classmethod
    async def connect(cls) -> Engine:
        """Connect to the engine that ``DOCKER_HOST``, Docker's current context or the default socket names.

        Raises:
            EngineUnavailable: None answers; the text says what to type.
        """
        return cls(await asyncio.to_thread(connect))

    @property
    def api(self) -> docker.APIClient:
        """The connection itself, for what deals with images. Its calls block."""
        return self._api

    async def check(self, spec: SandboxSpec) -> Runtime:
        """The runtime that a box of this spec gets. It gives at least the isolation that the spec demands.

        Raises:
            EngineUnavailable: The engine can't give it, or has no seccomp.
        """
        if spec.isolation == "container" and self._default is not None:
            return self._default  # were the engine's default another one by now, the audit would tell
        info = await self.info()
        demand_seccomp(info)
        runtime = runtime_for(info, spec.isolation)
        if spec.isolation == "container":
            self._default = runtime
        return runtime

    async def info(self) -> dict[str, Any]:
        """The engine's description of itself: runtimes, versions, cgroup version.

        Raises:
            EngineUnavailable: It does not answer any more.
        """
        described: dict[str, Any] = await self._ask(self._api.info)
        return described

    async def versions(self) -> dict[str, Any]:
        """The engine's and its parts' versions.

        Raises:
            EngineUnavailable: It does not answer any more.
        """
        versions: dict[str, Any] = await self._ask(self._api.version)
        return versions

    async def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return await asyncio.to_thread(question)
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise EngineUnavailable(f"the container engine does not answer: {_say(error)}") from error

    async def create(self, spec: SandboxSpec, *, image: str, context_dir: str, owner: str) -> str:
        """Create a locked container, not yet started; returns its ID. Whoever is cancelled meanwhile leaves none.

        Raises:
            BoxStartError: The engine would not, or has lost the image.
        """
        labels = {LABEL: owner, f"{LABEL}.expires": str(int(time.time() + spec.lifetime_s))}
        create = partial(
            self._api.create_container,
            image,
            command=[RUN_DIR],
            user=BOX_USER,
            host_config=self._api.create_host_config(**self.restrictions(spec, context_dir)),
            network_disabled=True,
            stdin_open=True,
            tty=False,
            detach=False,
            healthcheck={"test": ["NONE"]},
            labels=labels,
            use_config_proxy=False,  # else ~/.docker/config.json's proxies, with their passwords, are the box's to read
        )
        try:
            created = await made_in_thread(create, lambda made: self._api.remove_container(made["Id"], force=True))
        except docker.errors.ImageNotFound as error:
            raise BoxStartError("the box's image is gone from the engine; the next run builds it again") from error
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise BoxStartError(f"the engine would not create the box: {_say(error)}") from error
        return str(created["Id"])

    def restrictions(self, spec: SandboxSpec, context_dir: str) -> dict[str, Any]:
        """`host_config`. A method, so that a test can make a box with one restriction off and show what it stops."""
        return host_config(spec, context_dir, podman=self._default is not None and self._default.podman)

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

    async def inspect(self, container: str) -> dict[str, Any]:
        """The engine's record of a container.

        Raises:
            BoxStartError: It is gone already.
        """
        try:
            record: dict[str, Any] = await asyncio.to_thread(self._api.inspect_container, container)
            return record
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise BoxStartError(f"the engine would not describe the box: {_say(error)}") from error

    async def audit(
        self, record: dict[str, Any], spec: SandboxSpec, runtime: Runtime, *, image: str, context_dir: str
    ) -> Audit:
        """Compare a live box with its spec. A method for the reason that `restrictions` is one.

        Args:
            record: As `inspect` returned it.
            spec: The box, with the isolation that `runtime` gives.
            runtime: As `check` returned it.
            image: Image ID.
            context_dir: The host's directory that is mounted as the context.
        """
        evidence = Evidence(
            spec=spec,
            image=image,
            context_dir=context_dir,
            seccomp=_seccomp(podman=runtime.podman),
            label=f"{LABEL}.expires",
            runtime=runtime,
            inspect=record,
            environment=await self._environment(image),
        )
        return await asyncio.to_thread(audit_live, evidence)

    async def _environment(self, image: str) -> frozenset[str] | Unreadable:
        """What an image sets, asked once: an ID never means another image."""
        if image not in self._environments:
            try:
                described = await asyncio.to_thread(self._api.inspect_image, image)
            except (docker.errors.DockerException, requests.RequestException) as error:
                return Unreadable(f"the engine does not describe the image: {_say(error)}")
            self._environments[image] = frozenset((described.get("Config") or {}).get("Env") or ())
        return self._environments[image]

    async def remove(self, container: str) -> bool:
        """Kill and remove; returns when it is gone, also where it has gone by itself, with True.

        After `REMOVE_TRIES` the engine's failure is logged, and False returned; the next reaper follows.
        """
        for attempt in range(REMOVE_TRIES):
            try:
                await asyncio.to_thread(self._api.remove_container, container, v=True, force=True)
                return True
            except docker.errors.NotFound:
                return True
            except (docker.errors.APIError, requests.RequestException) as error:
                said = _say(error)
            await asyncio.sleep(0.05 * 2**attempt)
        _log.error("box %s could not be removed: %s", container[:12], said)
        return False

    async def cpu_s(self, container: str) -> float | None:
        """CPU seconds of all its processes so far, from the engine's cgroup reading; None where it has none."""
        with contextlib.suppress(docker.errors.APIError, requests.RequestException, KeyError, TypeError):
            stats = await asyncio.to_thread(self._api.stats, container, stream=False, one_shot=True)
            used_ns = int(stats["cpu_stats"]["cpu_usage"]["total_usage"])
            return used_ns / 1e9 if used_ns else None  # rootless without cgroup 2: nothing is counted
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
        """All containers of ours, running or not: ``{"Id": ..., "Labels": ...}``.

        Raises:
            EngineUnavailable: It does not answer any more.
        """
        found: list[dict[str, Any]] = await self._ask(partial(self._api.containers, all=True, filters={"label": LABEL}))
        return found

    async def aclose(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._api.close)


def connect() -> docker.APIClient:
    """Connect and check that the engine answers (blocks).

    Raises:
        EngineUnavailable: It does not.
    """
    address: dict[str, Any] = {}
    try:
        address = _address()
        client = docker.APIClient(version="auto", timeout=60, **address)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise EngineUnavailable(no_engine(error, address.get("base_url"))) from error
    return client


def _address() -> dict[str, Any]:
    """``DOCKER_HOST`` and its TLS settings, else Docker's current context."""
    if os.environ.get("DOCKER_HOST"):
        return docker.utils.kwargs_from_env()  # type: ignore[no-any-return]
    from docker.context import ContextAPI

    context = ContextAPI.get_current_context()
    return {"base_url": context.Host} if context is not None and context.Host else {}


def host_config(spec: SandboxSpec, context_dir: str, *, podman: bool = False) -> dict[str, Any]:
    """Every restriction that Docker's API takes, as keyword arguments of `create_host_config`.

    Podman refuses a tmpfs with a number of inodes or an owner: there the files count as memory alone.
    """
    tmp = f"size={spec.tmp_bytes},mode=1777,{_TMPFS}"
    run = f"size=1m,mode=1777,{_TMPFS}"
    if not podman:
        tmp = f"size={spec.tmp_bytes},nr_inodes={spec.tmp_inodes},mode=1777,{_TMPFS}"
        run = f"size=1m,nr_inodes=64,mode=0700,uid=65532,gid=65532,{_TMPFS}"
    limits = [("nofile", spec.open_files), ("fsize", spec.file_bytes), ("core", NO_CORE_BYTES)]
    return {
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true", _seccomp(podman=podman)],
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
            "/tmp": tmp,  # noqa: S108
            RUN_DIR: run,
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


def _seccomp(*, podman: bool = False) -> str:
    """The option that names our profile; runc, crun and gVisor all take the same one.

    Podman takes the name of a file that it reads itself (podman#27710), Docker its text.
    """
    profile = images_dir() / "kernel" / "seccomp.json"
    return f"seccomp={profile if podman else profile.read_text()}"


def _say(error: BaseException) -> str:
    """The engine's own words, bounded."""
    text = getattr(error, "explanation", None) or str(error)
    return str(text).strip()[:300]
