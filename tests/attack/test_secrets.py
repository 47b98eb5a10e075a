"""There is nothing in a box that is worth stealing, and of the host only what any program can see."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import docker
import pytest

from sandbox.engine import Engine, _address
from sandbox.host import Host
from tests.boxes import Box

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-7f3a91c4"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, CANARY)


async def test_the_environment_is_the_images_alone(box: Box, box_host: Host) -> None:
    async with await Box.open(box_host) as fresh:  # started while the keys are in our environment
        assert isinstance(fresh, Box)
        inside = json.loads((await fresh.execute("import json, os; print(json.dumps(dict(os.environ)))")).stdout.text)
        assert CANARY not in inside.values()
        shell = {"PAGER", "GIT_PAGER", "TERM", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "MPLBACKEND"}
        config = {said.split("=")[0] for said in (await fresh.engine.inspect(fresh.container))["Config"]["Env"]}
        assert set(inside) - shell - {"HOSTNAME", "LC_CTYPE"} <= config
        record = json.dumps(await fresh.engine.inspect(fresh.container))
        assert CANARY not in record


async def test_proxies_of_the_clients_configuration_stay_outside(
    box_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docker-py would put them into each container, with the password that often stands in them."""
    address = _address()
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": f"http://u:{CANARY}@p"}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    client = docker.APIClient(version="auto", **address)
    assert CANARY in str(client._proxy_configs), "the control: the client has read them"
    async with await Box.open(dataclasses.replace(box_host, engine=Engine(client))) as fresh:
        assert isinstance(fresh, Box)
        assert CANARY not in await fresh.shown("import os\ndict(os.environ)")
        assert CANARY not in json.dumps(await fresh.engine.inspect(fresh.container))
    client.close()


async def test_pid_1_keeps_its_memory_files_and_environment_to_itself(box: Box) -> None:
    code = (
        "import os\nsaid = []\n"
        "for path in ('mem', 'environ', 'maps', 'auxv', 'cwd', 'root', 'exe', 'fd/0', 'fd/1', 'fd/2'):\n"
        "    try: os.close(os.open('/proc/1/' + path, os.O_RDONLY)); said.append(path)\n"
        "    except OSError: pass\n"
        "try: said += os.listdir('/proc/1/fd')\n"
        "except OSError: pass\n"
        "said"
    )
    assert await box.shown(code) == "[]"


async def test_the_same_look_at_its_own_process_succeeds(box: Box) -> None:
    """The control to the test above."""
    code = (
        "import os\nsaid = []\n"
        "for path in ('mem', 'environ', 'maps', 'auxv', 'cwd', 'root', 'exe'):\n"
        "    os.close(os.open('/proc/self/' + path, os.O_RDONLY)); said.append(path)\n"
        "len(said)"
    )
    assert await box.shown(code) == "7"


async def test_no_process_of_the_host_is_seen(box: Box) -> None:
    pids = json.loads(await box.shown("import os\nsorted(int(p) for p in os.listdir('/proc') if p.isdigit())"))
    assert len(pids) < 10
    assert str(os.getpid()) not in (await box.shown("[open(f'/proc/{p}/cmdline').read() for p in (1,)]"))


async def test_no_file_of_this_repository_or_its_user_is_there(box: Box) -> None:
    code = (
        "import os\n"
        "[p for p in ('/root/.ssh', '/root/.aws', '/root/.docker', '/home', '/etc/shadow', '/mnt', '/srv', '/media')"
        " if os.path.exists(p) and os.access(p, os.R_OK) and os.path.isdir(p) and os.listdir(p)]"
    )
    assert await box.shown(code) == "[]"
    assert await box.shown("import os\nos.access('/etc/shadow', os.R_OK)") == "False"


async def test_a_directory_shows_only_its_boxs_context(box: Box, box_host: Host) -> None:
    async with await Box.open(box_host) as other:
        assert isinstance(other, Box)
        await other.load("context", other.store.put(f"of the other box: {CANARY}"))
        await box.load("context", box.store.put("of this box"))
        files = json.loads(
            (await box.execute("import json, os; print(json.dumps(os.listdir('/context')))")).stdout.text
        )
        code = f"[p for p in os.listdir('/context') if {CANARY!r} in open('/context/' + p).read()]"
        assert await box.shown(code) == "[]"
        assert len(files) >= 1
        assert await box.shown("sorted(os.listdir('/context/..')) == sorted(os.listdir('/'))") == "True"


async def test_a_tampered_relay_or_kernel_file_is_not_possible(box: Box) -> None:
    code = (
        "import os\n"
        "paths = [os.path.join(folder, f) for folder, _, files in os.walk('/opt/airlock') for f in (*files, '.')]\n"
        "len(paths) > 100, [p for p in paths if os.access(p, os.W_OK)]"
    )
    assert await box.shown(code) == "(True, [])"


async def test_nothing_may_trace_another_process(box: Box) -> None:
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "[libc.ptrace(16, pid, 0, 0) for pid in (1, os.getppid())]"
    )
    assert await box.shown(code) == "[-1, -1]"
