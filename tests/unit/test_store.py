"""Contexts on disk: who may read them, who shares them, and that none outlives its process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.store import LARGE_BYTES, Store, state_dir
from sandbox.text_index import TextCounts
from sandbox.writing import BESIDE_BYTES
from tests.conftest import REPOSITORY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "a" / "store")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_a_boxs_directory_is_open_and_only_below_a_closed_one(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "store")
        directory = store.new_box_dir()
        name = store.link(store.put("text"), directory)
    finally:
        os.umask(before)
    assert mode(tmp_path / "store") == mode(directory.parent) == mode(directory.parent / "blobs") == 0o700
    assert mode(directory) == 0o755
    assert mode(directory / name) == 0o444


def test_a_context_is_stored_once_and_linked(store: Store) -> None:
    one, same = store.put("text"), store.put("text")
    assert one == same
    boxes = [store.new_box_dir() for _ in range(2)]
    files = [box / store.link(one, box) for box in boxes]
    assert files[0].stat().st_ino == files[1].stat().st_ino
    assert files[0].stat().st_nlink == 3
    assert store.link(one, boxes[0]) == files[0].name, "linking twice is fine"


@pytest.mark.parametrize("size", [1000, 3_000_000, BESIDE_BYTES - 1, BESIDE_BYTES + 7])
def test_what_is_said_of_a_context_is_so_whatever_its_size(store: Store, size: int) -> None:
    for text in ("a line\n" * (size // 7), "é\n" * (size // 3)):
        raw = text.encode()
        assert store.put(text).counts is None
        context = store.put(text, counted=True)
        assert context.digest == hashlib.sha256(raw).hexdigest()
        assert context.counts == TextCounts(chars=len(text), newlines=text.count("\n"))
        assert (context.size_bytes, context.is_ascii) == (len(raw), text.isascii())
        assert store.blob(context).read_bytes() == raw
        store.forget(context)
        store.forget(context)
    value = store.put(["é" * size])
    assert (value.form, value.is_ascii, store.blob(value).read_bytes().isascii()) == ("json", True, True)


def test_a_text_in_use_is_known_again_and_forgotten_with_its_last_user(store: Store) -> None:
    text = "é" * LARGE_BYTES
    first = store.put(text)
    store.blob(first).chmod(0o644)
    store.blob(first).write_bytes(b"as it is")
    second, equal = store.put(text), store.put(text.encode().decode())
    assert first == second == equal
    assert store.blob(first).read_bytes() == b"as it is", "not written again"
    store.forget(first)
    store.forget(second)
    assert store.put(text) == first
    store.forget(equal)
    store.forget(first)
    assert list((store.folder / "blobs").iterdir()) == []
    assert sys.getrefcount(text) == sys.getrefcount(text[:-1]), "it holds no text that nobody uses"
    assert store.blob(store.put(text)).read_bytes() == text.encode()


def test_text_and_json_keep_what_utf8_can_not_say(store: Store) -> None:
    box = store.new_box_dir()
    text = store.put("a\ud800b\x00\r\n")
    assert (text.form, text.size_bytes) == ("text", 8)
    assert (box / store.link(text, box)).read_bytes().decode("utf-8", "surrogatepass") == "a\ud800b\x00\r\n"
    value = store.put({"\udfff": ["x\ud800"]})
    assert value.form == "json"
    assert json.loads((box / store.link(value, box)).read_bytes()) == {"\udfff": ["x\ud800"]}


def test_what_is_forgotten_is_gone_but_for_the_boxes_that_have_it(store: Store) -> None:
    context = store.put("text")
    box = store.new_box_dir()
    file = box / store.link(context, box)
    store.forget(context)
    assert file.read_text() == "text"
    with pytest.raises(SandboxError, match="not in the store"):
        store.link(context, store.new_box_dir())
    store.forget(context)
    store.remove_box_dir(box)
    assert not file.exists()
    store.remove_box_dir(box)


def test_two_runs_over_one_document_do_not_forget_it_for_each_other(store: Store) -> None:
    first, second = store.put("text"), store.put("text")
    store.forget(first)
    box = store.new_box_dir()
    assert (box / store.link(second, box)).read_text() == "text"
    store.forget(second)
    assert list((box.parent / "blobs").iterdir()) == []


def test_threads_may_store_the_same_document_at_once(store: Store) -> None:
    text = "x" * 2_000_000
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(store.put, [text] * 32))) == 1


def test_closing_removes_everything_and_may_come_twice(store: Store, tmp_path: Path) -> None:
    store.put("text")
    store.close()
    store.close()
    assert list((tmp_path / "a" / "store").iterdir()) == []


OTHER_PROCESS = """
import os, sys
from pathlib import Path
from sandbox.store import Store
store = Store(Path(sys.argv[1]))
store.put("text of another process")
print("ready", flush=True)
sys.stdin.read(1)
os.kill(os.getpid(), 9)
"""


def test_the_store_of_a_process_that_was_killed_is_removed_by_the_next_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "store"
    command = [sys.executable, "-c", OTHER_PROCESS, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == b"ready\n"
        (theirs,) = root.iterdir()
        ours = Store(root)
        assert theirs.exists(), "its process lives"
        other.stdin.write(b"x")
        other.stdin.close()
        other.wait()
        third = Store(root)
        assert not theirs.exists()
        assert len(list(root.iterdir())) == 2, "both of ours"
        ours.close()
        third.close()


def test_a_root_that_can_not_be_made_is_named_with_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxError, match=r"file/store' can't be written: .*; set AIRLOCK_STATE"):
        Store(tmp_path / "file" / "store")


def test_a_full_disk_is_named_with_the_size_and_leaves_nothing(store: Store) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(SandboxError, match="storing a context of 2,000 bytes failed: File too large"):
            store.put("x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list((store.new_box_dir().parent / "blobs").iterdir()) == []
    store.put("x" * 2000)


def test_where_the_state_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("AIRLOCK_STATE", str(tmp_path / "own"))
    assert state_dir() == tmp_path / "own"
    monkeypatch.delenv("AIRLOCK_STATE")
    assert state_dir() == tmp_path / "xdg" / "airlock"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir() == tmp_path / ".local" / "state" / "airlock"


def test_a_directory_above_that_others_may_change_is_refused(tmp_path: Path) -> None:
    """Whoever can put another directory in the place of the store's reads what is put into it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(SandboxError, match="another user may change"):
        Store(shared / "state" / "store")
    shared.chmod(0o1777)  # as /tmp is
    Store(shared / "state" / "store").close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_directory_above_of_another_users_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with pytest.raises(SandboxError, match="another user may change"):
        Store(theirs / "store")


def test_a_directory_of_the_users_own_is_no_orphan(tmp_path: Path) -> None:
    """With ``AIRLOCK_STATE=~``, say, ``~/store`` is not ours."""
    own = tmp_path / "store" / "0123456789abcdef"
    own.mkdir(parents=True)
    Store(tmp_path / "store").close()
    assert own.is_dir()
