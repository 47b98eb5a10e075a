"""How each setting is taken away, alone where that can be: for the audit's own test and for the attacks.

`BASE` is what the box has not of which one setting alone is on, `KEPT` what no attack can show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.attack.weak import Weaken, both, host, mounted, only_option, tmpfs, top, with_seccomp

NODE: Final = (1, 11)
"""Number of the device that the attack on `devices` opens: /dev/kmsg, for writing, and writes nothing."""


def _writable_context(config: dict[str, Any]) -> None:
    config["HostConfig"]["Mounts"][0].update(ReadOnly=False)


def _listed_twice(config: dict[str, Any]) -> None:
    """The directory that is the context already, at another place."""
    mounted(Source=config["HostConfig"]["Mounts"][0]["Source"], Target="/more")(config)


def _run_directory_of_all(config: dict[str, Any]) -> None:
    """Else root without capabilities could not enter it, and no box with another user would start."""
    options = config["HostConfig"]["Tmpfs"]
    options["/run/airlock"] = options["/run/airlock"].replace("mode=0700,uid=65532,gid=65532", "mode=1777")


def _key_in_the_environment(config: dict[str, Any]) -> None:
    config["Env"] = [*(config.get("Env") or ()), "SOME_API_KEY=none of ours"]


_FLAGS: Final = ("nosuid,nodev,noexec", "suid,dev,exec")
CAPABILITIES: Final = ("SYS_ADMIN", "SYS_PTRACE")
"""Those that some attack needs besides the engine's default ones."""

OFF: Final[dict[str, Weaken]] = {
    "isolation": host(Runtime="runc"),
    "network": both(host(NetworkMode="bridge"), top(NetworkDisabled=False)),
    "net namespace": both(host(NetworkMode="host"), top(NetworkDisabled=False)),
    "pid namespace": host(PidMode="host"),
    "ipc namespace": host(IpcMode="host"),
    "uts namespace": host(UTSMode="host"),
    "cgroup namespace": host(CgroupnsMode="host"),
    "devices": host(DeviceCgroupRules=[f"c {NODE[0]}:{NODE[1]} rwm"]),
    "context": _writable_context,
    "mounts": _listed_twice,
    "user": both(top(User="0:0"), _run_directory_of_all),
    "capabilities": host(CapDrop=[], CapAdd=list(CAPABILITIES)),
    "no-new-privileges": only_option("seccomp=unconfined"),
    "seccomp": with_seccomp("unconfined"),
    "environment": _key_in_the_environment,
    "masked paths": host(MaskedPaths=[], ReadonlyPaths=[]),
    "read-only root": host(ReadonlyRootfs=False),
    "tmpfs flags": both(tmpfs("/tmp", *_FLAGS), tmpfs("/run/airlock", *_FLAGS)),
}
"""Setting to change; `image` is the tests' own, since it needs an image that was made for it."""

BASE: Final = frozenset(OFF) - {
    # Its control is another runtime: the base has the level's own.
    "isolation",
    # As root and beside the host's own processes, network and memory, an attack could hurt them; each is taken away for
    # its own attacks alone.
    *("net namespace", "pid namespace", "ipc namespace", "uts namespace", "cgroup namespace"),
}
"""What a box has not in which one setting alone is on. Limits stay on: nothing else would bound what it uses."""

GOES_WITH: Final[Mapping[str, frozenset[str]]] = {
    # runc loads the profile early in a box without it, and ours does not let runc finish: no such box starts.
    "seccomp": frozenset({"no-new-privileges"}),
}
"""Settings that a setting is on with even where it should be alone. No attack that it stops is stopped by those."""

KEPT: Final[Mapping[str, str]] = {
    "mnt namespace": "no engine starts a box in the host's mounts",
    "security options": "what another option lets through depends on the host's AppArmor or SELinux",
    "sysctls": "they are the caller's to set, not a cell's, and change what is the box's own",
    "log": "what PID 1 says would lie on the host's disk; to show it is to fill it",
    "lifetime_s": "it is how long a box may outlive its owner",
    "restart policy": "the engine acts on it, after the box has ended",
    "health check": "the engine acts on it, from outside",
    "auto-remove": "the engine acts on it, after the box has ended",
}
"""Settings that the audit demands and no attack can show, and why."""
