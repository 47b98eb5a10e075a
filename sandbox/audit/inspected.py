"""What the engine's record of a container says of each setting, as one simple value."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sandbox.audit.evidence import NONE, UNLIMITED, Evidence, Read, Value, plain, words
from sandbox.audit.proc import Unreadable, parse_size
from sandbox.spec import CONTEXT_DIR, RUN_DIR

TMP_DIR: Final = "/tmp"  # noqa: S108
SHM_DIR: Final = "/dev/shm"  # noqa: S108
_PODMANS: Final = {"TERM", "HOME", "HOSTNAME", "container"}
"""What Podman puts into every container."""
TMPFS_FLAGS: Final = ("nosuid", "nodev", "noexec")


def networks(evidence: Evidence) -> str:
    """Networks that it has an end in."""
    ends = evidence.said("NetworkSettings.Networks")
    if not isinstance(ends, Mapping):
        return NONE if ends is None else words([ends])
    return words(
        name for name, end in ends.items() if name != "none" or (isinstance(end, Mapping) and end.get("IPAddress"))
    )


def security_options(evidence: Evidence) -> list[str]:
    """All of them."""
    return [str(option) for option in evidence.listed("HostConfig.SecurityOpt")]


def no_new_privileges(evidence: Evidence) -> bool:
    """Whether the option is there."""
    forms = {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}
    return bool(forms & set(security_options(evidence)))


def profile(evidence: Evidence) -> str:
    """Whose seccomp profile it was given."""
    named = [option for option in security_options(evidence) if option.startswith(("seccomp=", "seccomp:"))]
    if not named:
        return "the engine's"
    return "ours" if named == [evidence.seccomp] else "unconfined" if "unconfined" in named[-1][:20] else "another"


def other_options(evidence: Evidence) -> str:
    """Security options besides the two above, such as one that unmasks /proc."""
    known = ("no-new-privileges", "seccomp=", "seccomp:")
    return words(option for option in security_options(evidence) if not option.startswith(known))


def ulimit(name: str) -> Read:
    """The larger of the two limits of a resource."""

    def found(evidence: Evidence) -> Value:
        for limit in evidence.listed("HostConfig.Ulimits"):
            if isinstance(limit, Mapping) and str(limit.get("Name")).lower().removeprefix("rlimit_") == name:
                both = [
                    value for value in (limit.get("Soft"), limit.get("Hard")) if isinstance(value, int) and value >= 0
                ]
                return max(both) if len(both) == 2 else UNLIMITED
        return UNLIMITED

    return found


def positive(path: str) -> Read:
    """A limit of the engine's record, where 0, -1 and null mean none."""

    def found(evidence: Evidence) -> Value:
        value = evidence.said(path)
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else UNLIMITED

    return found


def tmpfs(evidence: Evidence, point: str) -> list[str]:
    """Options of one tmpfs."""
    options = evidence.said("HostConfig.Tmpfs")
    text = options.get(point) if isinstance(options, Mapping) else None
    return str(text).split(",") if text is not None else []


def tmpfs_number(point: str, name: str) -> Read:
    """Its size or number of inodes."""

    def found(evidence: Evidence) -> Value:
        values = [
            value for key, _, value in (option.partition("=") for option in tmpfs(evidence, point)) if key == name
        ]
        return parse_size(values[-1]) if values else UNLIMITED

    return found


def tmpfs_flags(evidence: Evidence) -> str:
    """Flags that both tmpfs have."""
    return " ".join(flag for flag in TMPFS_FLAGS if all(flag in tmpfs(evidence, point) for point in (TMP_DIR, RUN_DIR)))


def mounts(evidence: Evidence) -> list[Mapping[str, Any]]:
    """All mounts but the tmpfs."""
    return [mount for mount in evidence.listed("Mounts") if isinstance(mount, Mapping)]


def context_mount(evidence: Evidence) -> str:
    """How /context is mounted."""
    found = [mount for mount in mounts(evidence) if mount.get("Destination") == CONTEXT_DIR]
    if len(found) != 1:
        return f"{len(found)} mounts"
    if found[0].get("RW") is not False:
        return "writable"
    # Docker Desktop writes the path of its own machine before ours.
    return "read-only" if str(found[0].get("Source")).endswith(evidence.context_dir) else "another directory"


def other_mounts(evidence: Evidence) -> str:
    """What is mounted that the spec does not name, such as the engine's socket."""
    ours = {CONTEXT_DIR, TMP_DIR, RUN_DIR, SHM_DIR}
    return words(mount.get("Destination") for mount in mounts(evidence) if mount.get("Destination") not in ours)


def those_of(path: str, wanted: set[str]) -> Read:
    """Which of the wanted paths are in a list."""
    return lambda evidence: words(wanted & set(map(str, evidence.listed(path))))


def health(evidence: Evidence) -> str:
    """The command of its health check, which the engine would run inside."""
    config = evidence.said("Config")
    check = config.get("Healthcheck") if isinstance(config, Mapping) else None
    test = check.get("Test") if isinstance(check, Mapping) else None
    return NONE if test in (None, [], ["NONE"]) else words(test if isinstance(test, list) else [test])


def expires(evidence: Evidence) -> Value:
    """Seconds until its expiry."""
    labels = evidence.said("Config.Labels")
    text = str(labels.get(evidence.label)) if isinstance(labels, Mapping) else ""
    return int(text) - int(time.time()) if text.isascii() and text.isdigit() and len(text) < 20 else "never"


def asked_environment(evidence: Evidence) -> str:
    """Names of variables that the image does not set so."""
    return _more_than_the_image(evidence, evidence.listed("Config.Env"), _PODMANS if evidence.runtime.podman else set())


def real_environment(evidence: Evidence) -> str:
    """The same of the process: a plugin of the engine's may add some that its record does not have."""
    said = filter(None, evidence.proc().text("environ").split("\0"))
    return _more_than_the_image(evidence, said, _PODMANS if evidence.runtime.podman else {"HOSTNAME"})


def _more_than_the_image(evidence: Evidence, said: Iterable[Any], engines: set[str]) -> str:
    """No values: they may be keys."""
    if isinstance(evidence.environment, Unreadable):
        raise evidence.environment
    names = {one.partition("=")[0] for one in map(str, said) if one not in evidence.environment}
    return words(names - engines)


def image(evidence: Evidence) -> str:
    """Whether it is the image that was asked for."""
    same = str(evidence.said("Image")).removeprefix("sha256:") == evidence.image.removeprefix("sha256:")
    return "the image asked for" if same else words([evidence.said("Image")])


def dropped_capabilities(evidence: Evidence) -> str:
    """What was dropped."""
    dropped = {str(name).upper() for name in evidence.listed("HostConfig.CapDrop")}
    return "ALL" if dropped & {"ALL", "CAP_ALL"} else words(dropped)


def text(path: str) -> Read:
    """A value as it is."""
    return lambda evidence: plain(evidence.said(path))


def restart_policy(evidence: Evidence) -> Value:
    """When the engine starts it again."""
    return plain(evidence.said("HostConfig.RestartPolicy.Name")) or "no"


def nano_cpus(evidence: Evidence) -> Value:
    """How many CPUs it may use."""
    value = positive("HostConfig.NanoCpus")(evidence)
    return value / 1e9 if isinstance(value, int) else value
