"""The wheel as a user gets it: built, looked into, installed into a fresh environment, and run from there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

IN_THE_WHEEL = {
    "orchestrator/py.typed",
    "orchestrator/run_schema.json",
    "orchestrator/trace_schema.json",
    "orchestrator/cli/demo-requirements.lock",
    "sandbox/py.typed",
    "sandbox/_images/base/make-base.sh",
    "sandbox/_images/kernel/Dockerfile",
    "sandbox/_images/kernel/requirements.lock",
    "sandbox/_images/kernel/relay.py",
    "sandbox/_images/kernel/kernel.py",
    "sandbox/_images/kernel/repl.py",
    "sandbox/_images/kernel/answers.py",
}


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run away from the repository, so that nothing of it is importable by accident."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, cwd="/", env=kept | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    built = run([*pip, str(REPOSITORY)])
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel. Its dependencies are those of this one, which a .pth file makes visible."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, symlinks=True)
    install = run(
        [sys.executable, "-m", "pip", "--python", str(folder), "install", "--no-deps", "--no-index", str(wheel)]
    )
    assert install.returncode == 0, install.stderr
    site = site_of(folder)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def site_of(environment: Path) -> Path:
    """Its site-packages."""
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def check(environment: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command's own check of its installation."""
    code = "from orchestrator.cli.installation import check_installation; check_installation()"
    return run([str(environment / "bin" / "python"), "-c", code], **variables)


def test_the_wheel_holds_the_packages_and_the_images_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= IN_THE_WHEEL
    assert any(name.endswith("-info/licenses/LICENSE") for name in names)
    packages = {name.partition("/")[0] for name in names if "-info/" not in name and ".data/scripts/" not in name}
    assert packages == {"orchestrator", "sandbox"}
    assert [name for name in names if name.endswith(".pyc") or "__pycache__" in name] == []
    sources = {f"sandbox/_images/{file.relative_to(REPOSITORY / 'images').as_posix()}" for file in image_sources()}
    assert {name for name in names if name.startswith("sandbox/_images/")} == sources


def image_sources() -> list[Path]:
    """All files of images/ but what Python leaves behind."""
    return [file for file in (REPOSITORY / "images").rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def test_the_installed_packages_import_from_there_and_find_their_images(installed: Path) -> None:
    code = (
        "import orchestrator, sandbox; from sandbox.image import images_dir;"
        "print(orchestrator.__file__, sandbox.__file__, images_dir(), sep='\\n')"
    )
    done = run([str(installed / "bin" / "python"), "-W", "error", "-c", code])
    assert done.returncode == 0, done.stderr
    site = site_of(installed)
    assert done.stdout.split() == [
        str(site / "orchestrator" / "__init__.py"),
        str(site / "sandbox" / "__init__.py"),
        str(site / "sandbox" / "_images"),
    ]


def test_the_installed_command_answers(installed: Path) -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    said = run([str(installed / "bin" / "airlock"), "--version"])
    assert said.returncode == 0, said.stderr
    assert version in said.stdout
    helped = run([str(installed / "bin" / "airlock"), "--help"])
    assert helped.returncode == 0, helped.stderr
    assert "ask" in helped.stdout


def test_an_honest_installation_passes_the_check(installed: Path) -> None:
    done = check(installed)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["orchestrator", "sandbox"])
@pytest.mark.parametrize("form", ["{}/__init__.py", "{}.py"])
def test_another_package_of_the_name_is_named(installed: Path, tmp_path: Path, package: str, form: str) -> None:
    intruder = tmp_path / form.format(package)
    intruder.parent.mkdir(exist_ok=True)
    intruder.write_text("")
    done = run([str(installed / "bin" / "airlock"), "--version"], PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert f"The package `{package}` is not Airlock's: Python finds {tmp_path}/{package}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_the_name_that_is_no_package_does_no_harm(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    assert check(installed, PYTHONPATH=str(tmp_path)).returncode == 0


def test_a_distribution_that_overwrote_our_files_is_named(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--no-deps", "--no-index", str(wheel)]
    assert run(pip).returncode == 0
    site = site_of(environment)
    (site / "sandbox" / "__init__.py").write_text("# the intruder's\n")
    metadata = site / "intruder-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("sandbox/__init__.py,,\n")
    done = check(environment)
    assert done.returncode == 1
    assert f"{site}/sandbox/__init__.py is not the file that Airlock installed" in done.stderr
    assert "intruder" in done.stderr.splitlines()[-1]
