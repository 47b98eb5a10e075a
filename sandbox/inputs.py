"""Where the images' build inputs lie, and what names them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from sandbox.errors import ImageError
from sandbox.spec import ImageName

PYTHON_VERSION: Final = "3.13"
"""Of the box, not of the host."""


def images_dir() -> Path:
    """The folder of build inputs: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "_images", here.parent / "images"):
        if (folder / "kernel" / "Dockerfile").is_file():
            return folder
    raise ImageError(
        f"The image's inputs are missing: neither {here}/_images nor {here.parent}/images holds kernel/Dockerfile."
    )


def base_script() -> Path:
    """The script that makes a base of Debian's packages."""
    return images_dir() / "base" / "make-base.sh"


def inputs_of(name: ImageName) -> list[Path]:
    """The files that an image's own layers are made of; the wheels follow from the lock."""
    folder = images_dir() / name
    return [folder / "Dockerfile", folder / "requirements.lock", *sorted(folder.glob("*.py"))]


def hash_of(files: list[Path], architecture: str) -> str:
    """What names an image: its files, the architecture and the box's Python."""
    digest = hashlib.sha256(f"{architecture} python{PYTHON_VERSION}".encode())
    for file in files:
        content = file.read_bytes()
        digest.update(f"\0{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
