"""Whether `orchestrator` and `sandbox` are Airlock's own.

Both names are common words, so another package, or a folder on PYTHONPATH, may stand in their place. `start.py` asks
this first: the alternative is an ImportError that explains nothing, or somebody else's code under our sandbox's name.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from orchestrator.errors import ConfigError

DISTRIBUTION = "rlm-airlock"
PACKAGES = ("orchestrator", "sandbox")


def check_installation() -> None:
    """Compare where the two packages are found, and what stands in them, with what Airlock installed.

    It finds accidents, not attackers: who can write into our folder can change this file, too.

    Raises:
        ConfigError: A package is not ours. The text names the intruder's path and what to type.
    """
    home = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        found = _folder_of(package)
        if found != home / package:
            raise ConfigError(
                f"The package `{package}` is not Airlock's: Python finds {found or 'none'}, not {home / package}. "
                "Take it off PYTHONPATH, or install Airlock into an environment of its own: "
                f"python3 -m venv airlock-env && airlock-env/bin/pip install {DISTRIBUTION}"
            )
    try:
        ours = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return  # a checkout on PYTHONPATH: both packages are from the same one
    for package in PACKAGES:
        _check_overwritten(ours, home, package)


def _folder_of(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    if spec.submodule_search_locations:  # a package, with or without an __init__.py
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None


def _check_overwritten(ours: Distribution, home: Path, package: str) -> None:
    """Two distributions may install the same package into one folder; the last one wins, file by file."""
    name = f"{package}/__init__.py"
    record = next((file for file in ours.files or () if file.as_posix() == name), None)
    if record is None or record.hash is None or Path(str(record.locate())).resolve() != home / name:
        return  # an editable installation records no files of ours
    digest = hashlib.new(record.hash.mode, (home / name).read_bytes()).digest()
    if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == record.hash.value:
        return
    others = [other for other in packages_distributions().get(package, []) if other != DISTRIBUTION]
    raise ConfigError(
        f"{home / name} is not the file that Airlock installed; "
        f"also installed under this name: {', '.join(sorted(set(others))) or 'nothing that pip knows'}. "
        "Install Airlock into an environment of its own: "
        f"python3 -m venv airlock-env && airlock-env/bin/pip install {DISTRIBUTION}"
    )
