"""A disk that is full in the middle of a run: a typed error with the size and what to set, and nothing left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, missing

RUN = """
import os, sys
from pathlib import Path
from sandbox.errors import SandboxError
from sandbox.store import Store
root = Path(sys.argv[1]) / "store"
try:
    store = Store(root)
    try:
        context = store.put("x" * int(sys.argv[2]))
        box = store.new_box_dir()
        store.link(context, box)
        print("stored")
    except SandboxError as error:
        print(error)
    print(sorted(path.name for path in (store._dir / "blobs").iterdir() if path.suffix == ".part"))
    store.close()
except SandboxError as error:
    print(error)
print(*root.rglob("*"), sep="\\n", end="")
"""


def on_small_disk(folder: Path, options: str, size: int) -> list[str]:
    """What a process says whose state lies on a file system of its own, which nobody else sees."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        missing("a file system of its own needs root and unshare")
    script = f"mount -t tmpfs -o {options} tmpfs {folder} && exec {sys.executable} -c '{RUN}' {folder} {size}"
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_document_that_does_not_fit_is_named_with_its_size_and_leaves_nothing(tmp_path: Path) -> None:
    said, part = on_small_disk(tmp_path, "size=1m", 8_000_000)
    assert said == (
        "storing a context of 8,000,000 bytes failed: No space left on device; "
        f"make room at '{tmp_path}/store', or set AIRLOCK_STATE to a directory with room"
    )
    assert part == "[]"


FAILS = [
    *["the content store '"] * 3,  # its root, this process's own, and the blobs in it
    "storing a context of 1,000 bytes failed",
    "a box's directory '",
    "the context can't be linked into '",
]
"""What fails where the file system has room for one name, for two, and so on."""


@pytest.mark.parametrize("inodes", range(1, len(FAILS) + 2))
def test_a_disk_without_room_for_another_name_is_an_error_at_each_of_them(inodes: int, tmp_path: Path) -> None:
    said = on_small_disk(tmp_path, f"size=8m,nr_inodes={inodes}", 1000)
    if inodes == len(FAILS) + 1:
        assert said[0] == "stored"
    else:
        assert said[0].startswith(FAILS[inodes - 1])
        assert "No space left on device" in said[0]
    assert said[1:] in ([], ["[]"]), "nothing is left"
