"""Cells: what they print, return, raise and keep."""

from __future__ import annotations

import re

import pytest

from tests.kernel.local_box import OUTPUT_CHARS, LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_cell_prints_and_shows_its_last_value(box: LocalBox) -> None:
    result = await box.execute("import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
    assert result.status == "ok"
    assert (result.stdout.text, result.stdout.true_chars) == ("out\n", 4)
    assert (result.stderr.text, result.stderr.true_chars) == ("err\n", 4)
    assert (result.result.text, result.result.true_chars) == ("42", 2)
    assert result.error is None
    assert result.answer is None


async def test_a_semicolon_or_none_hides_the_last_value(box: LocalBox) -> None:
    assert (await box.execute("6 * 7;")).result.text == ""
    assert (await box.execute("None")).result.text == ""
    assert (await box.execute("!echo 'x\n5  # ; ends no statement here")).result.text == "5"


async def test_variables_and_imports_stay(box: LocalBox) -> None:
    await box.execute("import math\nkept = [1, 2]\ndef double(x): return 2 * x")
    assert (await box.execute("kept.append(double(math.floor(1.5))); kept")).result.text == "[1, 2, 2]"


async def test_an_error_is_data_and_shows_the_cell_alone(box: LocalBox) -> None:
    result = await box.execute("def f(x):\n    return 1 / x\nprint('before')\nf(0)")
    assert result.status == "error"
    assert result.stdout.text == "before\n"
    assert result.error
    assert (result.error.name, result.error.message) == ("ZeroDivisionError", "division by zero")
    assert re.findall(r'File "(.*?)", line (\d+), in (\S+)', result.error.traceback) == [
        ("<cell>", "4", "<module>"),
        ("<cell>", "2", "f"),
    ]
    assert "return 1 / x" in result.error.traceback


async def test_an_error_inside_a_library_shows_the_library_but_not_what_runs_cells(box: LocalBox) -> None:
    result = await box.execute("import json\njson.loads('{')")
    assert result.error
    files = re.findall(r'File "(.*?)"', result.error.traceback)
    assert files[0] == "<cell>"
    assert files[-1].endswith("json/decoder.py")
    assert "IPython" not in result.error.traceback


async def test_a_recursion_without_end_is_an_error_with_a_short_traceback(box: LocalBox) -> None:
    result = await box.execute("def f(): f()\nf()")
    assert result.error
    assert result.error.name == "RecursionError"
    assert len(result.error.traceback) < 5000
    assert (await box.execute("1")).result.text == "1"


async def test_a_syntax_error_names_its_line(box: LocalBox) -> None:
    result = await box.execute("x = 1\nif x\n  pass")
    assert result.status == "error"
    assert result.error
    assert result.error.name == "SyntaxError"
    assert "line 2" in result.error.message
    assert "if x" in result.error.traceback


async def test_an_empty_cell_is_fine(box: LocalBox) -> None:
    assert [(await box.execute(code)).status for code in ("", "  \n", "# nothing")] == ["ok"] * 3


async def test_top_level_await_and_threads_under_gather(box: LocalBox) -> None:
    code = (
        "import asyncio\n"
        "async def one(n):\n    await asyncio.sleep(0)\n    return n\n"
        "print(await one(1), await asyncio.gather(*(asyncio.to_thread(pow, 2, n) for n in range(4))))"
    )
    assert await box.printed(code) == "1 [1, 2, 4, 8]\n"


async def test_a_task_of_one_cell_is_awaited_in_the_next(box: LocalBox) -> None:
    await box.execute("import asyncio\nasync def late(): return 'done'\ntask = asyncio.create_task(late())")
    assert await box.printed("print(await task)") == "done\n"


async def test_display_is_plain_text(box: LocalBox) -> None:
    code = (
        "class Rich:\n"
        "    def _repr_html_(self): return '<b>html</b>'\n"
        "    def _repr_png_(self): return b'png'\n"
        "    def __repr__(self): return 'plain'\n"
        "display(Rich(), {'a': 1})\nRich()"
    )
    result = await box.execute(code)
    assert result.stdout.text == "plain\n{'a': 1}\n"
    assert result.result.text == "plain"


@pytest.mark.parametrize("code", ["exit()", "quit()", "exit", "get_ipython().ask_exit()"])
async def test_exit_is_an_error_and_loses_nothing(box: LocalBox, code: str) -> None:
    await box.execute("kept = 5")
    result = await box.execute(code)
    assert result.error
    assert result.error.name == "RuntimeError"
    assert "FINAL" in result.error.message
    assert (await box.execute("kept")).result.text == "5"


async def test_sys_exit_is_an_error_and_loses_nothing(box: LocalBox) -> None:
    await box.execute("kept = 6")
    result = await box.execute("import sys\nsys.exit(3)")
    assert result.status == "error"
    assert result.error
    assert (result.error.name, result.error.message) == ("SystemExit", "3")
    assert (await box.execute("kept")).result.text == "6"


@pytest.mark.parametrize("call", ["input()", "input('name? ')", "__import__('getpass').getpass()"])
async def test_input_is_a_typed_error(box: LocalBox, call: str) -> None:
    result = await box.execute(call)
    assert result.error
    assert result.error.name == "StdinNotImplementedError"


@pytest.mark.parametrize(
    "code",
    [
        "!echo from a program",
        "import os; os.system('echo from a program');",
        "import subprocess; subprocess.run(['echo', 'from a program']);",
        "import subprocess; print(subprocess.check_output(['echo', 'from a program'], text=True), end='')",
        "%%bash\necho from a program",
    ],
)
async def test_output_of_programs_arrives(box: LocalBox, code: str) -> None:
    assert await box.printed(code) == "from a program\n"


async def test_stderr_of_programs_arrives(box: LocalBox) -> None:
    result = await box.execute("import subprocess; subprocess.run('echo bad >&2', shell=True);")
    assert result.stderr.text == "bad\n"


async def test_a_forked_child_prints(box: LocalBox) -> None:
    code = (
        "import multiprocessing as m, warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
        "child = m.get_context('fork').Process(target=print, args=('from a child',))\n"
        "child.start(); child.join(); print(child.exitcode)"
    )
    assert sorted((await box.printed(code)).splitlines()) == ["0", "from a child"]


async def test_a_pool_of_processes_works(box: LocalBox) -> None:
    code = (
        "import multiprocessing as m, warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
        "with m.get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, -2]))"
    )
    assert await box.printed(code) == "[1, 2]\n"


async def test_a_forked_child_that_prints_too_much_says_that_it_is_cut(box: LocalBox) -> None:
    code = (
        "import multiprocessing as m, warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
        "def child():\n    for n in range(200): print('x' * 100)\n"
        "p = m.get_context('fork').Process(target=child); p.start(); p.join(); p.exitcode"
    )
    result = await box.execute(code)
    assert result.result.text == "0"
    assert OUTPUT_CHARS <= len(result.stdout.text) <= 2 * OUTPUT_CHARS
    assert result.stdout.text.count("[the rest of this output of a child process is cut]") == 1


LONE = r"'a\ud800b\udc80c'"
SHOWN = "a\ufffdb\ufffdc"


async def test_lone_surrogates_are_replaced_wherever_text_leaves(box: LocalBox) -> None:
    assert await box.printed(f"print({LONE})") == SHOWN + "\n"
    assert (await box.execute(f"import sys; sys.stderr.write({LONE});")).stderr.text == SHOWN
    assert (await box.execute("class R:\n    def __repr__(self): return " + LONE + "\nR()")).result.text == SHOWN
    error = (await box.execute(f"raise ValueError({LONE})")).error
    assert error
    assert error.message == SHOWN
    assert (await box.execute(f"FINAL({LONE})")).answer == SHOWN


async def test_a_surrogate_at_the_edge_of_the_cut_harms_nothing(box: LocalBox) -> None:
    code = f"print('x' * {OUTPUT_CHARS - 1} + '\\ud83d\\ude00' * 1000, end='')"
    result = await box.execute(code)
    assert result.status == "ok"
    assert result.stdout.true_chars == OUTPUT_CHARS - 1 + 2000


@pytest.mark.parametrize("method", ["__str__", "__repr__"])
async def test_an_exception_that_can_not_be_shown_is_still_an_error(box: LocalBox, method: str) -> None:
    code = f"class Bad(Exception):\n    def {method}(self): raise RuntimeError('no text')\nraise Bad('x')"
    result = await box.execute(code)
    assert result.status == "error"
    assert result.error
    assert result.error.name == "Bad"
    assert (await box.execute("1")).result.text == "1"


async def test_a_last_value_that_can_not_be_shown_is_an_error_or_said_so(box: LocalBox) -> None:
    result = await box.execute("class Bad:\n    def __repr__(self): raise RuntimeError('no text')\nBad()")
    assert "RuntimeError" in result.stderr.text + (result.error.traceback + result.error.name if result.error else "")
    assert (await box.execute("1")).result.text == "1"


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("print('a' * 5_000 + 'm' * 990_000 + 'z' * 5_000, end='')", 1_000_000),
        ("for n in range(20_000): print('%06d' % n)", 140_000),
        ("import sys\nfor n in range(20_000): sys.stdout.write('%06d' % n); sys.stderr.write('e%06d' % n)", 120_000),
    ],
)
async def test_output_is_cut_to_head_and_tail_and_its_true_size_named(box: LocalBox, code: str, size: int) -> None:
    await box.execute("kept = 7")
    result = await box.execute(code)
    assert result.status == "ok"
    assert result.stdout.true_chars == size
    assert len(result.stdout.text) == 2 * OUTPUT_CHARS
    whole = {
        1_000_000: "a" * OUTPUT_CHARS + "z" * OUTPUT_CHARS,
        140_000: "".join(f"{n:06d}\n" for n in range(20_000)),
        120_000: "".join(f"{n:06d}" for n in range(20_000)),
    }[size]
    assert result.stdout.text == whole[:OUTPUT_CHARS] + whole[-OUTPUT_CHARS:]
    assert result.stderr.true_chars == (140_000 if size == 120_000 else 0)
    assert (await box.execute("kept")).result.text == "7"


