"""What every test may ask for: the shared data, a Docker engine with the box's image, and how often to repeat.

What is missing skips on a laptop, visibly, and fails under CI: there a skipped proof would look like a passed one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKER_FOLDERS = {REPOSITORY / "tests" / "container", REPOSITORY / "tests" / "attack"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in the folders that need an engine is marked so; elsewhere a test marks itself."""
    for item in items:
        if DOCKER_FOLDERS & set(item.path.parents):
            item.add_marker(pytest.mark.docker)


def missing(what: str) -> NoReturn:
    """Skip, or fail under CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"under CI this is no reason to skip: {what}", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the test data: ``data`` in ``$AIRLOCK_SHARED``, or in ``shared`` beside the repository."""
    data = Path(os.environ.get("AIRLOCK_SHARED") or REPOSITORY.parent / "shared") / "data"
    if not data.is_dir():
        missing(f"no test data at {data}; AIRLOCK_SHARED may name its parent folder")
    return data


@pytest.fixture(scope="session")
def image_id() -> str:
    """ID of the box's image in the engine of the environment, built if need be."""
    from sandbox.errors import EngineUnavailable
    from sandbox.image import ensure_image

    try:
        return ensure_image(print)
    except EngineUnavailable as error:
        missing(str(error))


@pytest.fixture(autouse=True)
def _engine_for_marked_tests(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("docker"):
        request.getfixturevalue("image_id")


@pytest.fixture(scope="session")
def repeats() -> Callable[[int], int]:
    """How often to run what counts `full` times in `make test-long`: a tenth in all other runs, at least once."""
    return lambda full: full if os.environ.get("AIRLOCK_LONG") else max(1, full // 10)
