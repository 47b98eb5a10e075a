"""Coroutines from blocking code: results, errors, Ctrl-C, forks."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.sync import run_sync


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def thread_name() -> str:
    return threading.current_thread().name


def run_program(program: str) -> str:
    """Run a program in a process of its own; its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_returns_the_result() -> None:
    assert run_sync(double(21)) == 42


async def test_works_inside_a_running_loop_and_on_another_thread() -> None:
    assert run_sync(thread_name()) == "airlock-loop"
    assert threading.current_thread().name != "airlock-loop"


def test_raises_what_the_coroutine_raised() -> None:
    error = ValueError("mine")

    async def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        run_sync(fail())
    assert caught.value is error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_in_the_coroutine_reaches_the_caller_and_leaves_the_loop_running(error: BaseException) -> None:
    async def leave() -> None:
        raise error

    with pytest.raises(type(error)):
        run_sync(leave())
    assert run_sync(double(2)) == 4


def test_a_cancelled_coroutine_is_told_as_such() -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_sync(give_up())


def test_context_variables_are_seen() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("from the caller")

    async def look() -> str:
        return variable.get()

    assert run_sync(look()) == "from the caller"


def test_many_threads_at_once() -> None:
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda n: run_sync(double(n)), range(200))) == [2 * n for n in range(200)]


def test_a_blocking_call_on_the_loop_itself_is_refused() -> None:
    async def nested() -> int:
        return run_sync(double(1))

    with pytest.raises(RuntimeError, match="await the async form"):
        run_sync(nested())


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_cancels_waits_for_the_clean_up_and_is_raised_again() -> None:
    events: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            events.append("cleaned up")
            raise

    with pytest.raises(KeyboardInterrupt):
        run_sync(work())
    assert events == ["cleaned up"]
    assert run_sync(double(3)) == 6


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_second_ctrl_c_does_not_wait_for_the_clean_up() -> None:
    release = threading.Event()
    left = threading.Event()

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            while not release.is_set():
                await asyncio.sleep(0.01)
            left.set()

    with pytest.raises(KeyboardInterrupt):
        run_sync(work())
    assert not left.is_set()
    release.set()
    assert left.wait(10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_works_in_a_forked_child() -> None:
    printed = run_program("""
        import os, warnings
        warnings.simplefilter("ignore")
        from orchestrator.sync import run_sync
        async def seven(): return 7
        run_sync(seven())
        child = os.fork()
        if child == 0:
            os._exit(run_sync(seven()))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert printed == "7"


def test_a_coroutine_that_hangs_in_another_thread_does_not_hold_up_the_end_of_the_process() -> None:
    printed = run_program("""
        import asyncio, threading
        from orchestrator.sync import run_sync
        started = threading.Event()
        async def hang():
            started.set()
            await asyncio.Event().wait()
        threading.Thread(target=lambda: run_sync(hang()), daemon=True).start()
        started.wait()
        print("end")
    """)
    assert printed == "end"


def test_a_slow_clean_up_is_told_of_once_and_a_second_ctrl_c_does_not_wait_for_it() -> None:
    told: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    def slow() -> None:
        told.append("slow")
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_sync(work(), on_slow_stop=slow)
    assert told == ["slow"]
