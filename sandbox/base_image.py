"""What the box's image stands on: a base that the engine holds, else pulled, else made of Debian's packages."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable
from typing import Final

import docker
import docker.errors
import requests

from sandbox.build_dir import run_tool
from sandbox.errors import ImageError
from sandbox.inputs import base_script, hash_of, images_dir
from sandbox.owned_dir import OwnedDir

Progress = Callable[[str], None]

BASE_REPOSITORY: Final = "airlock-base"
REGISTRY_TIMEOUT_S: Final = 60  # silence of a registry after which it counts as out of reach
DEBIAN_NAMES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class NoBaseError(ImageError):
    """There is no base image, no registry to fetch it from and no mmdebstrap to make one."""


def find_image(client: docker.APIClient, name: str) -> str | None:
    """The ID of an image that the engine holds; None where it holds none of that name."""
    try:
        return str(client.inspect_image(name)["Id"])
    except docker.errors.ImageNotFound:
        return None


def ensure_base(client: docker.APIClient, architecture: str, folder: OwnedDir, progress: Progress) -> str:
    """A name of a base that the engine holds: what is there, else pulled, else made of Debian's packages.

    Args:
        client: The engine.
        architecture: The engine's, by the kernel's name.
        folder: For files on the way; the caller removes it.
        progress: Is called with one line of text at each step.

    Raises:
        NoBaseError: There is no way to get one; the text says what to type.
        ImageError: A step failed.
    """
    pinned = pinned_base()
    made = made_base(architecture)
    for name in (pinned, made):
        if find_image(client, name):
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
    _make_base(client, architecture, made, folder, progress)
    return made


def made_base(architecture: str) -> str:
    """The base that `make-base.sh` makes today."""
    return f"{BASE_REPOSITORY}:{hash_of([base_script()], architecture)}"


def pinned_base() -> str:
    """The base that the Dockerfile names, with its digest."""
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
    return None if find_image(client, name) else "the registry sent no such image"


def _make_base(client: docker.APIClient, architecture: str, name: str, folder: OwnedDir, progress: Progress) -> None:
    if architecture != platform.machine():
        raise ImageError(f"A base for {architecture} can't be made on a {platform.machine()} machine.")
    progress("making a base of Debian's packages: about 43 MB to download, 20 s")
    tar = folder.path / "base.tar"
    command = ["sh", str(base_script()), DEBIAN_NAMES[architecture], str(tar)]
    run_tool(command, "making the base with mmdebstrap", folder)
    repository, _, tag = name.partition(":")
    client.import_image_from_file(str(tar), repository=repository, tag=tag)
    if not find_image(client, name):
        raise ImageError(f"The engine did not take the base {name}.")
