"""The image's name and build context, from copies of the tree that differ in one input."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sandbox import image
from tests.conftest import REPOSITORY

KERNEL = REPOSITORY / "images" / "kernel"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of its own: `sandbox` and `images` side by side."""
    for folder in ("sandbox", "images"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def tag_of(tree: Path, architecture: str = "x86_64") -> str:
    code = f"from sandbox.image import image_tag; print(image_tag({architecture!r}))"
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_tag_is_the_same_wherever_the_inputs_lie(tree: Path) -> None:
    tag = image.image_tag("x86_64")
    assert re.fullmatch(r"airlock-kernel:[0-9a-f]{16}", tag)
    assert tag_of(tree) == tag


def test_what_python_and_people_leave_beside_the_inputs_changes_nothing(tree: Path) -> None:
    (tree / "images" / "kernel" / "__pycache__").mkdir()
    (tree / "images" / "kernel" / "__pycache__" / "relay.cpython-313.pyc").write_bytes(b"x")
    (tree / "images" / "kernel" / "relay.py.orig").write_bytes(b"x")
    (tree / "images" / "README.md").write_bytes(b"x")
    assert tag_of(tree) == image.image_tag("x86_64")


@pytest.mark.parametrize(
    "file", ["kernel/Dockerfile", "kernel/requirements.lock", "kernel/relay.py", "kernel/repl.py", "base/make-base.sh"]
)
def test_each_input_changes_the_tag(tree: Path, file: str) -> None:
    with (tree / "images" / file).open("a") as script:
        script.write("\n# one line more\n")
    assert tag_of(tree) != image.image_tag("x86_64")


def test_a_new_program_and_the_architecture_change_the_tag(tree: Path) -> None:
    assert image.image_tag("aarch64") != image.image_tag("x86_64")
    (tree / "images" / "kernel" / "new.py").write_text("")
    assert tag_of(tree) != image.image_tag("x86_64")


def test_missing_inputs_are_an_error_that_names_both_places(tree: Path) -> None:
    shutil.rmtree(tree / "images")
    code = "from sandbox.image import images_dir; images_dir()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False
    )
    assert (
        f"ImageError: The image's inputs are missing: neither {tree}/sandbox/_images nor {tree}/images" in done.stderr
    )


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name, mode in (("one", 0o600), ("two", 0o755)):
        site = tmp_path / name
        (site / "package").mkdir(parents=True)
        for file in ("package/b.py", "package/a.py", "c.py"):
            (site / file).write_text(file)
            (site / file).chmod(mode)
        digests.append(hashlib.sha256(image._build_context(site).getvalue()).hexdigest())
    assert digests[0] == digests[1]


def test_every_wheel_of_the_image_is_pinned_with_a_hash() -> None:
    lock = (KERNEL / "requirements.lock").read_text()
    pins = re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert {"ipykernel", "ipython", "pyzmq", "tornado", "traitlets"} <= set(pins)
    assert len(pins) == len([line for line in lock.splitlines() if line and not line.startswith(" ")])


def test_the_tests_run_the_ipykernel_that_the_image_holds() -> None:
    development = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    (pin,) = [requirement for requirement in development if requirement.startswith("ipykernel")]
    locks = [KERNEL / "requirements.in", KERNEL / "requirements.lock", REPOSITORY / "tests" / "requirements.lock"]
    assert all(re.search(rf"^{re.escape(pin)}\b", lock.read_text(), re.MULTILINE) for lock in locks)
