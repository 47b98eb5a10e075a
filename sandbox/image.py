"""The box's images: found by the hash of their inputs, built where one is missing.

A build needs no Docker command, no network inside and no BuildKit: we make the build context here (deterministic, so
that the engine's layer cache works) and fetch the Python wheels on the host, each checked against its hash.
`python -m sandbox.image` is what `make image` runs.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import docker
import docker.errors
import requests

from sandbox.base_image import DEBIAN_NAMES, NoBaseError, Progress, ensure_base, find_image
from sandbox.build_dir import ERROR_LINES, build_dir, run_tool
from sandbox.engine import connect
from sandbox.errors import EngineUnavailable, ImageError
from sandbox.inputs import PYTHON_VERSION, base_script, hash_of, images_dir, inputs_of
from sandbox.owned_dir import OwnedDir
from sandbox.spec import ImageName

REPOSITORIES: Final[dict[ImageName, str]] = {"kernel": "airlock-kernel", "data": "airlock-data"}
ENGINE_TIMEOUT_S: Final = 300  # the longest silence of the engine: it unpacks a base, or compiles bytecode
EXIT_FAILED: Final = 1
EXIT_NO_BASE: Final = 3  # `make image` installs mmdebstrap on this one, where it may, and tries again

_WHEELS: Final[dict[ImageName, str]] = {
    "kernel": "the box's Python packages: 5 MB, hash-locked",
    "data": "numpy and pandas: 28 MB, hash-locked",
}
_FILE_TIME: Final = 1_600_000_000  # any fixed second after 1980, before which zip files can't date


def image_tag(architecture: str, name: ImageName = "kernel") -> str:
    """Name of the image that today's inputs give on an engine of `architecture` (``x86_64`` or ``aarch64``)."""
    inputs = [*inputs_of("kernel"), base_script()]
    if name != "kernel":
        inputs += inputs_of(name)  # it stands on the kernel's image and changes with it
    return f"{REPOSITORIES[name]}:{hash_of(inputs, architecture)}"


def ensure_image(progress: Progress, client: docker.APIClient | None = None, name: ImageName = "kernel") -> str:
    """Return the ID (``sha256:...``) of one of the box's images, and build it first where the engine has none.

    A build of ``kernel`` takes under a minute and downloads some 5 MB of wheels, and a base of about 45 MB where the
    engine has none of that either. ``data`` is built on it, in half a minute, with another 28 MB. Images of other
    inputs stay; the progress names them.

    Args:
        progress: Called with one line of text at each step; not called at all where the image exists.
        client: A `docker.APIClient` of the caller's, which stays open; None for the engine of the environment.
        name: Which one.

    Raises:
        EngineUnavailable: No engine answers.
        ImageError: The image can't be built. The text says what to type.
    """
    own_client = client is None
    client = client or connect()
    try:
        return _ensure(client, architecture_of(client), name, progress)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise ImageError(f"The engine failed at the box's image: {error}") from error
    finally:
        if own_client:
            client.close()


def _ensure(client: docker.APIClient, architecture: str, name: ImageName, progress: Progress) -> str:
    return find_image(client, image_tag(architecture, name)) or _build(client, architecture, name, progress)


def architecture_of(client: docker.APIClient) -> str:
    """The engine's, by the kernel's name: Podman says it by Debian's."""
    said = str(client.info()["Architecture"])
    return {debian: kernel for kernel, debian in DEBIAN_NAMES.items()}.get(said, said)


# --------------------------------------------------------------------------------------------------------------- build


def _build(client: docker.APIClient, architecture: str, name: ImageName, progress: Progress) -> str:
    if architecture not in DEBIAN_NAMES:
        raise ImageError(
            f"The engine's architecture is {architecture}; the box's image exists for {', '.join(DEBIAN_NAMES)}."
        )
    tag = image_tag(architecture, name)
    _name_older_images(client, tag, progress)
    client.timeout = max(client.timeout, ENGINE_TIMEOUT_S)
    with build_dir() as folder:
        if name == "kernel":
            base = ensure_base(client, architecture, folder, progress)
        else:
            _ensure(client, architecture, "kernel", progress)
            base = image_tag(architecture)
        site = folder.path / "site"
        progress(f"fetching {_WHEELS[name]}")
        _fetch_wheels(name, architecture, folder)
        progress(f"building {tag} on {base}")
        context = _build_context(name, site)
    lines = client.build(
        fileobj=context,
        custom_context=True,
        tag=tag,
        buildargs={"BASE": base},
        network_mode="none",
        use_config_proxy=False,
        rm=True,
        forcerm=True,
        decode=True,
    )
    _follow_build(lines, progress)
    image_id = find_image(client, tag)
    if image_id is None:
        raise ImageError(f"The engine reported a finished build, but holds no image {tag}.")
    progress(f"built {tag}")
    return image_id


def _name_older_images(client: docker.APIClient, tag: str, progress: Progress) -> None:
    repository = tag.partition(":")[0]
    tags = [old for image in client.images(repository) for old in image["RepoTags"] or () if old != tag]
    if tags:
        progress(f"older images stay, until you type: airlock clean ({' '.join(sorted(tags))})")


def _follow_build(lines: Iterator[dict[str, Any]], progress: Progress) -> None:
    said: list[str] = []
    for line in lines:
        text = str(line.get("stream") or line.get("error") or "").strip()
        said += [text] if text else []
        if text.startswith("Step "):
            progress(f"  {text[:100]}")
        if "error" in line:
            raise ImageError("The build failed:\n" + "\n".join(said[-ERROR_LINES:]))


def _fetch_wheels(name: ImageName, architecture: str, folder: OwnedDir) -> None:
    """Unpack the locked wheels for the box's Python, not for ours, in `site`. pip checks the hashes."""
    site = folder.path / "site"
    command = [
        *(sys.executable, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile", "--target", str(site)),
        *("--implementation", "cp", "--python-version", PYTHON_VERSION),
        *("--platform", f"manylinux_2_28_{architecture}", "--platform", f"manylinux2014_{architecture}"),
        *("--requirement", str(images_dir() / name / "requirements.lock")),
    ]
    run_tool(command, f"fetching {_WHEELS[name].partition(':')[0]}", folder, TMPDIR=str(folder.path))
    for unused in ("bin", "share"):  # launchers that name our interpreter, and desktop files
        shutil.rmtree(site / unused, ignore_errors=True)
    if name != "kernel":
        for tests in [folder for folder in site.rglob("tests") if folder.is_dir()]:  # a quarter of their size
            shutil.rmtree(tests)


def _build_context(name: ImageName, site: Path) -> io.BytesIO:
    """The tar that the engine builds from; the same inputs give the same bytes."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for file in inputs_of(name):
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


# ------------------------------------------------------------------------------------------------------------- command


def main() -> int:
    """Make sure that an image exists; progress and errors to stderr, the image's ID to stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.image", description="Build the box's image where it is missing."
    )
    parser.add_argument("name", nargs="?", choices=get_args(ImageName), default="kernel")
    name: ImageName = parser.parse_args().name

    def show(line: str) -> None:
        sys.stderr.write(f"airlock: {_escaped(line)}\n")
        sys.stderr.flush()

    try:
        sys.stdout.write(ensure_image(show, name=name) + "\n")
    except (EngineUnavailable, ImageError) as error:
        show(str(error))
        return EXIT_NO_BASE if isinstance(error, NoBaseError) else EXIT_FAILED
    return 0


def _escaped(text: str) -> str:
    """What pip or a registry says may hold what a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    raise SystemExit(main())
