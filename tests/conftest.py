"""What every test may ask for: the shared data, a Docker engine with the box's image, and how often to repeat.

What is missing skips on a laptop, visibly, and fails under CI: there a skipped proof would look like a passed one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests import told, workers
from tests.attack import report as attack_report
from tests.attack.wire import figures
from tests.fuzz import counted
from tests.injection import tally

REPOSITORY = Path(__file__).resolve().parents[1]
DOCKER_FOLDERS = {REPOSITORY / "tests" / "container", REPOSITORY / "tests" / "attack"}
TURNS = pytest.StashKey[workers.Turns]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything in the folders that need an engine is marked so; elsewhere a test marks itself."""
    for item in items:
        if DOCKER_FOLDERS & set(item.path.parents):
            item.add_marker(pytest.mark.docker)
    if TURNS in config.stash:
        workers.order(items)


# ------------------------------------------------------------------------------- workers, where there are any (-n auto)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return workers.number()


def pytest_configure(config: pytest.Config) -> None:
    if worker := getattr(config, "workerinput", None):
        config.stash[TURNS] = workers.Turns(worker["testrunuid"])
    elif getattr(config.option, "testrunuid", "") is None:
        config.option.testrunuid = uuid.uuid4().hex  # the workers' own, which the one that starts them is not told


def pytest_unconfigure(config: pytest.Config) -> None:
    if TURNS in config.stash:
        config.stash[TURNS].close()
    elif session := getattr(config.option, "testrunuid", None):
        workers.lock_path(session).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the timeout: who waits for its turn is not late
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if turns := item.config.stash.get(TURNS, None):
        turns.take(item)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test has told; and name one that failed at once, since a CI that stops waiting shows no summary."""
    if report.when == "teardown":
        told.keep(report.user_properties)
    if report.failed and hasattr(report, "node"):  # it comes from a worker: without any, -v does this
        print(f"\nFAILED {report.nodeid} ({report.when})", flush=True)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's own state nor another worker's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRLOCK_STATE", str(tmp_path_factory.mktemp("state")))
        yield


# -------------------------------------------------------------------------------------------- what tests have found out


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> None:
    item.user_properties += told.taken()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print it, also under -q."""
    for line in filter(None, (*figures.lines(), tally.line(), counted.line())):
        terminalreporter.write_line(line)
    if lines := attack_report.report():
        terminalreporter.section("restrictions, one line for each runtime and attack")
        for line in lines:
            terminalreporter.write_line(line)


# ------------------------------------------------------------------------------------------------------------- fixtures


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
