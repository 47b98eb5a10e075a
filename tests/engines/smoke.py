"""What must work on every engine, each in a box of its own: a dozen seconds a level, one Markdown row.

    python -m tests.engines run docker26 -- python -m tests.engines.smoke --isolation container gvisor

Exits with 1 where something does not hold. It is no proof of the lock-down: `make sandbox-test` is.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sandbox.audit.findings import Audit
from sandbox.engine import LABEL, Engine, connect
from sandbox.host import Host, shared_host
from sandbox.messages import Asked
from sandbox.owner import Owner
from sandbox.runtimes import Runtime
from sandbox.sandbox import Sandbox
from sandbox.spec import MIB, CellLimits, SandboxSpec
from sandbox.store import Store

GONE_S: Final = 5.0
"""Within which a box must be gone after its host."""
VICTIM: Final = """
import asyncio, sys
from sandbox.sandbox import Sandbox
from sandbox.spec import SandboxSpec
from tests.engines.smoke import open_host
async def live():
    host = await open_host(unaudited=sys.argv[2] == "True")
    spec = SandboxSpec(isolation=sys.argv[1])
    await Sandbox.start(spec, engine=host.engine, store=host.store, image=host.image, handler=lambda *a: None)
    print("up", flush=True)
    await asyncio.sleep(600)
asyncio.run(live())
"""


class UnauditedEngine(Engine):
    """Starts a box whatever it lacks: what else works on an engine that the audit refuses?"""

    async def audit(
        self, record: dict[str, Any], spec: SandboxSpec, runtime: Runtime, *, image: str, context_dir: str
    ) -> Audit:
        return Audit(isolation=spec.isolation, runtime=runtime.name, image=image, findings=())


async def open_host(*, unaudited: bool) -> Host:
    """The host of this process."""
    host = await shared_host(lambda line: print(line, file=sys.stderr))
    return dataclasses.replace(host, engine=UnauditedEngine(connect())) if unaudited else host


async def answer(asked: Asked) -> str:
    """The sub-model that costs nothing."""
    return f"{asked.prompt}!"


async def cell_and_context(sandbox: Sandbox, store: Store) -> None:
    """A cell, a document read, and not written."""
    await sandbox.load("context", store.put("a text of 10 MB\n" * 650_000))
    done = await sandbox.execute("print(len(context), sum(range(10)))")
    assert done.stdout.text == "10400000 45\n", done
    write = "import os\nfor f in os.scandir('/context'):\n  open(f.path, 'a')"
    done = await sandbox.execute(write)
    assert done.status == "error", done


async def query(sandbox: Sandbox, store: Store) -> None:
    """A sub-call from the main thread, and from eight others at once."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "print(*Pool(8).map(llm_query, 'abcdefgh'), llm_query('i'))"
    )
    done = await sandbox.execute(code)
    assert done.stdout.text == " ".join(f"{letter}!" for letter in "abcdefghi") + "\n", done


async def interrupt(sandbox: Sandbox, store: Store) -> None:
    """A cell that never ends gives way, and its variables stay."""
    await sandbox.execute("kept = 1")
    done = await sandbox.execute("while True: pass", CellLimits(wall_s=1))
    assert (done.status, done.clock) == ("interrupted", "wall"), done
    assert (await sandbox.execute("kept")).result.text == "1"


async def cpu(sandbox: Sandbox, store: Store) -> None:
    """CPU seconds are read from the engine."""
    done = await sandbox.execute("while True: pass", CellLimits(cpu_s=1, wall_s=30))
    assert (done.status, done.clock) == ("interrupted", "cpu"), done


async def memory(sandbox: Sandbox, store: Store) -> None:
    """Too much memory ends the box, the reason is told, and a fresh one has the document again."""
    await sandbox.load("context", store.put("short"))
    done = await sandbox.execute("hog = bytearray(2 << 30)")
    if done.status != "error":  # a MemoryError is as good
        assert done.status == "lost", done
        assert "out of memory" in str(done.lost_because), done
        await sandbox.restart()
    assert (await sandbox.execute("context")).result.text == "'short'"


