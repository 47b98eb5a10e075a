"""On what something was measured: machine, kernel, date, and the versions of all that took part."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sandbox.engine import Engine
from sandbox.errors import EngineUnavailable, ImageError
from tests.bench.own_process import REPOSITORY, interruptible

PACKAGES = ("rlm-airlock", "docker", "msgspec", "ipykernel", "jupyter_client", "pyzmq", "tornado")


def machine() -> dict[str, Any]:
    """Of this machine, now. The load says whether it had anything else to do."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
        "kernel": platform.release(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


async def versions(engine: Engine | None) -> dict[str, str]:
    """Of our packages and of the engine with its parts."""
    found = {"Python": platform.python_version(), "commit": _commit()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if engine is not None:
        for part in (await engine.versions()).get("Components") or ():
            found[str(part["Name"])] = str(part["Version"])
        found["runsc"] = _first_line("runsc", "--version")
    return {name: version for name, version in found.items() if version}


def program(main: Callable[[], object]) -> int:
    """Run a main program that measures in this process; Ctrl-C and a missing engine end it in a line.

    Returns:
        Its exit status.
    """

    def run() -> int:
        with engine_needed():
            main()
        return 0

    return interruptible(run)


@contextlib.contextmanager
def engine_needed() -> Iterator[None]:
    """End the program in one line where no engine answers or there is no image."""
    try:
        yield
    except (EngineUnavailable, ImageError) as error:
        raise SystemExit(f"error: {error}") from None


async def engine_versions() -> dict[str, str]:
    """`versions` with the engine of the environment."""
    engine = await Engine.connect()
    try:
        return await versions(engine)
    finally:
        await engine.aclose()


def _commit() -> str:
    dirty = "+" if _first_line("git", "status", "--porcelain", "--untracked-files=no") else ""
    return _first_line("git", "rev-parse", "--short", "HEAD") + dirty


def _first_line(*command: str) -> str:
    """What a program says first; "" where it is not there."""
    try:
        said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.splitlines()[0].strip() if said.strip() else ""


def machine_lines(findings: Mapping[str, Any]) -> list[str]:
    """The same as Markdown."""
    on, parts = findings["machine"], findings["versions"]
    return [
        f"- {on['date']}, {on['cpu']}, {on['cores']} cores, {on['memory_bytes'] / (1 << 30):.0f} GiB,",
        f"  {on['system']} {on['kernel']}; load at the start {on['load_at_start']}",
        "- " + ", ".join(f"{name} {version}" for name, version in parts.items()),
    ]
