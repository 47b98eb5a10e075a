"""`airlock doctor` on this machine's engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cli.exits import ExitCode
from orchestrator.cli.main import main
from sandbox.audit.controls import CONTROLS
from sandbox.audit.escapes import ESCAPES
from sandbox.engine import Engine, host_config
from sandbox.runtimes import GVISOR
from sandbox.spec import SandboxSpec
from tests.runs import boxes_left


def report(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_this_machine_holds_the_default_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == ExitCode.ANSWERED
    found = report(capsys)
    first = found["levels"][0]
    assert first["demanded"] == "container"
    statuses = [finding["status"] for finding in first["audit"]["findings"]]
    assert "missing" not in statuses
    assert len(statuses) == len([c for c in CONTROLS if c.only in (None, first["audit"]["isolation"])])
    assert [escape["escape"]["cve"] for escape in found["escapes"]] == [escape.cve for escape in ESCAPES]
    assert found["versions"]["engine"]
    assert found["versions"]["kernel"]


def test_the_table_has_a_line_for_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == ExitCode.ANSWERED
    shown = capsys.readouterr().out
    settings = list(dict.fromkeys(control.setting for control in CONTROLS))
    lines = shown.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("  setting "))
    assert "container by " in lines[head]
    assert [line[2:].split("  ")[0] for line in lines[head + 1 : head + 1 + len(settings)]] == settings
    assert all(f"{escape.source} ({escape.date})" in shown for escape in ESCAPES)
    default = len([control for control in CONTROLS if control.only is None])
    assert lines[-1].startswith(
        f"verdict: a box can be locked at level container ({default} of {default} controls held"
    )
    assert f"of {len(ESCAPES)} known escapes none vulnerable" in lines[-1]


def test_all_shows_every_control_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--all"]) == ExitCode.ANSWERED
    shown = capsys.readouterr().out
    levels = [line for line in shown.splitlines() if line.startswith("isolation ")]
    assert len(levels) == (2 if f"by {GVISOR}" in shown else 1)
    assert levels[0].startswith("isolation container by ")
    assert all(f"  {control.name}  " in shown for control in CONTROLS if control.only is None)
    assert "Labels expiry" in shown
    assert "expected" not in shown  # what is lower than its limit is held: no number looks like a difference


def test_a_missing_control_fails_and_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def weak(self: Engine, spec: SandboxSpec, context_dir: str) -> dict[str, Any]:
        return host_config(spec, context_dir) | {"read_only": False}

    monkeypatch.setattr(Engine, "restrictions", weak)
    assert main(["doctor"]) == ExitCode.SANDBOX
    shown = capsys.readouterr().out
    assert "container, missing: read-only root (HostConfig.ReadonlyRootfs): found False, must be True. " in shown
    assert "name another engine in DOCKER_HOST." in shown
    assert "verdict: no run starts at level container, for a box there lacks read-only root; " in shown
    assert main(["doctor", "--json"]) == ExitCode.SANDBOX
    assert boxes_left() == []


@pytest.mark.parametrize(("kernel", "code"), [("6.18.21", ExitCode.SANDBOX), ("6.18.22", ExitCode.ANSWERED)])
def test_a_vulnerable_version_fails_only_when_strict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kernel: str, code: ExitCode
) -> None:
    asked = Engine.info

    async def info(self: Engine) -> dict[str, Any]:
        return await asked(self) | {"KernelVersion": kernel}

    async def no_runc(self: Engine) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(Engine, "info", info)
    monkeypatch.setattr(Engine, "versions", no_runc)
    assert main(["doctor", "--json"]) == ExitCode.ANSWERED
    assert main(["doctor", "--json", "--strict"]) == code


def test_no_engine_is_a_sandbox_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert main(["doctor"]) == ExitCode.SANDBOX
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "airlock: no container engine answers at DOCKER_HOST=tcp://127.0.0.1:9: nothing listens there."
    )
