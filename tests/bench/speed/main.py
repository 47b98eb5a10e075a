"""`python -m tests.bench`: measures all subjects that this machine has, and writes what came out."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.engine import Engine
from sandbox.errors import EngineUnavailable
from sandbox.image import ensure_image
from sandbox.spec import SandboxSpec
from tests.bench.environments import make_plotter
from tests.bench.findings import default_folder, write
from tests.bench.machine import machine, versions
from tests.bench.own_process import Failed, say
from tests.bench.speed.figures import Counts
from tests.bench.speed.peers import LABEL, PEERS, Peer, install, peer_image, remove_leftovers
from tests.bench.speed.rounds import Subject, play
from tests.bench.speed.rows import SUBJECTS
from tests.bench.speed.table import markdown

SMALL = Counts(cells=5, calls=5, values=1, context_bytes=1_000_000)
OURS = ("airlock", "open_kernel", "pipe")
"""Without a figure of these there is no table: exit status 1."""


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What a box costs, beside others.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), metavar="SUBJECT")
    parser.add_argument("--peers", action="store_true", help="install the peers from the package index where missing")
    parser.add_argument("--plot", action="store_true", help="install matplotlib for the plot, likewise")
    parser.add_argument("--small", action="store_true", help="a few of each: only to see that it works")
    parser.add_argument("--out", type=Path, help="folder of the results (tests/bench/results/DATE-HOST)")
    return parser.parse_args(arguments)


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


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All findings of one run of the bench."""
    on = machine()
    image = ensure_image(say)
    parts, no_gvisor = asyncio.run(asked_engine())
    with contextlib.ExitStack() as images:
        images.callback(remove_leftovers)
        subjects = [subject for subject in own_subjects(image, no_gvisor) if subject.name in options.only]
        for peer in PEERS:
            if peer.name in options.only:
                subject, version = peer_subject(peer, images, may_install=options.peers)
                subjects.append(subject)
                parts |= {peer.package: version} if version else {}
        counts = SMALL if options.small else Counts()
        play(subjects, counts, options.rounds, warm_up=not options.small)
    return {
        "machine": {**on, "load_at_end": round(os.getloadavg()[0], 2)},
        "versions": parts,
        "rounds": options.rounds,
        "context_bytes": counts.context_bytes,
        "subjects": {one.name: {"samples": one.samples, "missing": one.missing} for one in subjects},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the files. 1 where one of ours has no figures."""
    options = parsed(arguments)
    if options.plot:
        make_plotter()
    findings = measure(options)
    write(options.out or default_folder(findings["machine"]), "speed", findings, markdown(findings))
    failed = [name for name in OURS if name in options.only and findings["subjects"][name]["missing"]]
    return 1 if failed else 0
