"""The image's name and build context, from copies of the tree that differ in one input."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from sandbox import image
from sandbox.build_dir import build_dir
from sandbox.errors import ImageError
from sandbox.spec import ImageName
from tests.conftest import REPOSITORY

KERNEL = REPOSITORY / "images" / "kernel"
NAMES: tuple[ImageName, ...] = get_args(ImageName)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of its own: `sandbox` and `images` side by side."""
    for folder in ("sandbox", "images"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def tag_of(tree: Path, name: ImageName = "kernel") -> str:
    code = f"from sandbox.image import image_tag; print(image_tag('x86_64', {name!r}))"
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_tag_is_the_same_wherever_the_inputs_lie(tree: Path) -> None:
    for name in NAMES:
        tag = image.image_tag("x86_64", name)
        assert re.fullmatch(rf"airlock-{name}:[0-9a-f]{{16}}", tag)
        assert tag_of(tree, name) == tag


def test_what_python_and_people_leave_beside_the_inputs_changes_nothing(tree: Path) -> None:
    (tree / "images" / "kernel" / "__pycache__").mkdir()
    (tree / "images" / "kernel" / "__pycache__" / "relay.cpython-313.pyc").write_bytes(b"x")
    (tree / "images" / "kernel" / "relay.py.orig").write_bytes(b"x")
    (tree / "images" / "README.md").write_bytes(b"x")
    assert tag_of(tree) == image.image_tag("x86_64")


@pytest.mark.parametrize(
    "file", ["kernel/Dockerfile", "kernel/requirements.lock", "kernel/relay.py", "kernel/repl.py", "base/make-base.sh"]
)
def test_each_input_of_the_kernel_changes_the_tag_of_both_images(tree: Path, file: str) -> None:
    with (tree / "images" / file).open("a") as script:
        script.write("\n# one line more\n")
    assert [tag_of(tree, name) == image.image_tag("x86_64", name) for name in NAMES] == [False, False]


@pytest.mark.parametrize("file", ["Dockerfile", "requirements.lock"])
def test_each_input_of_the_data_image_changes_its_tag_alone(tree: Path, file: str) -> None:
    with (tree / "images" / "data" / file).open("a") as script:
        script.write("\n# one line more\n")
    assert [tag_of(tree, name) == image.image_tag("x86_64", name) for name in NAMES] == [True, False]


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
        digests.append(hashlib.sha256(image._build_context("kernel", site).getvalue()).hexdigest())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("name", "packages"),
    [("kernel", {"ipykernel", "ipython", "pyzmq", "tornado", "traitlets"}), ("data", {"numpy", "pandas"})],
)
def test_every_wheel_of_an_image_is_pinned_with_a_hash(name: str, packages: set[str]) -> None:
    lock = (REPOSITORY / "images" / name / "requirements.lock").read_text()
    pins = re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert packages <= set(pins)
    assert len(pins) == len([line for line in lock.splitlines() if line and not line.startswith(" ")])


def test_the_data_image_replaces_no_package_of_the_kernel() -> None:
    pins = [
        {
            line.partition("==")[0]
            for line in (REPOSITORY / "images" / name / "requirements.lock").read_text().split("\n")
        }
        for name in NAMES
    ]
    assert {name for name in set.intersection(*pins) if name and not name.startswith(" ")} == set()


def test_the_tests_run_the_ipykernel_that_the_image_holds() -> None:
    development = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    (pin,) = [requirement for requirement in development if requirement.startswith("ipykernel")]
    locks = [KERNEL / "requirements.in", KERNEL / "requirements.lock", REPOSITORY / "tests" / "requirements.lock"]
    assert all(re.search(rf"^{re.escape(pin)}\b", lock.read_text(), re.MULTILINE) for lock in locks)


def test_no_program_that_lies_where_we_were_started_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user stands in the folder with the strangers' documents when the first question builds the image."""
    for name in ("pip", "logging", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("PYTHONPATH", ".")
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # the wheels are not needed here
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with build_dir() as folder, pytest.raises(ImageError, match="No matching distribution"):
        image._fetch_wheels("kernel", "x86_64", folder)
    assert not list(tmp_path.glob("*.ran"))


def test_what_pip_or_a_registry_says_is_escaped() -> None:
    assert image._escaped("two\nlines \x1b]0;title\x07 \u202e é") == "two\nlines \\x1b]0;title\\x07 \\u202e é"
