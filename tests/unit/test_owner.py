"""Whether the process that owns a box lives, told from its label alone."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.engine import LABEL
from sandbox.owner import Owner, owner_label
from sandbox.reaper import judge

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="owners are told apart by /proc")

NOW = 1_800_000_000.0
ELSEWHERE = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, with a name that could be taken for fields of its stat."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def owner(pid: int | None = None) -> Owner:
    parsed = Owner.parse(owner_label(pid))
    assert parsed is not None
    return parsed


def judged(label: str, expires: object = int(NOW) + 60) -> tuple[bool, str]:
    return judge({LABEL: label, f"{LABEL}.expires": str(expires)}, NOW)


def test_a_label_says_who_owns_and_comes_back() -> None:
    assert owner().pid == os.getpid()
    assert owner().label() == owner_label()
    assert owner().is_alive() is True


def test_an_owner_is_dead_as_soon_as_its_process_has_ended(other: subprocess.Popen[bytes]) -> None:
    theirs = owner(other.pid)
    assert theirs.is_alive() is True
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert theirs.is_alive() is False, "a zombie that nobody has waited for"
    other.wait()
    assert theirs.is_alive() is False


def test_another_process_with_the_same_pid_is_not_the_owner() -> None:
    assert dataclasses.replace(owner(), started=owner().started - 1).is_alive() is False


def test_a_process_that_we_may_not_signal_is_alive() -> None:
    assert owner(1).is_alive() is True
    if os.geteuid() == 0:
        code = (  # dumpable again, as in a process that this user has started
            "import ctypes, os; from sandbox.owner import Owner, owner_label; owner_label()\n"
            "prctl = ctypes.CDLL(None).prctl; os.setuid(65534); prctl(4, 1, 0, 0, 0)\n"
            f"print(Owner.parse({owner_label()!r}).is_alive())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"


@pytest.mark.parametrize("field", [{"boot": ELSEWHERE}, {"namespace": 1}])
def test_an_owner_elsewhere_can_not_be_looked_at(field: dict[str, object]) -> None:
    foreign = dataclasses.replace(owner(), **field)  # type: ignore[arg-type]
    assert foreign.is_alive() is None
    assert judged(foreign.label(), int(NOW) + 60)[0] is False
    assert judged(foreign.label(), int(NOW) - 1)[0] is True


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a pid namespace needs root")
def test_a_process_in_a_pid_namespace_of_its_own_can_not_look_at_us() -> None:
    """Also where /proc is still the outer one, and shows another process under its own pid."""
    code = (
        "import os; from sandbox.owner import Owner, owner_label; "
        f"print(os.getpid(), Owner.parse({owner_label()!r}).is_alive(), Owner.parse(owner_label()) is None)"
    )
    for options, unknown in (["--pid", "--fork"], True), (["--pid", "--fork", "--mount-proc"], False):
        command = ["unshare", *options, sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"1 None {unknown}\n"


@pytest.mark.parametrize(
    "label",
    [
        "",
        "unknown unknown 1 0",
        f"{ELSEWHERE} pid:[1] time:[1] 1",
        f"{ELSEWHERE} pid:[1] 1 5",
        f"{ELSEWHERE} pid:[1] time:[1] 0 5",
        f"{ELSEWHERE} pid:[1] time:[1] -1 5",
        f"{ELSEWHERE} pid:[1] time:[1] 1 5 ",
        f"{ELSEWHERE} pid:[1] time:[1] 1 5\n",
        f"{ELSEWHERE} pid:[1] time:[1] ١ 5",
        f"{ELSEWHERE} pid:[1] time:[1] 9999999999 5",
        f"../../{ELSEWHERE} pid:[1] time:[1] 1 5",
        f"{ELSEWHERE} pid:[1] time:[{'9' * 5000}] 1 5",
    ],
)
def test_a_label_of_another_form_is_judged_by_its_expiry(label: str) -> None:
    assert Owner.parse(label) is None
    assert judged(label, int(NOW) + 60)[0] is False
    assert judged(label, int(NOW) - 1)[0] is True


@pytest.mark.parametrize("expires", ["", "soon", "nan", "-1", "1e3", "-inf", "1.0", "9" * 5000, " 1"])
def test_an_expiry_of_another_form_keeps_the_box(expires: str) -> None:
    assert judged("unknown", expires)[0] is False
    assert judge({LABEL: "unknown"}, NOW)[0] is False


def test_an_owner_that_lives_keeps_a_box_whose_time_is_over_and_a_dead_one_loses_it_before() -> None:
    assert judged(owner_label(), 1) == (False, f"its owner, process {os.getpid()}, is alive")
    dead = dataclasses.replace(owner(), started=1)
    assert judged(dead.label(), int(time.time()) + 10**6) == (True, f"its owner, process {os.getpid()}, is gone")
