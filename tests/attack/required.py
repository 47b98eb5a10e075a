"""Which levels the engine has. ``REQUIRE=gvisor`` makes a missing one fail instead of being reported."""

from __future__ import annotations

import asyncio
import os
from functools import cache

import pytest

from sandbox.engine import Engine
from sandbox.errors import EngineUnavailable
from sandbox.runtimes import runtime_for
from sandbox.spec import Isolation
from tests.conftest import missing


@cache
def why_not(level: Isolation) -> str:
    """Why the engine can't give a level; "" where it can. Not to be asked inside an event loop."""
    return asyncio.run(_why_not(level))


async def _why_not(level: Isolation) -> str:
    engine = await Engine.connect()
    try:
        runtime_for(await engine.info(), level)
    except EngineUnavailable as error:
        return str(error)
    finally:
        await engine.aclose()
    return ""


def demand(level: Isolation) -> None:
    """Go on only where the engine has a level; fail without it where it is required or under CI, else skip."""
    if reason := why_not(level):
        if level in os.environ.get("REQUIRE", "").replace(",", " ").split():
            pytest.fail(f"REQUIRE={os.environ['REQUIRE']}: {reason}", pytrace=False)
        missing(reason)
