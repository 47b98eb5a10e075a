"""Others that run a model's code: each in a Python environment of its own, on the same base as our box.

``.venv-bench/NAME`` has the peer for the host, ``.venv-bench/NAME-guest`` what it needs inside of its container.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.base_image import ensure_base
from sandbox.build_dir import build_dir
from sandbox.engine import connect
from sandbox.image import architecture_of
from sandbox.inputs import PYTHON_VERSION
from tests.bench.environments import FOLDER, make_environment, pip_install, python_of
from tests.bench.own_process import Failed, say

LABEL = "rlm-airlock-bench"
"""Images and containers of the bench have it, so that it finds what an interrupted process left."""

DOCKERFILE = f"""
ARG BASE
FROM ${{BASE}}
COPY site /opt/peer
ENV PYTHONPATH=/opt/peer PATH=/opt/peer/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8
RUN python3 -m compileall -q /opt/peer && ln -sf "$(command -v python3)" /usr/local/bin/python
LABEL {LABEL}=peer
"""


LLM_SANDBOX = r"""
RUN mkdir -p /sandbox/.sandbox-venv/bin && ln -s "$(command -v python3)" /sandbox/.sandbox-venv/bin/python \
    && printf '#!/bin/sh\nexec python3 -m pip "$@"\n' >/sandbox/.sandbox-venv/bin/pip \
    && chmod +x /sandbox/.sandbox-venv/bin/pip
ENV PIP_BREAK_SYSTEM_PACKAGES=1
CMD ["python3"]
"""
"""What its own set-up would make with a network, where it looks for it. Python waits for input: the container stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One of them.

    Attributes:
        name: Ours for it.
        package: Whose version is shown.
        host: What is installed for the host.
        guest: What is installed for its container.
        image: Further lines of its Dockerfile.
    """

    name: str
    package: str
    host: tuple[str, ...]
    guest: tuple[str, ...]
    image: str = ""

    @property
    def venv(self) -> Path:
        return FOLDER / self.name

    @property
    def site(self) -> Path:
        return FOLDER / f"{self.name}-guest"

    @property
    def python(self) -> str:
        return python_of(self.venv)

    @property
    def is_here(self) -> bool:
        return Path(self.python).exists() and (self.site.exists() or not self.guest)

    @property
    def version(self) -> str:
        """Of the package that is there."""
        code = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


PEERS = (
    Peer(name="rlms", package="rlms", host=("rlms==0.1.3",), guest=("dill", "requests")),
    Peer(
        name="llm_sandbox",
        package="llm-sandbox",
        host=("llm-sandbox[docker]==0.3.46",),
        guest=("pip", "ipython"),
        image=LLM_SANDBOX,
    ),
    Peer(
        name="smolagents",
        package="smolagents",
        host=("smolagents[docker]==1.26.0",),
        guest=("jupyter_kernel_gateway", "jupyter_client", "ipykernel"),
        image="CMD python -m kernel_gateway --KernelGatewayApp.ip=0.0.0.0 --KernelGatewayApp.port=8888",
    ),
)


def install(peer: Peer) -> None:
    """Fetch a peer from the package index, where it is not here.

    Raises:
        Failed: The index can't be reached or does not have it.
    """
    if peer.is_here:
        return
    make_environment(peer.venv, *peer.host)
    try:
        if peer.guest:
            pip_install(*_for_the_box(), "--target", str(peer.site), *peer.guest)
    except BaseException:
        shutil.rmtree(peer.site, ignore_errors=True)
        raise


def _for_the_box() -> list[str]:
    """What makes pip choose wheels for the box's Python and not for ours."""
    client = connect()
    with contextlib.closing(client):
        architecture = architecture_of(client)
    platforms = [f"{tag}_{architecture}" for tag in ("manylinux_2_28", "manylinux2014")]
    chosen = ["--implementation", "cp", "--python-version", PYTHON_VERSION, "--only-binary", ":all:", "--no-compile"]
    return [*chosen, *(word for platform in platforms for word in ("--platform", platform))]


@contextlib.contextmanager
def peer_image(peer: Peer) -> Iterator[str]:
    """An image of our box's base and what the peer needs in it; removed afterwards.

    Raises:
        Failed: It can't be built.
    """
    client = connect()
    tag = f"{LABEL}:{peer.name}"
    try:
        with build_dir() as folder:
            base = ensure_base(client, architecture_of(client), folder, say)
        lines = client.build(
            fileobj=_build_context(peer), custom_context=True, tag=tag, buildargs={"BASE": base}, network_mode="none",
            rm=True, forcerm=True, decode=True,
        )  # fmt: skip
        errors = [str(line["error"]) for line in lines if "error" in line]
        if errors:
            raise Failed(f"its image can't be built: {errors[0]}")
        yield tag
    finally:
        with contextlib.suppress(Exception):
            client.remove_image(tag, force=True)
        client.close()


def _build_context(peer: Peer) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        text = f"{DOCKERFILE}{peer.image}\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
        if peer.guest:
            tar.add(peer.site, "site")
        else:
            empty = tarfile.TarInfo("site")
            empty.type, empty.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(empty)
    packed.seek(0)
    return packed


def remove_leftovers() -> None:
    """Remove the containers that an interrupted subject could not."""
    client = connect()
    with contextlib.closing(client):
        for container in client.containers(all=True, filters={"label": LABEL}):
            say(f"removing {container['Names'][0]}, which was left over")
            with contextlib.suppress(Exception):
                client.remove_container(container["Id"], force=True)
