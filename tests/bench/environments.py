"""Python environments that the bench makes for itself, in ``.venv-bench``: what is in them is in nothing that we test.

They come from the package index, each once and only where asked for; what is there is used without it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

from tests.bench.own_process import REPOSITORY, Failed, say

FOLDER = REPOSITORY / ".venv-bench"
PLOTTER = FOLDER / "plot"


def python_of(environment: Path) -> str:
    """Its interpreter, there or not."""
    return str(environment / "bin" / "python")


def make_environment(folder: Path, *requirements: str) -> None:
    """Make a Python environment where there is none.

    Raises:
        Failed: The index can't be reached or does not have it. Then there is still none.
    """
    if Path(python_of(folder)).exists():
        return
    say(f"installing {' '.join(requirements)} into {folder}")
    try:
        venv.create(folder, clear=True, with_pip=False)
        pip_install(*requirements, python=python_of(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def pip_install(*arguments: str, python: str | None = None) -> None:
    """Have our pip install something for another Python.

    Raises:
        Failed: It can't; with pip's last words.
    """
    into = ["--python", python] if python else []
    command = [sys.executable, "-m", "pip", *into, "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"pip: {done.stderr.strip()[-300:]}")


def make_plotter() -> None:
    """The environment that draws, with what the extra ``bench`` names; where it can't be had there is no plot."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    try:
        make_environment(PLOTTER, *project["optional-dependencies"]["bench"])
    except Failed as failure:
        say(f"no plot: {failure}")
