"""The built image, looked at from inside, and builds that fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from sandbox import image
from sandbox.base_image import pinned_base
from sandbox.engine import connect
from tests.conftest import REPOSITORY


@pytest.fixture
def engine() -> Iterator[docker.APIClient]:
    client = connect()
    yield client
    client.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of its own, whose images may be changed."""
    for folder in ("sandbox", "images"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def build(tree: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m sandbox.image` on that tree, with the engine and pip settings of this process."""
    environment = os.environ | {"PYTHONPATH": str(tree)} | ({"PATH": path} if path else {})
    command = [sys.executable, "-P", "-m", "sandbox.image"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def inside(engine: docker.APIClient, image_id: str, *command: str) -> str:
    """Output of a command in a throw-away container of the image; a failing command fails the test."""
    config = engine.create_host_config(network_mode="none", read_only=True)
    container = engine.create_container(image_id, [*command[1:]], entrypoint=[command[0]], host_config=config)
    try:
        engine.start(container)
        status = engine.wait(container)["StatusCode"]
        said = str(engine.logs(container).decode())
        assert status == 0, said
        return said
    finally:
        engine.remove_container(container, force=True)


def test_a_second_call_builds_nothing_and_says_nothing(image_id: str) -> None:
    said: list[str] = []
    assert image.ensure_image(said.append) == image_id
    assert image_id.startswith("sha256:")
    assert said == []


def test_it_declares_a_plain_user_one_program_and_no_doors(engine: docker.APIClient, image_id: str) -> None:
    config = engine.inspect_image(image_id)["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python3", "/opt/airlock/relay.py"]
    assert [config.get(door) for door in ("ExposedPorts", "Volumes", "Healthcheck", "OnBuild")] == [None] * 4


def test_no_file_gives_another_identity_and_none_is_writable(engine: docker.APIClient, image_id: str) -> None:
    find = "find / -xdev ( -perm /6000 -o -type f -writable -o -type d -writable ! -perm -1000 )"
    found = inside(engine, image_id, "sh", "-c", find.replace("(", r"\(").replace(")", r"\)") + " 2>/dev/null || true")
    assert found == ""


def test_no_installer_and_no_cache_is_left(engine: docker.APIClient, image_id: str) -> None:
    look = (
        "import os, importlib.util as u; print(u.find_spec('pip'), u.find_spec('ensurepip'), os.listdir('/var/cache'))"
    )
    assert inside(engine, image_id, "python3", "-c", look).strip() == "None None []"


def test_the_relay_imports_from_bytecode_alone(engine: docker.APIClient, image_id: str) -> None:
    code = (
        "import json, os, sys; sys.path.insert(0, '/opt/airlock'); import relay, kernel;"
        "files = [m.__spec__ for m in sys.modules.values() if getattr(m, '__spec__', None) and m.__spec__.cached];"
        "uncompiled = [spec.origin for spec in files if not os.path.exists(spec.cached)];"
        "print(json.dumps([sys.version_info[:2], uncompiled, len(files)]))"
    )
    version, uncompiled, files = json.loads(inside(engine, image_id, "python3", "-c", code))
    assert version == [3, 13]
    assert uncompiled == []
    assert files > 200


def test_what_the_lock_leaves_out_is_not_missed(engine: docker.APIClient, image_id: str) -> None:
    code = (
        "import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin');"
        "from IPython.core.interactiveshell import InteractiveShell as Shell; shell = Shell.instance();"
        "shell.run_cell('x = !echo piped').raise_error(); assert list(shell.user_ns['x']) == ['piped'];"
        "shell.run_cell('!echo shown'); shell.run_cell('1/0'); shell.run_cell('%timeit -n1 -r1 1')"
    )
    said = inside(engine, image_id, "sh", "-c", f'IPYTHONDIR=/dev/shm python3 -c "{code}" 2>&1')
    assert "shown" in said
    assert "division by zero" in said
    assert "ModuleNotFoundError" not in said


def test_a_changed_input_gives_an_image_of_its_own(engine: docker.APIClient, tree: Path, image_id: str) -> None:
    (tree / "images" / "kernel" / "marker.py").write_text(f"TREE = {str(tree)!r}\n")
    done = build(tree)
    try:
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() not in {image_id, ""}
        assert f"older images stay, until you type: airlock clean ({image.REPOSITORIES['kernel']}:" in done.stderr
        assert str(tree) in inside(engine, done.stdout.strip(), "cat", "/opt/airlock/marker.py")
    finally:
        engine.remove_image(done.stdout.strip(), force=True)


def test_a_failing_build_shows_its_last_lines(tree: Path) -> None:
    (tree / "images" / "kernel" / "relay.py").write_text("raise SystemError('planted')\n")
    done = build(tree)
    assert done.returncode == image.EXIT_FAILED
    assert "The build failed" in done.stderr
    assert "SystemError: planted" in done.stderr


def test_wheels_of_another_hash_are_refused(tree: Path) -> None:
    lock = tree / "images" / "kernel" / "requirements.lock"
    lock.write_text("comm==0.2.3 --hash=sha256:" + "0" * 64 + "\n")
    done = build(tree)
    assert done.returncode == image.EXIT_FAILED
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_without_registry_and_mmdebstrap_it_says_what_to_type(tree: Path, tmp_path: Path) -> None:
    dockerfile = tree / "images" / "kernel" / "Dockerfile"
    base = pinned_base()
    dockerfile.write_text(dockerfile.read_text().replace(base, base[:-64] + "0" * 64))
    (tree / "images" / "base" / "make-base.sh").write_text("# no base was ever made by this\n")
    done = build(tree, path=str(tmp_path))
    assert done.returncode == image.EXIT_NO_BASE
    assert "Type: sudo apt-get install mmdebstrap" in done.stderr