async def threads(sandbox: Sandbox, store: Store) -> None:
    """Threads and child processes start (clone3 must be refused in the way that libc understands)."""
    code = (
        "import threading, subprocess, sys\nt = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "print(subprocess.run([sys.executable, '-c', 'print(1)'], capture_output=True, text=True).stdout)"
    )
    done = await sandbox.execute(code)
    assert done.stdout.text == "thread\n1\n\n", done


IN_A_BOX: Final[dict[str, Callable[[Sandbox, Store], Awaitable[None]]]] = {
    "cell and context": cell_and_context,
    "llm_query": query,
    "threads": threads,
    "interrupt": interrupt,
    "CPU clock": cpu,
    "out of memory": memory,
}


async def boxes_of(host: Host, pid: int) -> list[str]:
    """The boxes that this process owns."""
    boxes = [(box["Id"], Owner.parse(box["Labels"][LABEL])) for box in await host.engine.list_boxes()]
    return [box for box, owner in boxes if owner and owner.pid == pid]


async def killed_host(host: Host, isolation: str) -> str:
    """Seconds for which a box outlives the SIGKILL of its host."""
    victim = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        VICTIM,
        isolation,
        str(isinstance(host.engine, UnauditedEngine)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert victim.stdout is not None
    assert await victim.stdout.readline() == b"up\n"
    assert len(await boxes_of(host, victim.pid)) == 1
    victim.kill()
    killed = time.monotonic()
    await victim.wait()
    while left := await boxes_of(host, victim.pid):
        assert time.monotonic() - killed < GONE_S, left
        await asyncio.sleep(0.02)
    return f"gone in {time.monotonic() - killed:.2f} s"


async def in_a_box(host: Host, isolation: str, check: Callable[[Sandbox, Store], Awaitable[None]]) -> str:
    spec = SandboxSpec(isolation=isolation, memory_bytes=256 * MIB)  # type: ignore[arg-type]
    sandbox = await Sandbox.start(spec, engine=host.engine, store=host.store, image=host.image, handler=answer)
    async with sandbox:
        await check(sandbox, host.store)
    return "ok"


async def attempt(outcome: Awaitable[str]) -> str:
    """Its outcome, or FAILED with the reason on stderr."""
    try:
        return await outcome
    except Exception as error:
        traceback.print_exc()
        return f"FAILED: {error.__class__.__name__}"


async def row(host: Host, isolation: str) -> dict[str, str]:
    """One level."""
    outcomes = {name: await attempt(in_a_box(host, isolation, check)) for name, check in IN_A_BOX.items()}
    outcomes["SIGKILL of the host"] = await attempt(killed_host(host, isolation))
    left = await boxes_of(host, os.getpid())
    return outcomes | {"left over": f"FAILED: {len(left)} boxes" if left else "nothing"}


async def measure(levels: list[str], *, unaudited: bool) -> bool:
    """Print the table; whether all held."""
    host = await open_host(unaudited=unaudited)
    rows = {level: await row(host, level) for level in levels}
    await host.engine.aclose()
    print("| engine | isolation | " + " | ".join(rows[levels[0]]) + " |\n|" + "---|" * (2 + len(rows[levels[0]])))
    engine = await asyncio.to_thread(engine_name)
    for level, outcomes in rows.items():
        print(f"| {engine} | {level} | " + " | ".join(outcomes.values()) + " |")
    return not any(value.startswith("FAILED") for outcomes in rows.values() for value in outcomes.values())


def engine_name() -> str:
    """The engine's own word for itself."""
    client = connect()
    told = client.version()
    client.close()
    parts = {part["Name"]: part["Version"].splitlines()[0] for part in told.get("Components", [])}
    return ", ".join(f"{name} {version}" for name, version in parts.items() if name not in {"docker-init", "Conmon"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isolation", nargs="+", choices=["container", "gvisor"], default=["container"])
    parser.add_argument("--unaudited", action="store_true", help="start boxes that lack a control, too")
    options = parser.parse_args()
    sys.exit(0 if asyncio.run(measure(options.isolation, unaudited=options.unaudited)) else 1)


if __name__ == "__main__":
    main()
