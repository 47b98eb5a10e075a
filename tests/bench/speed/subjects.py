"""Measures all subjects that this machine has: who they are, and what each needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from typing import Any

from sandbox.engine import Engine
from sandbox.errors import EngineUnavailable
from sandbox.image import ensure_image
from sandbox.spec import SandboxSpec
from tests.bench.machine import machine, versions
from tests.bench.own_process import Failed, say
from tests.bench.speed.figures import Counts
from tests.bench.speed.peers import LABEL, PEERS, Peer, install, peer_image, remove_leftovers
from tests.bench.speed.rounds import Subject, play

SMALL = Counts(cells=5, calls=5, values=1, context_bytes=1_000_000)
OURS = ("airlock", "open_kernel", "pipe")
"""Without a figure of these there is no table: exit status 1."""


async def asked_engine() -> tuple[dict[str, str], str]:
    """All versions, and why the engine has no gVisor ("" where it has)."""
    engine = await Engine.connect()
    try:
        found = await versions(engine)
        try:
            await engine.check(SandboxSpec(isolation="gvisor"))
        except EngineUnavailable as error:
            return found, str(error)
        return found, ""
    finally:
        await engine.aclose()


def own_subjects(image: str, no_gvisor: str) -> list[Subject]:
    """All but the peers."""
    return [
        Subject(name="airlock", module="airlock", work={"isolation": "container"}),
        Subject(name="airlock_gvisor", module="airlock", work={"isolation": "gvisor"}, missing=no_gvisor),
        Subject(name="open_kernel", module="open_kernel"),
        Subject(
            name="docker_run",
            module="docker_run",
            work={"image": image, "label": LABEL},
            missing="" if shutil.which("docker") else "there is no docker command",
        ),
        Subject(name="pipe", module="pipe"),
    ]


def peer_subject(peer: Peer, images: contextlib.ExitStack, *, may_install: bool) -> tuple[Subject, str]:
    """One peer and its version; where it can't take part, it says why."""
    subject = Subject(name=peer.name, module=peer.name, python=peer.python, slow=True)
    try:
        if may_install:
            install(peer)
        if not peer.is_here:
            subject.missing = "not installed: make bench PEERS=1"
            return subject, ""
        subject.work["image"] = images.enter_context(peer_image(peer))
        return subject, peer.version
    except Failed as failure:
        subject.missing = str(failure)
        return subject, ""


def measure(only: Sequence[str], rounds: int, counts: Counts, *, may_install: bool = False) -> dict[str, Any]:
    """All findings of the subjects.

    Args:
        only: Names of `rows.SUBJECTS`.
        rounds: How often each, after a small round that does not count where `counts` is not `SMALL`.
        counts: How often each does what.
        may_install: Whether to fetch peers that are missing.
    """
    on = machine()
    image = ensure_image(say)
    parts, no_gvisor = asyncio.run(asked_engine())
    with contextlib.ExitStack() as images:
        images.callback(remove_leftovers)
        subjects = [subject for subject in own_subjects(image, no_gvisor) if subject.name in only]
        for peer in PEERS:
            if peer.name in only:
                subject, version = peer_subject(peer, images, may_install=may_install)
                subjects.append(subject)
                parts |= {peer.package: version} if version else {}
        play(subjects, counts, rounds, warm_up=counts != SMALL)
    return {
        "machine": {**on, "load_at_end": round(os.getloadavg()[0], 2)},
        "versions": parts,
        "rounds": rounds,
        "context_bytes": counts.context_bytes,
        "subjects": {one.name: {"samples": one.samples, "missing": one.missing} for one in subjects},
    }
