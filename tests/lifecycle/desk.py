"""A place of its own for runs that are killed: where they keep files, what they own, and what they have left."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from sandbox.engine import LABEL, connect
from sandbox.owner import owner_label
from tests.conftest import REPOSITORY

WAIT_S = 20.0
"""For what must happen; a run that hangs longer fails."""


class Desk:
    """A state directory, one for temporary files, and a document with a text that is nowhere else.

    Args:
        folder: Where to make them. The engine must see it.
        environment: What the commands get on top of ours.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.state, self.temp = folder / "state", folder / "temp"
        self.temp.mkdir(parents=True)
        self.marker = f"marker-{secrets.token_hex(16)}"
        self.document = folder / "document.txt"
        self.document.write_text(f"{self.marker} is a line of the document.\n" * 2000)
        self.environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "AIRLOCK_STATE": str(self.state),
            "TMPDIR": str(self.temp),
            **environment,
        }

        self._started: list[Running] = []

    def close(self) -> None:
        """End what still runs."""
        for running in self._started:
            running.kill()
            running.wait()

    def start(self, point: str, ends_by: str = "KILL", isolation: str = "container") -> Running:
        """Start the driver."""
        running = Running(self, "-m", "tests.lifecycle.driver", point, ends_by, str(self.document), isolation)
        self._started.append(running)
        return running

    def airlock(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `airlock` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli.main", *words],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def files(self) -> list[str]:
        """What lies in the store and among the temporary files."""
        return [str(path) for folder in (self.state / "store", self.temp) for path in folder.rglob("*")]

    def files_with_the_document(self) -> list[str]:
        """Wherever its text is on disk, but for itself."""
        found = [path for folder in (self.state, self.temp) for path in folder.rglob("*") if path.is_file()]
        return [str(path) for path in found if self.marker.encode() in path.read_bytes()]


class Running:
    """A process of ours that is to end in the middle.

    Attributes:
        pid: Its process id.
        owner: The label of its boxes.
        said: What it has printed, when it has ended.
    """

    def __init__(self, desk: Desk, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *words],
            cwd=REPOSITORY,
            env=desk.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.owner = owner_label(self.pid)
        self.said = ""
        self._waited = False

    def wait(self) -> int:
        """Until it has ended; its exit code."""
        if not self._waited:
            out, err = self._process.communicate(timeout=120)
            self.said, self._waited = out + err, True
        return self._process.returncode

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def kill_after(self, seconds: float) -> None:
        """End it then, if it has not ended before."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def wait_until_stopped(self) -> None:
        """Until SIGSTOP has reached it: it lives, and does nothing."""
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """After `wait_until_stopped`."""
        self._process.send_signal(signal.SIGCONT)

    def boxes(self) -> dict[str, str]:
        """The boxes that it owns: ID and state."""
        return boxes_by_owner(self.owner)

    def wait_until_none_runs(self) -> dict[str, str]:
        """Wait for the boxes that run to end by themselves; returns what is left."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            left = self.boxes()
            if set(left.values()) <= {"created"}:
                return left
            time.sleep(0.02)
        return self.boxes()

    def wait_until_gone(self) -> dict[str, str]:
        """Wait for all of them; returns what is left all the same."""
        until = time.monotonic() + WAIT_S
        while (left := self.boxes()) and time.monotonic() < until:
            time.sleep(0.02)
        return left


def boxes_by_owner(owner: str) -> dict[str, str]:
    """ID and state of an owner's containers."""
    client = connect()
    try:
        found = client.containers(all=True, filters={"label": f"{LABEL}={owner}"})
        return {box["Id"]: box["State"] for box in found}
    finally:
        client.close()


KILLED = -signal.SIGKILL
