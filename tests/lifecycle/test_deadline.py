"""The run's time also bounds the opening of its box, which may wait for the engine or build an image."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import RLM, Limits, ScriptedProvider
from sandbox.engine import Engine
from tests.runs import boxes_left

pytestmark = pytest.mark.docker


async def test_an_engine_that_takes_too_long_ends_the_run_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Engine.start

    async def never(engine: Engine, container: str) -> None:
        await real(engine, container)
        await asyncio.Event().wait()

    monkeypatch.setattr(Engine, "start", never)
    root = ScriptedProvider(["FINAL(x)"])
    result = await RLM(root, limits=Limits(max_wall_s=2)).arun("?", "text")
    assert (result.answer, result.stop_reason) == (None, "time_limit")
    assert root.requests == []
    assert boxes_left() == []
