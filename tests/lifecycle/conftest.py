"""Desks whose processes end with the test, also where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boxes import box_host
from tests.lifecycle.desk import Desk

__all__ = ["box_host"]


@pytest.fixture
def new_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Makes a `Desk` of a name, with an environment."""
    desks: list[Desk] = []

    def make(name: str, **environment: str) -> Desk:
        desks.append(Desk(tmp_path / name, **environment))
        return desks[-1]

    yield make
    for desk in desks:
        desk.close()


@pytest.fixture
def desk(new_desk: Callable[..., Desk]) -> Desk:
    """One desk."""
    return new_desk("desk")
