"""What a person can do about a control that is missing, one sentence each."""

from __future__ import annotations

from typing import Final

_LIMITS: Final = (
    "An engine without root sets limits only on cgroup v2, with the controllers delegated to its user by systemd; "
    "'docker info' names its cgroup version"
)
_ULIMITS: Final = "Podman without root sets these from version 5.5 on; update it, or use Docker"
_GVISOR: Final = (
    'For gVisor the engine\'s daemon.json needs "runtimeArgs": ["--network=none", "--oci-seccomp"] at its runtime runsc'
)
_ENVIRONMENT: Final = (
    "What a client or an engine adds to every container, such as a proxy's address, stands in its configuration: "
    "'proxies' in ~/.docker/config.json, 'env' and 'http_proxy' in Podman's containers.conf"
)
_ELSE: Final = (
    "The engine changed what it was asked for: look at its configuration (daemon.json, containers.conf) and at what "
    "stands between it and its clients, or name another engine in DOCKER_HOST"
)
_BY_SETTING: Final = {
    **dict.fromkeys(("memory_bytes", "swap", "pids", "cpus"), _LIMITS),
    **dict.fromkeys(("open_files", "file_bytes", "core dumps"), _ULIMITS),
    "isolation": _GVISOR,
    "environment": _ENVIRONMENT,
}


def advice_for(setting: str) -> str:
    """What to do where this setting is missing; without a full stop."""
    return _BY_SETTING.get(setting, _ELSE)
