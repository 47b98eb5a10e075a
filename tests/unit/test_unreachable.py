"""What is said where no engine answers, with the real client on addresses at which there is none."""

from __future__ import annotations

import gc
import socket
import warnings
from pathlib import Path

import pytest

from sandbox.engine import connect
from sandbox.errors import EngineUnavailable
from sandbox.unreachable import no_engine


def said(monkeypatch: pytest.MonkeyPatch, address: str) -> str:
    monkeypatch.setenv("DOCKER_HOST", address)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        text = _text_of_failure()
        gc.collect()  # docker-py leaves a socket that it could not connect to the collector
    assert text.startswith(f"no container engine answers at DOCKER_HOST={address}: ")
    assert text.endswith("; or correct or unset DOCKER_HOST")
    assert "\n" not in text
    assert "(" not in text, "the words of an exception"
    return text


def _text_of_failure() -> str:
    try:
        connect().close()
    except EngineUnavailable as error:
        return str(error)
    raise AssertionError("an engine answered")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("unix:///nonexistent", "there is no such socket"),
        ("tcp://127.0.0.1:9", "nothing listens there"),
        ("docker", "that is no address"),
        ("ftp://127.0.0.1", "that is no address"),
        ("http+unix://", "that is no address"),
        ("tcp://127.0.0.1:99999", "that is no address"),
        ("ssh://somewhere", "ssh:// is not supported here"),
    ],
)
def test_an_address_without_an_engine_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, address: str, words: str
) -> None:
    assert f": {words}" in said(monkeypatch, address)


def test_a_server_that_is_no_engine_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "engine"))
        assert "nothing listens there" in said(monkeypatch, f"unix://{tmp_path}/engine")


def test_a_socket_that_may_not_be_used_says_how_to_get_in() -> None:
    error = RuntimeError("aborted", PermissionError(13, "Permission denied"))
    text = no_engine(error, "unix:///run/docker.sock")
    assert ": Permission denied. Become a member of its group: sudo usermod" in text
