"""The zones of the design, held by reading the source: who imports whom, who decodes, how large a file may be.

Each rule is proven twice: the tree obeys it, and a copy of the tree with a planted violation does not.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ZONES = ("orchestrator", "sandbox", "images")
MAX_LINES = 350
TOP_LEVEL = {*ZONES, "tests", "docs", "pyproject.toml", "Makefile", "README.md", "LICENSE", "CHANGELOG.md"}
TOP_LEVEL |= {".ci", ".github", ".gitignore"}

OURS = {"orchestrator", "sandbox", "images"}
SDKS = {"openai", "anthropic"}
BOX_PROGRAMS = {"answers", "hangup", "relay", "kernel", "repl", "shell", "tools"} | {
    f"lazy_{name}" for name in ("file", "lines", "search", "text")
}
FORBIDDEN = {
    "orchestrator": {"docker", "jupyter_client", "images"} | BOX_PROGRAMS,
    "sandbox": {"orchestrator", "images"} | SDKS | BOX_PROGRAMS,
    "images": {"docker"} | OURS | SDKS,
}
ONLY_IN = {"openai": "orchestrator/providers/openai.py", "anthropic": "orchestrator/providers/anthropic.py"}

DECODER = "sandbox/protocol.py"
DECODING_MODULES = {"msgspec", "struct", "pickle", "marshal", "shelve"}
FRAMES = "sandbox/frames.py"
"""Cuts the stream by lengths, and reads nothing else."""
ENCODES = {"sandbox/encoding.py": {"msgspec", "struct"}}  # what goes to a box; calls no decoder
SHAPES = {"sandbox/shapes.py": {"msgspec"}}  # what the decoder reads; calls none itself
DECODING_CALLS = {"loads", "load", "raw_decode", "unpack", "unpack_from", "deserialize", "literal_eval", "eval", "exec"}
READS_OUR_OWN_FILES = {"sandbox/engine.py": {"loads"}}  # the seccomp profile, which comes with the package
EXEC_CALLS = {"exec_create", "exec_start", "exec_run"}  # `docker exec` is an escape route and never used


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules that a file imports, at any depth, also by `import_module("...")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: write the full name"
            yield str(node.module)
        elif isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"}:
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def called_name(call: ast.Call) -> str:
    """``b`` of ``a.b(...)`` and of ``b(...)``."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def violations(root: Path) -> list[str]:
    """One line for each broken rule in a tree of this project's shape."""
    found = []
    for zone in ZONES:
        for file in sorted((root / zone).rglob("*.py")):
            name = file.relative_to(root).as_posix()
            found += [f"{name}: {problem}" for problem in problems(zone, name, file.read_text(encoding="utf-8"))]
    return found


@cache
def problems(zone: str, name: str, source: str) -> tuple[str, ...]:
    """What is wrong with one file. The copies of a tree differ in one."""
    return tuple(_problems(zone, name, ast.parse(source), len(source.splitlines())))


def _problems(zone: str, name: str, tree: ast.AST, lines: int) -> Iterator[str]:
    if name.endswith("/utils.py"):
        yield "a module is named for what it does"
    if lines > MAX_LINES:
        yield f"{lines} lines, more than {MAX_LINES}"
    packages = {module.partition(".")[0] for module in imports(tree)}
    for package in sorted(packages & FORBIDDEN[zone]):
        yield f"{zone} imports {package}"
    for package in sorted(packages & set(ONLY_IN)):
        if zone == "orchestrator" and name != ONLY_IN[package]:
            yield f"{package} is imported in {ONLY_IN[package]} only"
    if zone == "sandbox":
        yield from sandbox_problems(name, tree, packages)


def sandbox_problems(name: str, tree: ast.AST, packages: set[str]) -> Iterator[str]:
    """Only the protocol decodes, and nothing runs a program in a running box."""
    calls = {called_name(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for call in sorted(calls & EXEC_CALLS):
        yield f"{call}: docker exec is never used"
    if name == DECODER:
        return
    cuts = {"struct", "unpack_from"} if name == FRAMES else set()
    for package in sorted(packages & DECODING_MODULES - (ENCODES | SHAPES).get(name, set()) - cuts):
        yield f"imports {package}, but {DECODER} alone decodes"
    for call in sorted(calls & DECODING_CALLS - READS_OUR_OWN_FILES.get(name, set()) - cuts):
        yield f"calls {call}(), but {DECODER} alone decodes"


def test_the_tree_obeys() -> None:
    assert violations(REPOSITORY) == []


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("orchestrator/new.py", "import docker", "orchestrator imports docker"),
        ("orchestrator/new.py", "def f():\n    from docker.errors import APIError", "orchestrator imports docker"),
        ("orchestrator/new.py", "import importlib\nimportlib.import_module('docker')", "orchestrator imports docker"),
        ("orchestrator/new.py", "from jupyter_client import session", "orchestrator imports jupyter_client"),
        ("orchestrator/new.py", "import relay", "orchestrator imports relay"),
        ("orchestrator/new.py", "from images.kernel import repl", "orchestrator imports images"),
        ("orchestrator/loop.py", "import openai", "openai is imported in orchestrator/providers/openai.py only"),
        (
            "orchestrator/cli/new.py",
            "import anthropic",
            "anthropic is imported in orchestrator/providers/anthropic.py only",
        ),
        ("orchestrator/utils.py", "", "a module is named for what it does"),
        ("orchestrator/new.py", "\n" * (MAX_LINES + 1), f"{MAX_LINES + 1} lines, more than {MAX_LINES}"),
        ("sandbox/new.py", "from orchestrator import errors", "sandbox imports orchestrator"),
        ("sandbox/new.py", "import anthropic", "sandbox imports anthropic"),
        ("sandbox/new.py", "import openai.types", "sandbox imports openai"),
        ("sandbox/new.py", "import shell", "sandbox imports shell"),
        ("sandbox/link.py", "import msgspec", "imports msgspec, but sandbox/protocol.py alone decodes"),
        (
            "sandbox/encoding.py",
            "import struct\nstruct.unpack('>I', b'')",
            "calls unpack(), but sandbox/protocol.py alone decodes",
        ),
        ("sandbox/new.py", "import pickle", "imports pickle, but sandbox/protocol.py alone decodes"),
        ("sandbox/new.py", "import json\njson.loads('1')", "calls loads(), but sandbox/protocol.py alone decodes"),
        ("sandbox/new.py", "exec('1')", "calls exec(), but sandbox/protocol.py alone decodes"),
        ("sandbox/protocol.py", "api.exec_create('id', 'ls')", "exec_create: docker exec is never used"),
        ("images/kernel/new.py", "import sandbox", "images imports sandbox"),
        ("images/kernel/new.py", "from orchestrator.gate import Gate", "images imports orchestrator"),
        ("images/kernel/new.py", "import openai", "images imports openai"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, source: str, problem: str) -> None:
    for zone in ZONES:
        shutil.copytree(REPOSITORY / zone, tmp_path / zone, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / file).write_text(source, encoding="utf-8")
    assert f"{file}: {problem}" in violations(tmp_path)


def test_nothing_grows_at_the_top_level() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no git checkout: " + listed.stderr.strip()[:100])
    assert {line.partition("/")[0] for line in listed.stdout.splitlines()} <= TOP_LEVEL


def test_importing_the_packages_loads_no_engine_and_no_vendor_sdk() -> None:
    heavy = {"docker", "openai", "anthropic", "jupyter_client", "zmq", "rich", "typer", "tornado", "requests"}
    code = f"import sys, orchestrator, sandbox; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
