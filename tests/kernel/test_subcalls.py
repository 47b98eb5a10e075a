"""`llm_query` and `llm_query_batched`: asked by the cell's own thread, answered in another while the cell waits."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.messages import Asked, SubCallFailure
from sandbox.spec import KernelSettings
from tests.kernel.local_box import PROMPT_BYTES, LocalBox

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_query_is_answered_while_the_cell_waits(box: LocalBox) -> None:
    assert await box.printed("print(llm_query('one'), llm_query('two', data='text'), llm_query('a', 'b'))") == (
        "<one> <two|text> <a|b>\n"
    )
    assert box.prompts == [("one", None), ("two", "text"), ("a", "b")]


async def test_thirty_two_threads_ask_at_once(box: LocalBox) -> None:
    everyone = asyncio.Barrier(32)

    async def together(asked: Asked) -> str:
        await everyone.wait()
        return asked.prompt.upper()

    box.handler = together
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(32) as pool: answers = list(pool.map(llm_query, [f'p{n}' for n in range(32)]))\n"
        "print(answers == [f'P{n}' for n in range(32)])"
    )
    assert await box.printed(code) == "True\n"


async def test_two_thousand_short_threads_ask_and_print(box: LocalBox) -> None:
    code = (
        "import threading\nanswers = []\n"
        "def ask(n): answers.append(llm_query(str(n))); print('', end='')\n"
        "threads = [threading.Thread(target=ask, args=(n,)) for n in range(2000)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        "print(sorted(answers) == sorted(f'<{n}>' for n in range(2000)))"
    )
    assert await box.printed(code) == "True\n"


async def test_a_batch_of_1200_comes_back_in_order(box: LocalBox) -> None:
    async def backwards(asked: Asked) -> str:
        await asyncio.sleep(0.05 if int(asked.prompt) % 2 else 0)
        return f"<{asked.prompt}>"

    box.handler = backwards
    code = "r = llm_query_batched([str(n) for n in range(1200)])\nprint(r == [f'<{n}>' for n in range(1200)])"
    assert await box.printed(code) == "True\n"
    assert len(box.prompts) == 1200


async def test_a_batch_with_data_for_some(box: LocalBox) -> None:
    code = "llm_query_batched(['a', 'b', 'c'], data=['1', None, '3'])"
    assert (await box.execute(code)).result.text == "['<a|1>', '<b>', '<c|3>']"


async def test_a_model_is_asked_for_by_its_name(box: LocalBox) -> None:
    async def named(asked: Asked) -> str:
        return f"{asked.prompt}:{asked.data}:{asked.model}"

    box.handler = named
    code = (
        "print(llm_query('a', model='fast'), llm_query('b', data='d', model='strong'), llm_query('c', model=None))\n"
        "print(*llm_query_batched(['a', 'b'], model='fast'))\n"
        "print(*llm_query_batched(['a', 'b', 'c'], data=[None, 'd', None], model=['fast', None, 'strong']))"
    )
    assert await box.printed(code) == (
        "a:None:fast b:d:strong c:None:None\na:None:fast b:None:fast\na:None:fast b:d:None c:None:strong\n"
    )


async def test_an_empty_batch_asks_nothing(box: LocalBox) -> None:
    assert (await box.execute("llm_query_batched([])")).result.text == "[]"
    assert box.prompts == []


async def test_answers_of_many_mib_together_arrive(box: LocalBox) -> None:
    """They are ready at once; the relay takes no frame above 64 MiB."""

    async def long(asked: Asked) -> str:
        return asked.prompt * (2 << 20)

    box.handler = long
    code = "r = llm_query_batched([str(n % 10) for n in range(40)])\nprint(len(set(r)), {len(x) for x in r}); del r"
    assert await box.printed(code) == f"10 {{{2 << 20}}}\n"


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("llm_query(query='q')", "'<q>'"),
        ("llm_query(question='q')", "'<q>'"),
        ("llm_query(text='q', data='d')", "'<q|d>'"),
        ("llm_query_batched(queries=['q'])", "['<q>']"),
        ("llm_query_batched(questions=('q', 'r'))", "['<q>', '<r>']"),
        ("llm_query_batched(prompt_list=(str(n) for n in range(2)))", "['<0>', '<1>']"),
    ],
)
async def test_argument_names_that_models_use(box: LocalBox, call: str, answer: str) -> None:
    assert (await box.execute(call)).result.text == answer


@pytest.mark.parametrize(
    ("call", "name", "words"),
    [
        ("llm_query()", "TypeError", "needs prompt"),
        ("llm_query(5)", "TypeError", "llm_query: prompt must be str, not int"),
        ("llm_query(b'x')", "TypeError", "not bytes"),
        ("llm_query('x', data=['y'])", "TypeError", "llm_query: data must be str, not list"),
        ("llm_query('x', system='big')", "TypeError", "unexpected argument 'system'"),
        ("llm_query('x', model=5)", "TypeError", "llm_query: model must be str, not int"),
        ("llm_query('x', model='m' * 65)", "UnknownModel", "a name of 65 characters"),
        ("llm_query('x', model='')", "UnknownModel", "a name of 0 characters"),
        ("llm_query_batched(['a', 'b'], model=['m'])", "ValueError", "model must be a list as long as prompts (2)"),
        ("llm_query_batched(['a', 'b'], model=['m', 5])", "TypeError", "model[1] must be str, not int"),
        ("llm_query_batched(['a'], model={'a': 'm'})", "TypeError", "model must be a list of str, not dict"),
        ("llm_query_batched('one string')", "TypeError", "prompts must be a list of str, not str"),
        ("llm_query_batched({'a': 1})", "TypeError", "not dict"),
        ("llm_query_batched(5)", "TypeError", "not int"),
        ("llm_query_batched(['a', None])", "TypeError", "prompts[1] must be str, not NoneType"),
        ("llm_query_batched(['a'], data=[3])", "TypeError", "data[0] must be str, not int"),
        ("llm_query_batched(['a', 'b'], data=['x'])", "ValueError", "a list as long as prompts (2)"),
        ("llm_query_batched(['a'], data='x')", "TypeError", "data must be a list of str, not str"),
        ("llm_query_batched(['a'], data=7)", "TypeError", "data must be a list of str, not int"),
    ],
)
async def test_a_wrong_argument_is_named_and_nothing_is_asked(box: LocalBox, call: str, name: str, words: str) -> None:
    error = (await box.execute(call)).error
    assert error
    assert error.name == name
    assert words in error.message
    assert box.prompts == []


@pytest.mark.parametrize("kind", ["SubCallError", "LimitExceeded", "PromptTooLarge", "ProviderError", "NoCellRunning"])
async def test_a_failure_is_raised_as_an_exception_of_its_name(box: LocalBox, kind: str) -> None:
    async def fail(asked: Asked) -> SubCallFailure:
        return SubCallFailure(kind, "because \ud800")

    box.handler = fail
    code = (
        f"try: llm_query('x')\nexcept {kind} as error: print(type(error).__name__, error)\n"
        "try: llm_query('x')\nexcept SubCallError as error: print('the base catches it')"
    )
    assert await box.printed(code) == f"{kind} because ?\nthe base catches it\n"
    error = (await box.execute("llm_query('x')")).error
    assert error
    assert (error.name, error.message) == (kind, "because ?")
    assert "repl.py" not in error.traceback.splitlines()[0]


async def test_a_failure_of_an_unknown_kind_and_a_failing_host_are_sub_call_errors(box: LocalBox) -> None:
    async def fail(asked: Asked) -> SubCallFailure:
        if asked.prompt == "raise":
            raise RuntimeError("a key of the host: sk-123")
        return SubCallFailure("OSError", "unknown")

    box.handler = fail
    for prompt in ("raise", "other"):
        error = (await box.execute(f"llm_query({prompt!r})")).error
        assert error
        assert error.name == "SubCallError"
        assert "sk-123" not in error.message


async def test_a_batch_that_fails_in_part_keeps_the_answers(box: LocalBox) -> None:
    async def some(asked: Asked) -> str | SubCallFailure:
        return SubCallFailure("LimitExceeded", "no more") if asked.prompt in "bd" else asked.prompt.upper()

    box.handler = some
    code = "try: llm_query_batched(list('abcd'))\nexcept BatchError as e: print(e, [str(r) for r in e.results])"
    assert await box.printed(code) == (
        "2 of 4 sub-calls failed; the first: no more (the rest: .results) ['A', 'no more', 'C', 'no more']\n"
    )
    code = "r = llm_query_batched(list('abcd'), return_exceptions=True)\nprint([type(x).__name__ for x in r])"
    assert await box.printed(code) == "['str', 'LimitExceeded', 'str', 'LimitExceeded']\n"
    error = (await box.execute("llm_query_batched(list('abcd'))")).error
    assert error
    assert error.name == "BatchError"


async def test_a_prompt_too_large_is_refused_in_the_kernel_and_harms_nothing(box: LocalBox) -> None:
    for call in (
        f"llm_query('x' * {PROMPT_BYTES + 1})",
        f"llm_query('x' * {PROMPT_BYTES}, data='y')",
        f"llm_query('\\u20ac' * {PROMPT_BYTES // 2})",
    ):
        error = (await box.execute(call)).error
        assert error
        assert error.name == "PromptTooLarge"
        assert f"{PROMPT_BYTES:,}" in error.message
    assert box.prompts == []
    code = (
        f"r = llm_query_batched(['a', 'x' * {PROMPT_BYTES + 1}, 'c'], return_exceptions=True)\n[str(x)[:8] for x in r]"
    )
    assert (await box.execute(code)).result.text == "['<a>', 'a prompt', '<c>']"
    assert (await box.execute(f"len(llm_query('x' * {PROMPT_BYTES}))")).result.text == str(PROMPT_BYTES + 2)


async def test_a_batch_of_many_large_prompts_is_cut_into_messages(box: LocalBox) -> None:
    code = f"r = llm_query_batched([str(n % 10) * {PROMPT_BYTES} for n in range(120)])\nlen(r), {{len(x) for x in r}}"
    assert (await box.execute(code)).result.text == f"(120, {{{PROMPT_BYTES + 2}}})"
    assert [prompt[0] for prompt, _ in box.prompts[:12]] == list("012345678901")


async def test_lone_surrogates_in_prompts_are_replaced(box: LocalBox) -> None:
    await box.execute(r"llm_query('a\ud800b', data='\udfff'); llm_query('pair \ud83d\ude00')")
    assert box.prompts == [("a\ufffdb", "\ufffd"), ("pair \U0001f600", None)]


async def test_a_reply_with_lone_surrogates_arrives_without(box: LocalBox) -> None:
    async def odd(asked: Asked) -> str:
        return "a\ud800b"

    box.handler = odd
    assert (await box.execute("llm_query('x')")).result.text == "'a?b'"


async def test_a_query_in_a_forked_child_raises_there(box: LocalBox) -> None:
    code = (
        "import multiprocessing as m, warnings\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
        "def child():\n    try: llm_query('x')\n    except SubCallError as e: print(e)\n"
        "p = m.get_context('fork').Process(target=child); p.start(); p.join(); p.exitcode"
    )
    result = await box.execute(code)
    assert result.stdout.text == "sub-calls work from threads, not from child processes\n"
    assert result.result.text == "0"
    assert box.prompts == []


async def test_names_that_a_cell_overwrites_work_again_in_the_next(box: LocalBox) -> None:
    assert await box.printed("llm_query = FINAL = LimitExceeded = 5; print(llm_query)") == "5\n"
    await box.execute("del llm_query_batched, FINAL_VAR")
    result = await box.execute("x = llm_query('x') + llm_query_batched(['y'])[0]\nFINAL_VAR('x')")
    assert result.answer == "<x><y>"


async def test_without_functions_the_names_are_absent() -> None:
    async with await LocalBox(KernelSettings(functions=())).open() as box:
        assert isinstance(box, LocalBox)
        names = "[n for n in globals() if n.startswith('llm') or n in ('SubCallError', 'BatchError', 'LimitExceeded')]"
        assert await box.value(names) == []
        error = (await box.execute("llm_query('x')")).error
        assert error
        assert error.name == "NameError"
        assert (await box.execute("FINAL('still there')")).answer == "still there"


async def test_only_the_functions_given_are_there() -> None:
    async with await LocalBox(KernelSettings(functions=("llm_query",))).open() as box:
        assert isinstance(box, LocalBox)
        assert await box.value("['llm_query' in globals(), 'llm_query_batched' in globals()]") == [True, False]


async def test_a_thread_that_outlives_its_cell_is_refused_and_its_output_dropped(fresh_box: LocalBox) -> None:
    code = (
        "import threading, time, os\ngo, said = threading.Event(), []\n"
        "def late():\n"
        "    go.wait()\n"
        "    while open_cell: time.sleep(0.001)\n"
        "    time.sleep(0.3)\n"
        "    print('too late', flush=True)\n"
        "    try: said.append(llm_query('late'))\n"
        "    except NoCellRunning as error: said.append(str(error))\n"
        "open_cell = True\nthread = threading.Thread(target=late); thread.start()\ngo.set(); open_cell = False"
    )
    assert (await fresh_box.execute(code)).status == "ok"
    while not fresh_box.kernel._late_chars:
        await asyncio.sleep(0.01)
    result = await fresh_box.execute("thread.join(); said")
    assert result.result.text == "['no cell is running: a thread outlived the cell that started it']"
    assert result.stdout.text == ""
    assert result.late_chars == len("too late\n")
    assert (await fresh_box.execute("1")).late_chars == 0
    assert fresh_box.prompts == []
    assert fresh_box.kernel.violation is None


async def test_the_wall_clock_of_a_cell_counts_no_waiting(box: LocalBox) -> None:
    async def slow(asked: Asked) -> str:
        await asyncio.sleep(0.3)
        return "x"

    box.handler = slow
    result = await box.execute("llm_query('x'); llm_query('x')")
    assert 0.6 <= result.waited_s <= result.wall_s


async def test_more_prompts_than_the_host_holds_at_once_are_read_by_and_by(fresh_box: LocalBox) -> None:
    """The host's memory stays bounded: it stops reading the box until it has answered some."""
    most = 0
    open_now = 0

    async def slow(asked: Asked) -> str:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.01)
        open_now -= 1
        return ""

    fresh_box.handler = slow
    code = "r = llm_query_batched([''] * 30_000); len(r)"
    assert (await fresh_box.execute(code)).result.text == "30000"
    assert most <= 10_000


async def test_an_answer_can_be_awaited_since_models_write_it(box: LocalBox) -> None:
    code = (
        "import asyncio, json\n"
        "one = await llm_query('a')\n"
        "many = await asyncio.gather(*[llm_query(str(n)) for n in range(3)])\n"
        "batch = await llm_query_batched(['x', 'y'])\n"
        "print(json.dumps([one, many, batch]), type(one) is str, llm_query('a') == one)"
    )
    plain = await box.printed(
        "print([llm_query('a'), [llm_query(str(n)) for n in range(3)], llm_query_batched(['x', 'y'])])"
    )
    assert await box.printed(code) == plain.strip().replace("'", '"') + " True True\n"
