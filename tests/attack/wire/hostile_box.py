"""Boxes of the real image and the real locks in which `guest` is PID 1, in the relay's place.

Run as ``python -m tests.attack.wire.hostile_box ATTACK ARGUMENTS...``, it is the command `airlock` on such boxes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sandbox.engine import Engine
from tests.attack.weak import ChangingClient, Weaken, top

SOURCE = Path(__file__).with_name("guest.py").read_text()


def played_by(attack: str) -> Weaken:
    """Another program than the relay's; no lock is touched."""
    return top(Entrypoint=["python3", "-I", "-c", SOURCE, attack], Cmd=[])


class HostileEngine(Engine):
    """Each of its boxes plays an attack."""

    def __init__(self, attack: str) -> None:
        super().__init__(ChangingClient(played_by(attack)))


def main(attack: str, arguments: list[str]) -> int:
    """The command, on an engine whose boxes attack it."""
    from orchestrator.cli.main import main as command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sandbox.host.connect", lambda: ChangingClient(played_by(attack)))
        return command(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
