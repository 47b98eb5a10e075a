"""One private engine: its root file system, its start, and an end that leaves nothing behind.

Everything that an engine mounts and every interface that it makes lies in namespaces of its own and goes with its
processes. These all carry a mark in their environment, so that they are found again after a crash of ours, also where
no file names them. What they leave on the machine is their cgroup, and files below one directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.engines.catalog import CONFIG, RECIPES, SUITE

START_S: Final = 60.0
"""For an engine to answer after its start."""
STOP_S: Final = 15.0
"""For an engine to stop its boxes and itself; then it is killed."""

_MARK: Final = "AIRLOCK_PRIVATE_ENGINE"
_ENTER: Final = Path(__file__).with_name("enter.sh")
_ROOTLESS: Final = Path(__file__).with_name("rootless.sh")
_IMAGES: Final = Path(__file__).parents[2] / "images"  # Podman reads the seccomp profile there itself
_CGROUPS: Final = Path("/sys/fs/cgroup")
_TOOLS: Final = ("mmdebstrap", "unshare", "setpriv", "pivot_root")


class EngineError(Exception):
    """A private engine can't be made or does not start; the text says why."""


def cache_dir() -> Path:
    """``$AIRLOCK_ENGINES``, else ``/var/cache/airlock-engines``."""
    return Path(os.environ.get("AIRLOCK_ENGINES") or "/var/cache/airlock-engines").absolute()