async def test_output_up_to_the_cap_is_whole(box: LocalBox) -> None:
    text = "".join(chr(33 + n % 90) for n in range(2 * OUTPUT_CHARS))
    assert await box.printed(f"print({text!r}, end='')") == text
    result = await box.execute(f"print({text + '!'!r}, end='')")
    assert (len(result.stdout.text), result.stdout.true_chars) == (2 * OUTPUT_CHARS, 2 * OUTPUT_CHARS + 1)


async def test_a_long_value_and_a_long_error_are_cut_too(box: LocalBox) -> None:
    result = await box.execute("'v' * 1_000_000")
    assert (len(result.result.text), result.result.true_chars) == (2 * OUTPUT_CHARS, 1_000_002)
    error = (await box.execute("raise ValueError('e' * 1_000_000)")).error
    assert error
    assert len(error.message) <= 8000
    assert len(error.traceback) <= 8000


async def test_each_cell_has_its_own_cap(box: LocalBox) -> None:
    await box.execute("print('x' * 1_000_000)")
    assert await box.printed("print('short')") == "short\n"


async def test_replacing_stdout_hides_output_but_harms_nothing(box: LocalBox) -> None:
    result = await box.execute("import sys, io\nsys.stdout = io.StringIO()\nprint('hidden')")
    assert (result.status, result.stdout.text) == ("ok", "")
    assert await box.printed("print('seen')") == "seen\n"
    for code in ("del sys.stdout", "del sys.stderr; 1/0", "sys.stdout = None; 1/0"):
        await box.execute(code)
        assert await box.printed("print('seen')") == "seen\n"


