"""Reports that honest code may try: what the host would not take is an error in the cell, never a violation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.kernel.local_box import SETTINGS, LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reporting_box() -> AsyncIterator[LocalBox]:
    async with await LocalBox(replace(SETTINGS, functions=("report", "declare_labels"))).open() as box:
        assert isinstance(box, LocalBox)
        yield box


TAKEN = {
    "a large number": ("report(n=2**100)", {"n": 2**100}),
    "many values": ("report(**{f'a{i}': 1 for i in range(400)})", {f"a{i}": 1 for i in range(400)}),
    "the longest texts": ("report(**{'\\x01' * 64: ['\\x02' * 64] * 200})", {"\x01" * 64: ["\x02" * 64] * 200}),
    "keys of all kinds": ("report(n={1: 2, None: 3})", {"n": {"1": 2, "null": 3}}),
    "no number": ("report(n=float('nan'), m=float('inf'))", {"n": "nan", "m": "inf"}),
}
REFUSED = {
    "a name too long": "report(**{'x' * 65: 1})",
    "too many values": "report(**{f'a{i}': 1 for i in range(401)})",
    "too many items": "report(**{f'a{i}': [1] * 100 for i in range(5)})",
    "a text too long": "report(n='x' * 65)",
    "a number too long": "report(n=10**65)",
    "a lone surrogate": "report(n='\\ud800')",
    "an object": "report(n=object())",
}


@pytest.mark.parametrize(("code", "values"), TAKEN.values(), ids=TAKEN.keys())
async def test_what_may_be_reported_arrives(reporting_box: LocalBox, code: str, values: dict[str, object]) -> None:
    result = await reporting_box.execute(code)
    assert result.status == "ok", result
    assert result.reports == (values,)


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED.keys())
async def test_what_may_not_is_an_error_in_the_cell(reporting_box: LocalBox, code: str) -> None:
    result = await reporting_box.execute(code)
    assert result.status == "error", result
    assert result.reports == ()
    assert reporting_box.alive
