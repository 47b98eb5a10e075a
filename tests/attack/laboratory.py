"""Runs attacks in boxes with chosen settings off. Attacks that need the same box share one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import tarfile
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import docker
import docker.errors

from sandbox.engine import connect
from sandbox.errors import BoxGone, ProtocolViolation, SandboxError
from sandbox.host import Host
from sandbox.spec import Isolation, SandboxSpec
from tests.attack.attack import Attack
from tests.attack.cells import PRELUDE
from tests.attack.off import BASE, GOES_WITH
from tests.attack.weak import Weaken, WeakEngine, both, top
from tests.boxes import SETTINGS, Box

AT_ONCE = 3
"""Boxes that are open at a time: starting one is mostly waiting."""
REMOVAL_S = 30
PROGRAM = "usr/bin/id"
SETUID_FILE = "usr/local/bin/setuid-id"

Off = frozenset[str]
Said = dict[tuple[str, Off], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Attacks that are made in boxes of one size, and how the settings of those are taken away."""

    attacks: tuple[Attack, ...]
    spec: SandboxSpec
    off: dict[str, Weaken]

    def of(self, names: Container[object]) -> Kind:
        """With those attacks alone."""
        return dataclasses.replace(self, attacks=tuple(attack for attack in self.attacks if attack.name in names))


def without(attack: Attack) -> Off:
    """What is off in the weakest box in which it works: what stops it, and nothing else."""
    return frozenset(attack.stopped_by)


def alone(attack: Attack, setting: str) -> Off:
    """What is off in a box where of all that might stop it one setting is on."""
    return (BASE | without(attack)) - {setting} - GOES_WITH.get(setting, frozenset())


def boxes_for(attack: Attack, level: Isolation) -> Iterator[Off]:
    """The boxes that an attack is made in: a locked one alone where the level is said to have no such thing.

    An attack that says nothing of what a locked box of that level says is not tried there at all.
    """
    if level in attack.held:
        yield frozenset()
    if level not in attack.no_control and level not in attack.not_available:
        yield without(attack)
        yield from (alone(attack, setting) for setting in attack.stopped_by)


class Laboratory:
    """The boxes of one session.

    Args:
        host: Engine, image and store.
        kinds: All attacks.
        facts: ``HOST`` in each box.
    """

    def __init__(self, host: Host, kinds: Iterable[Kind], facts: dict[str, Any]) -> None:
        self._host = host
        self._kinds = tuple(kinds)
        self._facts = facts
        self._said: dict[Isolation, Said] = {}

    def said(self, level: Isolation) -> Said:
        """What each attack said in each of its boxes at a level. The first call takes the time."""
        if level not in self._said:
            self._said[level] = asyncio.run(self._all(level))
        return self._said[level]

    async def _all(self, level: Isolation) -> Said:
        gate = asyncio.Semaphore(AT_ONCE)
        said: Said = {}

        async def one(kind: Kind, off: Off, attacks: list[Attack], changes: Mapping[str, Weaken]) -> None:
            async with gate:
                made = [changes[setting] for setting in ordered(off)]
                words = await self._in_one_box(kind.spec, level, made, attacks)
                said.update({(name, off): word for name, word in words.items()})

        with setuid_image(self._host.image) as image:
            async with asyncio.TaskGroup() as tasks:
                for kind in self._kinds:
                    shared: dict[Off, list[Attack]] = {}
                    for attack in kind.attacks:
                        for off in boxes_for(attack, level):
                            shared.setdefault(off, []).append(attack)
                    for off, attacks in shared.items():
                        tasks.create_task(one(kind, off, attacks, kind.off | {"image": top(Image=image)}))
        return said

    async def _in_one_box(
        self, spec: SandboxSpec, level: Isolation, changes: list[Weaken], attacks: list[Attack]
    ) -> dict[str, str]:
        engine = WeakEngine(both(*changes))
        try:
            host = Host(engine, self._host.image, self._host.store)
            box = await Box.open(host, dataclasses.replace(spec, isolation=level), SETTINGS)
        except SandboxError as error:
            return dict.fromkeys((attack.name for attack in attacks), f"no such box starts: {error}")
        else:
            async with box:
                return {attack.name: await self._try(box, attack) for attack in attacks}
        finally:
            await engine.aclose()

    async def _try(self, box: Box, attack: Attack) -> str:
        if not box.alive:
            await box.restart()
        await box.execute(f"HOST = {self._facts!r}\n{PRELUDE}")
        try:
            result = await box.execute(attack.code, attack.limits)
        except ProtocolViolation:
            return "violation"
        except BoxGone:
            return "lost"
        if attack.destructive:
            await box.kill()
        if result.status == "ok":
            return (result.stdout.text.split() or ["nothing"])[-1]
        return result.error.name if result.error is not None else result.status


def ordered(off: Off) -> list[str]:
    """The order in which changes are made: the one that sets all security options comes before those that set one."""
    return sorted(off, key=lambda setting: (setting != "no-new-privileges", setting))


@contextlib.contextmanager
def setuid_image(image: str) -> Iterator[str]:
    """The box's image with one program more, which is root's and setuid; removed at the end."""
    client = connect()
    container = client.create_container(image)["Id"]
    try:
        chunks, _ = client.get_archive(container, PROGRAM)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as found:
            program = found.extractfile(found.getmembers()[0])
            assert program
            code = program.read()
        client.put_archive(container, "/", _setuid(code))
        other = client.commit(container)["Id"]
    finally:
        client.remove_container(container)
    try:
        yield other
    finally:
        _remove_image(client, other)
        client.close()


def _remove_image(client: docker.APIClient, image: str) -> None:
    """An engine with much to do may still be about to remove the last box that ran from it."""
    until = time.monotonic() + REMOVAL_S
    while True:
        try:
            client.remove_image(image)
            return
        except docker.errors.APIError as error:
            if error.status_code != HTTPStatus.CONFLICT or time.monotonic() > until:
                raise
        time.sleep(0.1)


def _setuid(code: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(SETUID_FILE)
        member.mode, member.size = 0o4755, len(code)
        archive.addfile(member, io.BytesIO(code))
    return packed.getvalue()
