"""A box a module, shared by its tests, and a fresh one for tests that break it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.kernel.local_box import LocalBox, echo


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _module_box() -> AsyncIterator[LocalBox]:
    async with await LocalBox().open() as box:
        assert isinstance(box, LocalBox)
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def box(_module_box: LocalBox) -> LocalBox:
    """The module's box with the standard answer. Tests share its variables, and its loss ends no other test."""
    if not _module_box.alive:
        await _module_box.restart()
    _module_box.handler = echo
    _module_box.prompts.clear()
    return _module_box


@pytest_asyncio.fixture(loop_scope="module")
async def fresh_box() -> AsyncIterator[LocalBox]:
    async with await LocalBox().open() as box:
        assert isinstance(box, LocalBox)
        yield box
