"""Directories that go with their process: whose they are, and what is never touched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sandbox import owned_dir
from sandbox.build_dir import PREFIX, build_dir, run_tool
from sandbox.errors import ImageError
from sandbox.leftovers import remove_all
from sandbox.owned_dir import OwnedDir, find_owned, remove_orphans

NAME = "0123456789abcdef"


def test_it_is_closed_to_others_and_goes_with_all_in_it(tmp_path: Path) -> None:
    owned = OwnedDir(tmp_path, "x-")
    (owned.path / "file").write_text("text")
    assert owned.path.stat().st_mode & 0o777 == 0o700
    remove_orphans(tmp_path, "x-")
    assert owned.path.exists()
    owned.close()
    owned.close()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_that_ends_does_not_take_it_away(tmp_path: Path) -> None:
    """A server's workers end like this: all that was to be done at exit is done in the child too."""
    code = (
        "import atexit, os, pathlib, sys; from sandbox.owned_dir import OwnedDir\n"
        f'owned = OwnedDir(pathlib.Path({str(tmp_path)!r}), ""); atexit.register(owned.close)\n'
        "child = os.fork()\n"
        "if not child: sys.exit(0)\n"
        "os.waitpid(child, 0); print(owned.path.exists())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_by_name_kind_or_owner_is_never_touched(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("the user's")
    root = tmp_path / "root"
    root.mkdir()
    (root / f"x-{NAME}").symlink_to(elsewhere)
    (root / f"x-{NAME[::-1]}").write_text("a file")
    for name in ("photos", NAME, f"x-{NAME}0", f"x-{NAME.upper()}", f"y-x-{NAME}"):
        (root / name).mkdir()
    if os.geteuid() == 0:
        (root / "x-aaaaaaaaaaaaaaaa").mkdir()
        os.chown(root / "x-aaaaaaaaaaaaaaaa", 65534, 65534)
    before = sorted(path.name for path in root.iterdir())
    assert find_owned(root, "x-", "build", live_too=True) == []
    remove_orphans(root, "x-")
    assert sorted(path.name for path in root.iterdir()) == before
    assert (elsewhere / "file").exists()


def test_no_directory_is_no_error(tmp_path: Path) -> None:
    remove_orphans(tmp_path / "missing", "")
    assert find_owned(tmp_path / "missing", "", "store") == []


def test_one_that_is_taken_for_an_orphan_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = owned_dir._lock
    taken: list[Path] = []

    def late(path: Path) -> int | None:
        if not taken:
            taken.append(path)
            remove_orphans(tmp_path, "")
        return lock(path)

    monkeypatch.setattr(owned_dir, "_lock", late)
    owned = OwnedDir(tmp_path, "")
    assert not taken[0].exists()
    assert owned.path.exists()
    owned.close()


def test_threads_that_make_and_remove_at_once_keep_what_lives(tmp_path: Path) -> None:
    ended = threading.Event()

    def sweep() -> None:
        while not ended.is_set():
            remove_orphans(tmp_path, "")

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in sweepers:
        thread.start()
    try:
        for _ in range(100):
            owned = OwnedDir(tmp_path, "")
            (owned.path / "file").write_text("x")
            assert (owned.path / "file").exists()
            owned.close()
    finally:
        ended.set()
        for thread in sweepers:
            thread.join()
    assert list(tmp_path.iterdir()) == []


def test_force_removes_what_lives_too_and_each_says_why(tmp_path: Path) -> None:
    dead, live = tmp_path / NAME, OwnedDir(tmp_path, "")
    dead.mkdir()
    found = {leftover.name: leftover for leftover in find_owned(tmp_path, "", "store")}
    assert found[str(dead)].why == "its process is gone"
    assert found[str(live.path)].why == "its process is alive"
    outcomes = asyncio.run(remove_all(found.values()))
    assert {outcome.name: outcome.removed for outcome in outcomes} == {str(dead): True, str(live.path): False}
    asyncio.run(remove_all(find_owned(tmp_path, "", "store", live_too=True)))
    assert list(tmp_path.iterdir()) == []
    live.close()


BUILDS = """
from sandbox.build_dir import build_dir, run_tool
with build_dir() as folder:
    (folder.path / "wheel").write_text("x")
    print(folder.path, flush=True)
    run_tool(["sh", "-c", 'echo $$ >"$0"; exec sleep 600', str(folder.path / "pid")], "sleeping", folder)
"""


def start_build(temp: Path) -> tuple[subprocess.Popen[str], Path, int]:
    """A process in the middle of a build; its directory, and the pid of its tool."""
    environment = os.environ | {"TMPDIR": str(temp)}
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDS], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    process.stdout.close()
    while not (folder / "pid").exists() or not (folder / "pid").read_text().endswith("\n"):
        assert process.poll() is None
    return process, folder, int((folder / "pid").read_text())


def wait_until_ended(pid: int) -> None:
    """A zombie has ended too: nobody may wait for it here."""
    with contextlib.suppress(OSError):
        while b") Z " not in Path(f"/proc/{pid}/stat").read_bytes():
            time.sleep(0.01)


def test_the_directory_of_a_killed_build_stays_while_its_tool_writes_and_then_goes(tmp_path: Path) -> None:
    process, folder, tool = start_build(tmp_path)
    process.kill()
    process.wait()
    remove_orphans(tmp_path, PREFIX)
    assert folder.exists(), "pip would make it again"
    os.kill(tool, 9)
    wait_until_ended(tool)
    remove_orphans(tmp_path, PREFIX)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_a_build_ends_its_tool_and_removes_the_directory(tmp_path: Path) -> None:
    process, _, tool = start_build(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    process.wait()
    assert list(tmp_path.iterdir()) == []
    wait_until_ended(tool)


LEAVES = """
import atexit, os, sys, threading, time
from pathlib import Path
from sandbox.build_dir import build_dir, run_tool
def build():
    with build_dir() as folder:
        run_tool(["sh", "-c", 'echo $$ >"$0"; exec sleep 600', str(folder.path / "pid")], "sleeping", folder)
threading.Thread(target=build, daemon=True).start()
while not any(Path(os.environ["TMPDIR"]).glob("*/pid")):
    pass
atexit._run_exitfuncs()
os._exit(130)
"""


def test_a_command_that_leaves_without_its_build_thread_leaves_no_directory(tmp_path: Path) -> None:
    """As `airlock ask` does at Ctrl-C, where the image is built in a thread."""
    done = subprocess.run([sys.executable, "-c", LEAVES], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert done.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_fails_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with build_dir() as folder, pytest.raises(ImageError, match=r"(?s)^Failing failed:\nout\nerr\n?$"):
        run_tool(["sh", "-c", "echo out; echo err >&2; exit 3"], "failing", folder)
    assert list(tmp_path.iterdir()) == []
