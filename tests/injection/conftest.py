"""A watch on what the host connects to, and keys that must turn up nowhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_connected: list[str] = []
_watching = False


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook can't be taken out again, so it only looks while a test has asked for it."""
    if _watching and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        address = args[1] if event != "socket.getaddrinfo" else args[0]
        if not isinstance(address, str | bytes) or event == "socket.getaddrinfo":
            _connected.append(repr(address))


sys.addaudithook(_watch)


@pytest.fixture
def no_network() -> Iterator[None]:
    """The host connects to no address while the test runs; the engine's unix socket is none."""
    global _watching
    _connected.clear()
    _watching = True
    yield
    _watching = False
    assert _connected == []


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Keys in this process's environment that must turn up nowhere."""
    canaries = ("sk-canary-1-9d1f4c77", "sk-canary-2-0b6e21aa")
    for name, value in zip(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), canaries, strict=True):
        monkeypatch.setenv(name, value)
    return canaries
