"""The image with numpy and pandas: both work behind the same lock, and a run asks for it by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import pytest_asyncio

from sandbox.host import Host
from sandbox.spec import Isolation, SandboxSpec
from tests.boxes import Box
from tests.container.data_cells import CELLS, CONTEXT
from tests.container.test_valid_python import failing, gvisor_box
from tests.runs import code, script
from tests.runs import run as run_rlm

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPEC = SandboxSpec(image="data")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def data_host(box_host: Host) -> Host:
    """The session's host, for boxes of the other image."""
    return dataclasses.replace(box_host, image=await box_host.image_for(SPEC, print))


async def test_it_stands_on_the_kernels_image_and_is_built_once(box_host: Host, data_host: Host) -> None:
    said: list[str] = []
    assert await box_host.image_for(SPEC, said.append) == data_host.image
    assert said == []
    assert await box_host.image_for(SandboxSpec(), said.append) == box_host.image
    client: Any = box_host.engine._api
    kernel, data = (client.inspect_image(name) for name in (box_host.image, data_host.image))
    assert data["RootFS"]["Layers"][: len(kernel["RootFS"]["Layers"])] == kernel["RootFS"]["Layers"]
    assert [data["Config"][key] for key in ("User", "Entrypoint", "WorkingDir")] == [
        kernel["Config"][key] for key in ("User", "Entrypoint", "WorkingDir")
    ]


async def test_an_id_is_taken_as_it_is(box_host: Host) -> None:
    assert await box_host.image_for(SandboxSpec(image=box_host.image), print) == box_host.image


@pytest.mark.parametrize("level", ["container", "gvisor"])
async def test_numpy_and_pandas_work_in_a_locked_box(data_host: Host, level: Isolation) -> None:
    opening = gvisor_box(data_host) if level == "gvisor" else Box.open(data_host, SPEC)
    async with await opening as box:
        assert isinstance(box, Box)
        assert box.audit is not None
        assert (box.audit.isolation, box.audit.image, box.audit.missing) == (level, data_host.image, ())
        await box.load("context", box.store.put(CONTEXT))
        assert await failing(box, CELLS) == {}
        assert "999" in await box.shown("df")


async def test_a_run_uses_it_and_a_table_is_an_answer() -> None:
    cell = "import io, pandas as pd\ndf = pd.read_csv(io.StringIO(context)).groupby('city')[['people']].sum()"
    root = script(code(cell), "FINAL_VAR(df)")
    result = await run_rlm(root, context=CONTEXT, sandbox=SPEC)
    assert result.answer is not None
    assert result.answer.splitlines()[:2] == ["city,people", f"c0,{sum(range(0, 30_000, 7))}"]
    assert "numpy and pandas are installed" in root.requests[0].messages[0].content
