"""A box of each level for a module's tests, which comes back when it is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from sandbox.host import Host
from sandbox.runtimes import GVISOR
from sandbox.spec import Isolation
from tests.attack.attack import LEVELS
from tests.boxes import SMALL, Box, echo
from tests.conftest import missing


async def _open(host: Host, level: Isolation) -> Box:
    if level == "gvisor" and GVISOR not in (await host.engine.info())["Runtimes"]:
        missing("the engine has no gVisor")
    return await Box.open(host, replace(SMALL, isolation=level))


async def _ready(box: Box) -> Box:
    box.answer = echo
    if not box.alive:
        await box.restart()
    return box


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _gvisor_box(box_host: Host) -> AsyncIterator[Box]:
    async with await _open(box_host, "gvisor") as box:
        assert isinstance(box, Box)
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def gvisor_box(_gvisor_box: Box) -> Box:
    """The module's box under gVisor; a test that loses it leaves a fresh one to the next."""
    return await _ready(_gvisor_box)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Isolation:
    """Each level in turn."""
    given: Isolation = request.param
    return given


@pytest.fixture
def level_box(level: Isolation, request: pytest.FixtureRequest) -> Box:
    """The module's box of that level."""
    box: Box = request.getfixturevalue("box" if level == "container" else "gvisor_box")
    return box
