"""The box's image: found by the hash of its inputs, built where it is missing.

A build needs no Docker command, no network inside and no BuildKit: we make the build context here (deterministic, so
that the engine's layer cache works) and fetch the Python wheels on the host, each checked against its hash.
`python -m sandbox.image` is what `make image` runs.
"""

from __future__ import annotations

import hashlib
import io
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import requests

from sandbox.engine import connect
from sandbox.errors import EngineUnavailable, ImageError
from sandbox.inputs import images_dir

Progress = Callable[[str], None]

PYTHON_VERSION: Final = "3.13"
REPOSITORY: Final = "airlock-kernel"
BASE_REPOSITORY: Final = "airlock-base"
ENGINE_TIMEOUT_S: Final = 300  # the longest silence of the engine: it unpacks a base, or compiles bytecode
REGISTRY_TIMEOUT_S: Final = 60  # silence of a registry after which it counts as out of reach
EXIT_FAILED: Final = 1
EXIT_NO_BASE: Final = 3  # `make image` installs mmdebstrap on this one, where it may, and tries again

_FILE_TIME: Final = 1_600_000_000  # any fixed second after 1980, before which zip files can't date
_DEBIAN_NAMES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ERROR_LINES: Final = 15


class NoBaseError(ImageError):
    """There is no base image, no registry to fetch it from and no mmdebstrap to make one."""


def image_tag(architecture: str) -> str:
    """Name of the image that today's inputs give on an engine of `architecture` (``x86_64`` or ``aarch64``)."""
    return f"{REPOSITORY}:{_hash_of([*_kernel_inputs(), _base_script()], architecture)}"


def ensure_image(progress: Progress, client: docker.APIClient | None = None) -> str:
    """Return the ID (``sha256:...``) of the box's image, and build it first where the engine has none.

    A build takes under a minute and downloads some 5 MB of wheels, and a base of about 45 MB where the engine has none
    of that either. Images of other inputs stay; the progress names them.

    Args:
        progress: Called with one line of text at each step; not called at all where the image exists.
        client: A `docker.APIClient` of the caller's, which stays open; None for the engine of the environment.

    Raises:
        EngineUnavailable: No engine answers.
        ImageError: The image can't be built. The text says what to type.
    """
    own_client = client is None
    client = client or connect()
    try:
        tag = image_tag(_architecture(client))
        return _find(client, tag) or _build(client, tag, progress)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise ImageError(f"The engine failed at the box's image: {error}") from error
    finally:
        if own_client:
            client.close()


# ---------------------------------------------------------------------------------------------------- inputs and names


def _kernel_inputs() -> list[Path]:
    kernel = images_dir() / "kernel"
    return [kernel / "Dockerfile", kernel / "requirements.lock", *sorted(kernel.glob("*.py"))]


def _base_script() -> Path:
    return images_dir() / "base" / "make-base.sh"


def _hash_of(files: list[Path], architecture: str) -> str:
    digest = hashlib.sha256(f"{architecture} python{PYTHON_VERSION}".encode())
    for file in files:
        content = file.read_bytes()
        digest.update(f"\0{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _architecture(client: docker.APIClient) -> str:
    """The engine's, by the kernel's name: Podman says it by Debian's."""
    said = str(client.info()["Architecture"])
    return {debian: kernel for kernel, debian in _DEBIAN_NAMES.items()}.get(said, said)


def _find(client: docker.APIClient, name: str) -> str | None:
    try:
        return str(client.inspect_image(name)["Id"])
    except docker.errors.ImageNotFound:
        return None


# --------------------------------------------------------------------------------------------------------------- build


def _build(client: docker.APIClient, tag: str, progress: Progress) -> str:
    architecture = _architecture(client)
    if architecture not in _DEBIAN_NAMES:
        raise ImageError(
            f"The engine's architecture is {architecture}; the box's image exists for {', '.join(_DEBIAN_NAMES)}."
        )
    _name_older_images(client, tag, progress)
    client.timeout = max(client.timeout, ENGINE_TIMEOUT_S)
    with tempfile.TemporaryDirectory(prefix="airlock-image-") as folder:
        base = _ensure_base(client, architecture, Path(folder), progress)
        site = Path(folder) / "site"
        progress("fetching the box's Python packages: 5 MB, hash-locked")
        _fetch_wheels(architecture, site)
        progress(f"building {tag} on {base}")
        context = _build_context(site)
    lines = client.build(
        fileobj=context,
        custom_context=True,
        tag=tag,
        buildargs={"BASE": base},
        network_mode="none",
        rm=True,
        forcerm=True,
        decode=True,
    )
    _follow_build(lines, progress)
    image_id = _find(client, tag)
    if image_id is None:
        raise ImageError(f"The engine reported a finished build, but holds no image {tag}.")
    progress(f"built {tag}")
    return image_id


def _name_older_images(client: docker.APIClient, tag: str, progress: Progress) -> None:
    tags = [old for image in client.images(REPOSITORY) for old in image["RepoTags"] or () if old != tag]
    if tags:
        progress(f"older images stay, until you type: docker rmi {' '.join(sorted(tags))}")


def _follow_build(lines: Iterator[dict[str, Any]], progress: Progress) -> None:
    said: list[str] = []
    for line in lines:
        text = str(line.get("stream") or line.get("error") or "").strip()
        said += [text] if text else []
        if text.startswith("Step "):
            progress(f"  {text[:100]}")
        if "error" in line:
            raise ImageError("The build failed:\n" + "\n".join(said[-_ERROR_LINES:]))


def _fetch_wheels(architecture: str, site: Path) -> None:
    """Unpack the locked wheels for the box's Python, not for ours. pip checks the hashes."""
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "--target", str(site)),
        *("--implementation", "cp", "--python-version", PYTHON_VERSION),
        *("--platform", f"manylinux_2_28_{architecture}", "--platform", f"manylinux2014_{architecture}"),
        *("--requirement", str(images_dir() / "kernel" / "requirements.lock")),
    ]
    _run(command, "fetching the box's Python packages")
    for unused in ("bin", "share"):  # launchers that name our interpreter, and desktop files
        shutil.rmtree(site / unused, ignore_errors=True)


