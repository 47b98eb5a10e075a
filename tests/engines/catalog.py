"""The private engines that the tool knows: what to install for each, and how to start it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

CONFIG: Final = "/run/engine.conf"
"""Where an engine finds its configuration file."""

_RUNSC: Final = {
    "path": "/usr/bin/runsc",
    "runtimeArgs": ["--network=none", "--oci-seccomp"],
}  # as `make engine` has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One engine.

    Attributes:
        packages: Debian packages of its own root file system; empty for the machine's own root and binaries.
        data_dir: Where the engine keeps images and containers; a private directory is mounted there.
        config: Text of its configuration file, `CONFIG`.
        command: Starts it in the foreground; ``{cgroup}`` stands for the cgroup that holds its boxes.
        socket: Its name in ``/run``.
        user: Its user ID, where it runs without root.
        cost: What building its root costs, in words.
    """

    packages: tuple[str, ...]
    data_dir: str
    config: str
    command: tuple[str, ...]
    socket: str
    user: int | None = None
    cost: str = ""


SUITE: Final = "trixie"

_DOCKERD: Final = (
    *("dockerd", f"--config-file={CONFIG}", "--host=unix:///run/docker.sock"),
    # Without a network namespace of its own, --bridge=none deletes the docker0 of the machine's engine.
    *("--bridge=none", "--iptables=false", "--cgroup-parent={cgroup}", "--exec-opt=native.cgroupdriver=cgroupfs"),
)

_PODMAN: Final = ("podman", "--cgroup-manager=cgroupfs", "system", "service", "--time=0", "unix:///run/podman.sock")

RECIPES: Final = {
    "docker26": Recipe(
        packages=("docker.io", "runsc", "iptables", "ca-certificates", "mount"),
        data_dir="/var/lib/docker",
        config=json.dumps({"runtimes": {"runsc": _RUNSC}}),
        command=_DOCKERD,
        socket="docker.sock",
        cost="390 MB on disk, about a minute",
    ),
    "docker20": Recipe(
        packages=(),
        data_dir="/var/lib/docker",
        config=json.dumps({"runtimes": {"runsc": _RUNSC}}),
        command=_DOCKERD,
        socket="docker.sock",
    ),
    "podman5": Recipe(
        packages=("podman", "crun", "uidmap", "ca-certificates", "mount", "passwd"),
        data_dir="/home/engine",
        # Podman's own defaults are above what root without CAP_SYS_RESOURCE may set.
        config='[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]\n',
        command=("env", f"CONTAINERS_CONF_OVERRIDE={CONFIG}", *_PODMAN),
        socket="podman.sock",
        user=1000,
        cost="330 MB on disk, about half a minute",
    ),
}
"""By name. ``docker20`` is the machine's own Docker, whatever its version is, with another data directory;
``podman5`` is rootless."""
