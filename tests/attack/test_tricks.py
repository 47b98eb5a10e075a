"""Links, FIFOs and devices, put where somebody else will open a path: the relay, the kernel, or the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.host import Host
from sandbox.spec import CONTEXT_DIR, RUN_DIR, CellLimits
from tests.attack.off import OFF
from tests.attack.weak import WeakEngine, both
from tests.boxes import Box

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRICKS = {
    "a symbolic link": "os.symlink('/etc/passwd', path)",
    "a link to itself": "os.symlink(path, path)",
    "a link to PID 1's streams": "os.symlink('/proc/1/fd/1', path)",
    "a FIFO": "os.mkfifo(path)",
    "a device": "os.mknod(path, 0o20600, os.makedev(1, 5))",
}
PLANT = """
import errno, os
said = {}
for name, code in %r.items():
    path = %r + '/' + name
    try: exec(code); said[name] = 'planted'
    except OSError as error: said[name] = errno.errorcode[error.errno]
said
"""
PLANTED = dict.fromkeys(TRICKS, "planted") | {"a device": "EPERM"}


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", RUN_DIR])
async def test_what_a_cell_plants_misleads_nobody(box: Box, place: str) -> None:
    """They are planted, all but the device; whoever works in that place afterwards goes on."""
    await box.execute(PLANT % (TRICKS, place))
    assert await box.json_value("said") == PLANTED
    await works(box)
    await box.restart()
    assert await box.shown(f"import os\nsorted(set(os.listdir({place!r})) & set({list(TRICKS)!r}))") == "[]"


async def test_nothing_is_planted_in_the_context(box: Box) -> None:
    await box.execute(PLANT % (TRICKS, CONTEXT_DIR))
    assert set((await box.json_value("said")).values()) <= {"EROFS", "EPERM"}
    await works(box)


async def works(box: Box) -> None:
    """A document comes in and an answer goes out."""
    await box.load("document", box.store.put("a document"))  # and again after each restart
    assert await box.shown("document") == "'a document'"
    assert await box.shown("llm_query('x')") == "'<x>'"


@pytest.mark.parametrize("code", ["os.mkfifo(path)", "os.symlink('/dev/zero', path)", "os.symlink('/context', path)"])
async def test_another_thing_in_place_of_the_kernels_sockets_costs_at_most_the_box(box: Box, code: str) -> None:
    await box.execute(
        f"import os\nfor name in os.listdir({RUN_DIR!r}):\n"
        f"    path = {RUN_DIR!r} + '/' + name\n    os.unlink(path); {code}\n"
    )
    await box.execute("print(llm_query('x'))", CellLimits(wall_s=5, wait_s=5))
    await box.restart()
    await works(box)


async def test_the_host_follows_nothing_in_a_context_that_was_written_to(box_host: Host, tmp_path: Path) -> None:
    """The mount is what forbids it; should it ever fail, the host still removes links and not what they point to."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("of the host's")
    engine = WeakEngine(both(OFF["context"], OFF["user"]))
    box = await Box.open(Host(engine, box_host.image, box_host.store))
    context = box.store.put("a document")
    try:
        await box.execute(
            f"import os\nos.symlink({str(victim)!r}, '/context/link'); os.mkfifo('/context/fifo')\n"
            f"os.symlink({str(victim / 'file')!r}, '/context/{context.digest}')\n"
            "os.mkdir('/context/folder'); os.symlink('..', '/context/folder/up')"
        )
        folder = box.directory
        assert {path.name for path in folder.iterdir()} == {"link", "fifo", "folder", context.digest}
        box.store.link(context, folder)  # its name is taken by a link that leads nowhere in the box
        assert (folder / context.digest).is_symlink()
    finally:
        await box.aclose()
        box.store.forget(context)
        await engine.aclose()
    assert not folder.exists()
    assert (victim / "file").read_text() == "of the host's"
