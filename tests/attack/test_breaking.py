"""Cells that break their own kernel: each costs at most the box, its end has a name, and a fresh one works."""

from __future__ import annotations

import pytest

from sandbox import sandbox as sandbox_module
from sandbox.errors import ValueUnavailable
from sandbox.spec import CellLimits
from tests.attack.outcomes import SHORT, Ends, works
from tests.boxes import Box

pytestmark = pytest.mark.asyncio(loop_scope="module")

DYING = {
    "SIGKILL to itself": ("import os\nos.kill(os.getpid(), 9)", "the kernel died by signal 9"),
    "an abort": ("import os\nos.abort()", "the kernel died by signal 6"),
    "a bad pointer": ("import ctypes\nctypes.string_at(0)", "the kernel died by signal 11"),
    "an exit": ("import os\nos._exit(3)", "the kernel exited"),
}


@pytest.mark.parametrize(("code", "why"), DYING.values(), ids=DYING.keys())
async def test_what_kills_the_kernel_is_named(box: Box, code: str, why: str) -> None:
    result = await box.execute(code, CellLimits(wall_s=20))
    assert Ends(status="lost", lost_because=why).fits(result), result
    await works(box, lost=True)


async def test_closing_every_file_loses_at_most_the_box(box: Box) -> None:
    result = await box.execute("import os\nos.closerange(0, 1024)", SHORT)
    assert result.status == "lost", result
    await works(box, lost=True)


async def test_no_signal_reaches_pid_1_and_none_goes_to_all(box: Box) -> None:
    code = (
        "import os, signal\nsent = []\n"
        "for pid in (1, -1):\n"
        "    for number in sorted(signal.valid_signals()):\n"
        "        try: os.kill(pid, number); sent.append((pid, number))\n"
        "        except PermissionError: pass\n"
        "sent"
    )
    assert await box.shown(code) == "[]"
    await works(box, lost=False)


async def test_input_has_nobody_to_ask(box: Box) -> None:
    assert Ends(status="error", error="StdinNotImplementedError").fits(await box.execute("input('key? ')"))


@pytest.mark.parametrize("form", ["json_value", "answer_text", "has_value"])
async def test_a_value_that_never_ends_costs_at_most_the_box(
    box: Box, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "VALUE_TIMEOUT_S", 1.0)
    await box.execute(
        "class Endless(dict):\n"
        "    def items(self):\n        while True: pass\n"
        "    def __str__(self):\n        while True: pass\n"
        "    __repr__ = __reduce__ = __len__ = __iter__ = __bool__ = __str__\n"
        "x = Endless(a=1)\n"
        "class Names(dict):\n    def __contains__(self, name):\n        while True: pass\n"
        + ("get_ipython().user_ns = Names(get_ipython().user_ns)" if form == "has_value" else "")
    )
    with pytest.raises(ValueUnavailable) as caught:
        await getattr(box, form)("x")
    assert not caught.value.undefined
    await works(box, lost=True)


BREAKING = {
    "no stdout": "import sys\ndel sys.stdout, sys.stderr",
    "no builtins": "import builtins\nfor n in list(vars(builtins)): delattr(builtins, n)",
    "other builtins": "import builtins\nfor n in list(vars(builtins)): setattr(builtins, n, None)",
    "no modules": "import sys\nsys.modules.clear()",
    "no namespace": "globals().clear()",
    "no shell": "get_ipython().kernel.shell = None",
    "no scaffold": "get_ipython().kernel.scaffold = None",
    "no iopub": "get_ipython().kernel.iopub_thread.stop()",
    "another meta path": "import sys\nsys.meta_path.clear(); sys.path.clear(); sys.path_hooks.clear()",
    "a trace": "import sys, threading\nsys.settrace(lambda *a: 1/0); threading.settrace(lambda *a: 1/0)",
    "no recursion": "import sys\nsys.setrecursionlimit(60)",
    "calls closed": "get_ipython().kernel.calls._out.close()",
    "answers closed": "get_ipython().kernel.calls._in.close()",
    "no calls": "get_ipython().kernel.calls = get_ipython().kernel.host = None",
    "another comm": "from ipykernel.comm import Comm\nComm(target_name='mine', data={'x': 1})",
}


@pytest.mark.parametrize("code", BREAKING.values(), ids=BREAKING.keys())
async def test_breaking_the_kernel_costs_at_most_the_box(box: Box, code: str) -> None:
    """Whatever it does to itself: the cell and the one after it end, and a fresh box works."""
    limits = CellLimits(wall_s=0.5, wait_s=0.5)
    first = await box.execute(code, limits)
    if first.status != "lost":
        await box.execute("print(llm_query('x'))", limits)
    await box.restart()
    assert (await box.execute("print(llm_query('x'))")).stdout.text == "<x>\n"
