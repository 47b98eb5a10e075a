"""Every test that takes `vendor` runs for both."""

from __future__ import annotations

import pytest

from tests.contract.vendors import ANTHROPIC, OPENAI, Vendor


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=lambda vendor: vendor.name)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    """OpenAI, then Anthropic."""
    found = request.param
    assert isinstance(found, Vendor)
    return found
