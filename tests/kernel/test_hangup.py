"""A box whose host goes away while it starts ends at once, and not when its imports are done."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

STARTS = "import hangup; print('importing', flush=True); import time; time.sleep(60)"


def start(code: str) -> subprocess.Popen[bytes]:
    folder = REPOSITORY / "images" / "kernel"
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("hello", [b"", b"hello"], ids=["silent", "after its hello"])
def test_it_ends_with_its_stdin(hello: bytes) -> None:
    with start(STARTS) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"importing\n"
        process.stdin.write(hello)
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)  # something has been written, and nobody has gone
        process.stdin.close()
        assert process.wait(20) == 0


def test_it_ends_where_the_host_has_gone_before_it_looks() -> None:
    with start(f"import sys; sys.stdout.write('x'); sys.stdin.read(); {STARTS}") as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(20) == 0