async def test_writing_no_text_is_a_type_error(box: LocalBox) -> None:
    error = (await box.execute("import sys\nsys.stdout.write(b'bytes')")).error
    assert error
    assert error.name == "TypeError"


async def test_nothing_is_heard_of_the_code_or_of_earlier_outputs(box: LocalBox) -> None:
    assert (await box.execute("'secret value'")).result.text == "'secret value'"
    names = await box.value(
        "[n for n in globals() if n in ('_', '__', '_1', '_oh') and 'secret' in repr(globals()[n])]"
    )
    assert "_1" not in names


async def test_a_context_is_loaded_as_text_or_as_json(box: LocalBox) -> None:
    for value in ("tex\ud800t \r\n end", ["one", "tw\udc80o"], {"a.txt": "x", "b.txt": ["nested", None, 1.5]}):
        await box.load_value("context", value)
        assert await box.json_value("context") == value


async def test_a_cell_has_all_that_its_programs_wrote(box: LocalBox) -> None:
    """However its end meets the thread that reads the pipe."""
    for number in range(30):
        assert await box.printed(f"import os; os.system('echo h\u00e9 {number}');") == f"h\u00e9 {number}\n"


async def test_a_flush_beside_a_write_of_a_thread_loses_none_of_it(fresh_box: LocalBox) -> None:
    result = await fresh_box.printed(
        "import sys, threading\nfrom ipykernel.iostream import OutStream\n"
        "stock, begun, flushed = OutStream.write, threading.Event(), threading.Event()\n"
        "def slow(self, text):\n    begun.set(); flushed.wait()\n    return stock(self, text)\n"
        "OutStream.write = slow\n"
        "thread = threading.Thread(target=sys.stdout.write, args=('written',)); thread.start(); begun.wait()\n"
        "sys.stdout.flush(); flushed.set(); thread.join(); OutStream.write = stock"
    )
    assert result == "written"