def why_not() -> str | None:
    """Why no private engine can be made on this machine, or None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "private engines need root"
    if not Path("/etc/debian_version").exists():
        return "private engines need Debian or Ubuntu"
    lacking = [tool for tool in _TOOLS if not shutil.which(tool, path=_path())]
    return f"private engines need {', '.join(lacking)}: apt-get install mmdebstrap util-linux" if lacking else None


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


class PrivateEngine:
    """An engine beside the machine's own. It keeps its images from one start to the next.

    Args:
        name: A key of `RECIPES`.
        visible: Directories of the machine that its boxes may mount, at the same path, besides the state directory
            (`environment` names it), the one for temporary files and the repository's `images`.
        progress: Called with a line of text at each step that takes long.

    Raises:
        EngineError: No such engine, or this machine can't have one.
    """

    def __init__(
        self, name: str, *, visible: Sequence[Path] = (), progress: Callable[[str], None] = lambda line: None
    ) -> None:
        if name not in RECIPES:
            raise EngineError(f"no engine {name!r}; there are {', '.join(RECIPES)}")
        if reason := why_not():
            raise EngineError(reason)
        self._name = name
        self._recipe = RECIPES[name]
        self._home = cache_dir() / name
        self._state = self._home / "state"
        always = [self._state, Path(tempfile.gettempdir()), _IMAGES]
        self._visible = dict.fromkeys([*always, *(path.absolute() for path in visible)])
        self._progress = progress
        self._leader = self._home / "leader"
        self._cgroup = f"airlock-{name}"
        self._started: subprocess.Popen[bytes] | None = None

    @property
    def docker_host(self) -> str:
        """Its address, for ``DOCKER_HOST``."""
        return f"unix://{self._home}/run/{self._recipe.socket}"

    def environment(self) -> dict[str, str]:
        """What a process needs so that Airlock uses this engine, and keeps its files where the engine sees them."""
        return {"DOCKER_HOST": self.docker_host, "AIRLOCK_STATE": str(self._state)}

    def processes(self) -> list[int]:
        """All its processes and its boxes', the engine's own first."""
        marked = list(_marked(str(self._home)))
        return list(dict.fromkeys([*marked, *_with_helpers(marked), *_in_cgroup(self._cgroup)]))

    def up(self, *, tied: bool = True) -> None:
        """Start it; builds its root file system first where there is none.

        Args:
            tied: It ends when the thread that called this ends, however that happens.

        Raises:
            EngineError: It is up already, or does not come up.
        """
        if self.processes():
            raise EngineError(f"{self._name} is up; to end it: python -m tests.engines down {self._name}")
        self._clean()
        self._ensure_root()
        log = self._home / "log"
        for folder in (self._home / "run", self._home / "data", self._state):
            folder.mkdir(mode=0o700, exist_ok=True)
        (self._home / CONFIG[1:]).write_text(self._recipe.config)
        with log.open("wb") as output:
            # A session of its own, so that Ctrl-C reaches us alone and the engine is ended in order.
            self._started = subprocess.Popen(
                self._command(tied=tied),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={"PATH": _path(), _MARK: str(self._home)},
            )
        self._leader.write_text(str(self._started.pid))
        try:
            self._wait_until_up(self._started, log)
        except BaseException:
            self.down()
            raise

    def _command(self, *, tied: bool) -> list[str]:
        root = str(self._home / "root")
        binds = {self._home / "run": "/run", self._home / "data": self._recipe.data_dir}
        return [
            *(("setpriv", "--pdeathsig", "TERM") if tied else ()),
            *("unshare", "--mount", "--net", "sh", str(_ENTER)),
            *(root if self._recipe.packages else "/", root),
            *(f"{source}:{target}" for source, target in (binds | {path: path for path in self._visible}).items()),
            *("--", *self._as_user(), *(word.format(cgroup=f"/{self._cgroup}") for word in self._recipe.command)),
        ]

    def _as_user(self) -> list[str]:
        if self._recipe.user is None:
            return []
        script = self._home / "run" / _ROOTLESS.name
        shutil.copy(_ROOTLESS, script)  # the repository can't be seen from there
        return ["sh", f"/run/{script.name}", str(self._recipe.user), *map(str, self._visible), "--"]

    def _wait_until_up(self, started: subprocess.Popen[bytes], log: Path) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self.answers():
                return
            if started.poll() is not None:
                break
            time.sleep(0.1)
        last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
        raise EngineError(f"{self._name} did not start; the end of {log}:\n{last}")

    def answers(self) -> bool:
        """Whether it is up."""
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.connect(self.docker_host.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(100)
        return False

    def down(self, *, grace_s: float = STOP_S) -> None:
        """End it and remove what it left, but for its images. Does nothing where there is nothing.

        Args:
            grace_s: How long it may take to stop by itself; 0 kills it and its boxes at once, as a crash would.
        """
        if grace_s:
            self._ask_to_stop(grace_s)
        if left := self._kill():
            raise EngineError(f"{self._name} does not end; its processes are {left}")
        if self._started is not None:
            self._started.wait()
        self._clean()

    def _kill(self) -> list[int]:
        """Kill all its processes; returns those that don't end."""
        until = time.monotonic() + STOP_S
        quiet = 0
        while quiet < 2:  # one look can miss a process that is just about to become another program
            left = self.processes()
            if left and time.monotonic() > until:
                return left
            _signal(left, signal.SIGKILL)
            quiet = 0 if left else quiet + 1
            time.sleep(0.1)
        return []

    def _ask_to_stop(self, grace_s: float) -> None:
        """Wait for the engine's first process; it stops its boxes. Others of Podman's end by no signal but SIGKILL."""
        leader = int(self._leader.read_text()) if self._leader.exists() else 0
        until = time.monotonic() + grace_s
        _signal([leader] if leader in self.processes() else [], signal.SIGTERM)
        while leader in self.processes() and time.monotonic() < until:
            time.sleep(0.05)

    def restart(self, *, grace_s: float = STOP_S) -> None:
        """`down` and `up`; its boxes are gone, its images stay."""
        self.down(grace_s=grace_s)
        self.up()

    def _clean(self) -> None:
        """Remove the cgroups and files of an engine that has no process any more."""
        _remove_cgroup(self._cgroup)
        self._leader.unlink(missing_ok=True)
        for folder in ("run", "state"):
            shutil.rmtree(self._home / folder, ignore_errors=True)

    def _ensure_root(self) -> None:
        root = self._home / "root"
        cache_dir().mkdir(mode=0o755, parents=True, exist_ok=True)
        self._home.mkdir(mode=0o700, exist_ok=True)
        made = self._home / "packages"
        packages = " ".join(self._recipe.packages)
        if root.is_dir() and made.exists() and made.read_text() == packages:
            return
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(mode=0o755)
        if self._recipe.packages:
            self._progress(f"making Debian {SUITE} with {packages} in {root}: {self._recipe.cost}")
            command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(self._recipe.packages)}"]
            done = subprocess.run(
                [*command, SUITE, str(root)], stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            if done.returncode:
                raise EngineError(f"mmdebstrap failed:\n{(done.stdout + done.stderr)[-2000:]}")
        made.write_text(packages)

    def remove(self) -> None:
        """`down`, and remove its root file system and images too."""
        self.down()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> PrivateEngine:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def _marked(home: str) -> Iterator[int]:
    mark = f"{_MARK}={home}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)


def _with_helpers(marked: list[int]) -> Iterator[int]:
    """Those in the engine's network namespace, whose environment lost the mark, and all that these started."""
    own = _network(os.getpid())
    networks = {_network(process) for process in marked} - {own, None}
    parents = {int(process.name): _parent(process) for process in Path("/proc").glob("[0-9]*")}
    found = {process for process in parents if _network(process) in networks}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    yield from found


def _network(process: int) -> str | None:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process}/ns/net")
    return None


def _parent(process: Path) -> int:
    with contextlib.suppress(OSError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _cgroup_dirs(name: str) -> list[Path]:
    """The cgroup in each hierarchy of version 1, and in version 2's; with those below it, the deepest first."""
    tops = [*_CGROUPS.glob(f"*/{name}"), _CGROUPS / name]
    return [Path(folder) for top in tops for folder, _, _ in os.walk(top, topdown=False)]


def _in_cgroup(name: str) -> Iterator[int]:
    for folder in _cgroup_dirs(name):
        with contextlib.suppress(OSError):
            yield from map(int, (folder / "cgroup.procs").read_text().split())


def _remove_cgroup(name: str) -> None:
    for folder in _cgroup_dirs(name):
        with contextlib.suppress(OSError):
            folder.rmdir()