def _build_context(site: Path) -> io.BytesIO:
    """The tar that the engine builds from; the same inputs give the same bytes."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for file in _kernel_inputs():
            _add(tar, file, file.name)
        for file in sorted(site.rglob("*")):
            if file.is_file():
                _add(tar, file, f"site/{file.relative_to(site)}")
    context.seek(0)
    return context


def _add(tar: tarfile.TarFile, file: Path, name: str) -> None:
    content = file.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644  # none is a program, and the box's user must read them whatever our umask is
    entry.mtime = _FILE_TIME
    tar.addfile(entry, io.BytesIO(content))


# ---------------------------------------------------------------------------------------------------------------- base


def _ensure_base(client: docker.APIClient, architecture: str, folder: Path, progress: Progress) -> str:
    """A name of a base that the engine holds: what is there, else pulled, else made of Debian's packages."""
    pinned = _pinned_base()
    made = f"{BASE_REPOSITORY}:{_hash_of([_base_script()], architecture)}"
    for name in (pinned, made):
        if _find(client, name):
            return name
    reason = _pull(client, pinned, progress)
    if reason is None:
        return pinned
    progress(f"no registry can be reached ({reason})")
    if not shutil.which("mmdebstrap"):
        raise NoBaseError(
            "The engine has no base image, no registry can be reached, and mmdebstrap is missing. "
            f"Type: sudo apt-get install mmdebstrap    (or, where there is a registry: docker pull {pinned})"
        )
    _make_base(client, architecture, made, folder / "base.tar", progress)
    return made


def _pinned_base() -> str:
    found = re.search(r"^ARG BASE=(\S+)$", (images_dir() / "kernel" / "Dockerfile").read_text(), re.MULTILINE)
    if found is None:
        raise ImageError("images/kernel/Dockerfile has no line `ARG BASE=...`.")
    return found[1]


def _pull(client: docker.APIClient, name: str, progress: Progress) -> str | None:
    """Pull `name`; the reason why not, or None."""
    repository, _, digest = name.partition("@")
    progress(f"pulling the base {repository}: about 45 MB")
    silence_s, client.timeout = client.timeout, REGISTRY_TIMEOUT_S
    try:
        for line in client.pull(repository, tag=digest or None, stream=True, decode=True):
            if "error" in line:
                return str(line["error"])
            if line.get("status") in {"Pull complete", "Download complete"}:
                progress(f"  {line.get('id', '')} {line['status'].lower()}")
    except (docker.errors.DockerException, requests.RequestException) as error:
        return str(getattr(error, "explanation", None) or error)
    finally:
        client.timeout = silence_s
    return None if _find(client, name) else "the registry sent no such image"


def _make_base(client: docker.APIClient, architecture: str, name: str, tar: Path, progress: Progress) -> None:
    if architecture != platform.machine():
        raise ImageError(f"A base for {architecture} can't be made on a {platform.machine()} machine.")
    progress("making a base of Debian's packages: about 43 MB to download, 20 s")
    _run(["sh", str(_base_script()), _DEBIAN_NAMES[architecture], str(tar)], "making the base with mmdebstrap")
    repository, _, tag = name.partition(":")
    client.import_image_from_file(str(tar), repository=repository, tag=tag)
    if not _find(client, name):
        raise ImageError(f"The engine did not take the base {name}.")


def _run(command: list[str], doing: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-_ERROR_LINES:])
        raise ImageError(f"{doing[0].upper()}{doing[1:]} failed:\n{said}")


# ------------------------------------------------------------------------------------------------------------- command


def main() -> int:
    """Make sure that the image exists; progress and errors to stderr, the image's ID to stdout."""

    def show(line: str) -> None:
        sys.stderr.write(f"airlock: {line}\n")
        sys.stderr.flush()

    try:
        sys.stdout.write(ensure_image(show) + "\n")
    except (EngineUnavailable, ImageError) as error:
        show(str(error))
        return EXIT_NO_BASE if isinstance(error, NoBaseError) else EXIT_FAILED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
