"""What a kernel does not import before a cell needs it, and that each cell gets the real thing nevertheless."""

from __future__ import annotations

import pytest

from tests.kernel.local_box import LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNUSED = [
    "ssl", "hashlib", "hmac", "tempfile", "sqlite3", "pdb", "pydoc", "multiprocessing", "importlib.metadata",
    "dateutil", "jedi", "matplotlib", "debugpy", "psutil", "pygments.lexers", "stack_data", "prompt_toolkit",
    "IPython.core.completer", "IPython.core.debugger", "IPython.core.oinspect", "IPython.display", "ipykernel.connect",
    "jupyter_client.client", "jupyter_client.manager", "jupyter_core", "platformdirs", "packaging",
    "traitlets.config.application", "tornado.log", "zmq.asyncio",
]  # fmt: skip


async def test_nothing_is_imported_that_no_box_needs(fresh_box: LocalBox) -> None:
    assert await fresh_box.value(f"sorted(set({UNUSED}) & set(__import__('sys').modules))") == []


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("import ssl; ssl.create_default_context().check_hostname", "True"),
        ("import hashlib; hashlib.new('sha256', b'x').hexdigest()[:8]", "'2d711642'"),
        ("import hmac; hmac.new(b'k', b'm', 'sha256').hexdigest()[:8]", "'b60090e3'"),
        ("import tempfile, os; os.path.exists(tempfile.mkdtemp())", "True"),
        ("from dateutil.parser import isoparse, parse; parse('1 May 2020') == isoparse('2020-05-01')", "True"),
        ("from IPython.display import HTML, display; HTML('<b>').data", "'<b>'"),
        ("import IPython; IPython.get_ipython() is get_ipython()", "True"),
        ("import ipykernel; isinstance(ipykernel.__version__, str)", "True"),
        ("from ipykernel import get_connection_info; get_connection_info.__module__", "'ipykernel.connect'"),
        ("import jupyter_client; jupyter_client.KernelManager.__name__", "'KernelManager'"),
        ("from jupyter_client import *; isinstance(BlockingKernelClient, type)", "True"),
        ("from traitlets.config import Application; Application.__module__", "'traitlets.config.application'"),
        ("from packaging.version import Version; Version('1.10') > Version('1.9')", "True"),
        ("import tornado.log; tornado.log.LogFormatter.__name__", "'LogFormatter'"),
        ("import zmq.asyncio; issubclass(zmq.asyncio.Socket, zmq.Socket)", "True"),
        ("from jupyter_core.paths import jupyter_runtime_dir; bool(jupyter_runtime_dir())", "True"),
        ("'join' in get_ipython().Completer.all_completions('str.jo')[0]", "True"),
    ],
)
async def test_a_cell_gets_the_real_module(box: LocalBox, code: str, printed: str) -> None:
    result = await box.execute(code)
    assert result.status == "ok", result.error
    assert result.result.text == printed


async def test_a_cell_finds_what_stock_kernels_have_imported_of_a_package(fresh_box: LocalBox) -> None:
    code = "import IPython; [IPython.display.HTML('<b>').data, isinstance(3, IPython.display.HTML)]"
    result = await fresh_box.execute(code)
    assert result.result.text == "['<b>', False]", result.error


async def test_a_question_mark_shows_an_object(box: LocalBox) -> None:
    result = await box.execute("def half(x):\n    'Divides by two.'\nhalf?")
    assert result.status == "ok", result.error


async def test_garbage_of_cells_is_collected(box: LocalBox) -> None:
    await box.execute(
        "import weakref\nclass Node: pass\nnode = Node(); node.self = node; seen = weakref.ref(node); del node"
    )
    assert (
        await box.value("[__import__('gc').isenabled(), __import__('gc').collect() > 0, seen() is None]") == [True] * 3
    )


async def test_cells_of_one_text_have_one_file_name_and_others_another(box: LocalBox) -> None:
    names = [await box.printed(f"import sys; print(sys._getframe().f_code.co_filename)  # {n}") for n in (1, 2, 1)]
    assert names[0] == names[2] != names[1]
