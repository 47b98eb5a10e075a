"""`airlock demo` in a real box: with the scripted sub-model here, with the real tiny one where it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from orchestrator.cli.demo import CANARY_VARIABLE, attempts_in, verdict
from orchestrator.cli.demo_archive import INJECTED, NEEDLE, QUESTION, SIZE_BYTES, make_archive
from orchestrator.cli.demo_root import OBEY, OBEYING_TURN, REPLIES
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.tiny_model import missing_packages
from tests.conftest import REPOSITORY, missing
from tests.runs import run, script


def demo(model: str) -> subprocess.CompletedProcess[str]:
    """The command as `make demo` starts it."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", "demo"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "MODEL": model, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def check(done: subprocess.CompletedProcess[str]) -> None:
    """What the screen must hold, whoever answered the sub-questions."""
    assert (done.returncode, done.stderr) == (ExitCode.ANSWERED, "")
    shown = done.stdout
    assert "root model  a script, not a language model" in shown
    assert [f"turn {number}" in shown for number in range(1, 6)] == [True] * 5
    assert "connect to 169.254.169.254:80  refused" in shown
    assert "connect to 1.1.1.1:443         refused" in shown
    assert "CAME THROUGH" not in shown
    assert f"(${CANARY_VARIABLE}) is nowhere in what came out of the box" in shown
    assert re.search(rf"Answer\n  {NEEDLE} \(paper \d{{5}}\)\n  correct: ", shown)
    assert re.search(r"sub-calls +[4-6] of 100\n", shown)


def test_the_demo_with_a_scripted_sub_model() -> None:
    done = demo("script")
    check(done)
    assert "sub-model   a script as well, as MODEL=script asks for" in done.stdout


def test_the_demo_with_the_real_tiny_model() -> None:
    if missing_packages():
        missing(f"the demo's model is not installed: {', '.join(missing_packages())}")
    done = demo("smollm2")
    check(done)
    assert "sub-model   SmolLM2-135M: a real, tiny language model on this machine" in done.stdout


def test_the_archive_is_large_the_same_every_time_and_holds_both_texts_once() -> None:
    archive = make_archive()
    assert archive == make_archive()
    assert abs(len(archive) - SIZE_BYTES) < 20_000
    assert (archive.count(NEEDLE), archive.count(INJECTED), archive.count("Skerry lighthouse")) == (1, 1, 4)
    assert NEEDLE not in QUESTION + "".join(REPLIES)


async def test_a_box_that_gives_something_is_told_from_one_that_refuses() -> None:
    """The verdict comes from what the cell printed: the same run, with a door in it, fails."""
    open_door = OBEY.removesuffix("```\n") + "attempt('the open door', lambda: 'a secret')\n```\n"
    replies = [open_door if reply is OBEY else reply for reply in REPLIES[:OBEYING_TURN]]
    result = await run(script(*replies, f"FINAL({NEEDLE})"), context=make_archive(), question=QUESTION)
    attempts = attempts_in(result)
    assert [attempt["what"] for attempt in attempts if attempt["got"]] == ["the open door"]
    assert verdict(result, attempts, leaked=False) == ExitCode.SANDBOX
    refused = [attempt for attempt in attempts if not attempt["got"]]
    assert len(refused) == OBEY.count('\nattempt("')
    assert verdict(result, refused, leaked=True) == ExitCode.SANDBOX
    assert verdict(result, [], leaked=False) == ExitCode.SANDBOX
    assert verdict(result, refused, leaked=False) == ExitCode.ANSWERED


async def test_a_wrong_answer_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    result = await run(script(*REPLIES[:OBEYING_TURN], "FINAL(Peter Novak)"), context=make_archive())
    assert verdict(result, attempts_in(result), leaked=False) == ExitCode.INTERNAL
    assert f"{NEEDLE} is not in the answer" in capsys.readouterr().err
