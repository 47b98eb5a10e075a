"""Where the image's build inputs lie."""

from __future__ import annotations

from pathlib import Path

from sandbox.errors import ImageError


def images_dir() -> Path:
    """The folder of build inputs: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "_images", here.parent / "images"):
        if (folder / "kernel" / "Dockerfile").is_file():
            return folder
    raise ImageError(
        f"The image's inputs are missing: neither {here}/_images nor {here.parent}/images holds kernel/Dockerfile."
    )
