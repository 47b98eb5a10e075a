"""What a box may use and how it is locked (`SandboxSpec`), and what one cell may use (`CellLimits`)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sandbox.errors import SpecError
from sandbox.tools import NO_TOOLS, Tools

Isolation = Literal["container", "gvisor"]
"""``container``: the engine's default runtime, the host's kernel behind seccomp and namespaces. ``gvisor``: runsc, a
kernel of its own in user space."""

ImageName = Literal["kernel", "data"]
"""``kernel``: Python's standard library. ``data``: the same with numpy and pandas on top."""

MIB: Final = 1 << 20
GIB: Final = 1 << 30

BOX_USER: Final = "65532:65532"
CONTEXT_DIR: Final = "/context"
RUN_DIR: Final = "/run/airlock"
MODULES: Final = "modules"
"""Folder of extra modules, beside the contexts; their names are hexadecimal digits."""
NO_CORE_BYTES: Final = 1
"""The limit of a core dump: no page fits, so none is written. 0 would still let the kernel pipe one to a program of the
host's, where its ``core_pattern`` names one (core(5)); 1 is what the kernel refuses to pipe (fs/coredump.c)."""

_IMAGE: Final = re.compile(r"kernel|data|sha256:[0-9a-f]{64}")
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "memory_bytes": (128 * MIB, 1024 * GIB),
    "cpus": (0.1, 256),
    "pids": (64, 32_768),
    "tmp_bytes": (MIB, 1024 * GIB),
    "tmp_inodes": (64, 10_000_000),
    "shm_bytes": (MIB, 64 * GIB),
    "open_files": (128, 65_536),
    "file_bytes": (MIB, 1024 * GIB),
    "start_timeout_s": (1, 600),
    "lifetime_s": (1, 7 * 24 * 3600),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One box: its size, and the restrictions that are always on.

    Always on, and not fields because no caller may turn them off: no network, read-only root, non-root user, no
    capabilities, no-new-privileges, swap equal to none, no core dumps, tmpfs nosuid/nodev/noexec, private IPC and
    cgroup namespaces, no restart policy, no health check, no log on disk, image by ID.

    Attributes:
        isolation: Least isolation to accept; the start fails where the engine can't give it.
        image: ``kernel`` or ``data`` (with numpy and pandas), built from this package's `images` where the engine lacks
            it; or the ID (``sha256:`` and 64 hexadecimal digits) of an image built from them.
        memory_bytes: Memory of all processes and tmpfs files together, 128 MiB and more; swap is off.
        cpus: CPU cores, 0.1 to 256.
        pids: Processes and threads, 64 to 32,768.
        tmp_bytes: Size of /tmp; its files count as memory.
        tmp_inodes: Files in /tmp (gVisor ignores it).
        shm_bytes: Size of /dev/shm.
        open_files: File descriptors a process.
        file_bytes: Largest file a process may write.
        start_timeout_s: Seconds from creation until the kernel answers.
        lifetime_s: Seconds after which a reaper may remove the box, where it can't tell whether its owner lives.

    Raises:
        SpecError: A value is out of its range; names field, value and range.
    """

    isolation: Isolation = "container"
    image: ImageName | str = "kernel"
    memory_bytes: int = GIB
    cpus: float = 1.0
    pids: int = 4096
    tmp_bytes: int = 256 * MIB
    tmp_inodes: int = 65_536
    shm_bytes: int = 64 * MIB
    open_files: int = 1024
    file_bytes: int = GIB
    start_timeout_s: float = 60
    lifetime_s: float = 3600

    def __post_init__(self) -> None:
        if self.isolation not in ("container", "gvisor"):
            raise SpecError(f"SandboxSpec.isolation: {self.isolation!r} is not 'container' or 'gvisor'")
        if not isinstance(self.image, str) or not _IMAGE.fullmatch(self.image):
            raise SpecError(f"SandboxSpec.image: {self.image!r:.100} is not 'kernel', 'data' or an ID, sha256:...")
        for field in dataclasses.fields(self):
            if field.name in _RANGES:
                _check(field.name, getattr(self, field.name), whole=field.type == "int")


def _check(name: str, value: Any, *, whole: bool) -> None:
    least, most = _RANGES[name]
    number = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not number or not least <= value <= most:
        kind = "an integer" if whole else "a number"
        raise SpecError(f"SandboxSpec.{name}: {value!r} is not {kind} from {least:,} to {most:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellLimits:
    """Bounds of one cell. Infinity (``float("inf")``) turns a clock off.

    Attributes:
        wall_s: Seconds, not counting those in which a sub-call of the cell is in flight.
        cpu_s: CPU seconds of the whole box, waiting or not.
        wait_s: Seconds for which sub-calls in flight may stop the wall clock, in total; then it runs again.
        run_s: Seconds left to the run; this clock never stops.
    """

    wall_s: float = 60.0
    cpu_s: float = 60.0
    wait_s: float = 600.0
    run_s: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """What the kernel is told when it starts.

    Attributes:
        functions: Sub-call functions the namespace has: of these, or none.
        output_chars: Characters of each stream kept at its head, and again at its tail.
        prompt_bytes: UTF-8 bytes of a prompt with its data above which the kernel itself refuses it.
        answer_bytes: UTF-8 bytes of an answer or value above which the kernel itself refuses it.
        rlm_query: What ``rlm_query`` does, where it is one of the functions.
        tools: Functions outside of the box that the namespace has.
        budget: Asked, with each cell and each answer to a sub-call, for what ``budget()`` shall return in the cell:
            JSON values, for whoever reads them there. Nothing comes back.
        on_output: Called with the stream's name (``stdout``, ``stderr``, ``result``) and each piece of text that the
            running cell sends, as it comes: any number of them, so it must be quick and keep little.
        modules: Python files that cells can import and not change: their text by their path, such as
            ``tables/read.py``.
    """

    functions: tuple[str, ...] = ("llm_query", "llm_query_batched", "llm_query_as_completed")
    output_chars: int = 20_000
    prompt_bytes: int = 2 * MIB
    answer_bytes: int = 4 * MIB
    rlm_query: Literal["child", "llm_query", "raise"] = "raise"
    tools: Tools = NO_TOOLS
    budget: Callable[[], Mapping[str, Any]] = dict
    on_output: Callable[[str, str], None] = lambda _stream, _text: None
    modules: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def module_names(self) -> list[str]:
        """What cells may import of `modules`."""
        return sorted({path.split("/")[0].removesuffix(".py") for path in self.modules})
