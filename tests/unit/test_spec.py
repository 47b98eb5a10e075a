"""The sizes a box may have, and what is said of one it may not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sandbox.errors import SandboxError, SpecError
from sandbox.spec import GIB, MIB, CellLimits, KernelSettings, SandboxSpec


def test_the_defaults_are_legal_and_finite() -> None:
    spec = SandboxSpec()
    assert (spec.isolation, spec.memory_bytes, spec.cpus, spec.pids) == ("container", GIB, 1.0, 4096)
    assert CellLimits().wall_s == CellLimits().cpu_s == 60
    assert KernelSettings().functions == ("llm_query", "llm_query_batched", "llm_query_as_completed")


RANGES: dict[str, tuple[Any, Any]] = {
    "memory_bytes": (128 * MIB, 1024 * GIB),
    "cpus": (0.1, 256),
    "pids": (64, 32_768),
    "tmp_bytes": (MIB, 1024 * GIB),
    "tmp_inodes": (64, 10_000_000),
    "shm_bytes": (MIB, 64 * GIB),
    "open_files": (128, 65_536),
    "file_bytes": (MIB, 1024 * GIB),
    "start_timeout_s": (1, 600),
    "lifetime_s": (1, 604_800),
}


@pytest.mark.parametrize("name", RANGES)
def test_the_ends_of_a_range_are_legal_and_what_lies_beyond_is_named(name: str) -> None:
    least, most = RANGES[name]
    for value in (least, most):
        assert getattr(SandboxSpec(**dict[str, Any]({name: value})), name) == value
    illegal: list[Any] = [least * 0.99, most + 1, 0, -1, float("nan"), float("inf"), None, "1", True]
    for value in illegal:
        with pytest.raises(SpecError) as caught:
            SandboxSpec(**dict[str, Any]({name: value}))
        said = str(caught.value)
        assert said.startswith(f"SandboxSpec.{name}: {value!r} is not ")
        assert f"from {least:,} to {most:,}" in said


@pytest.mark.parametrize("name", sorted(set(RANGES) - {"cpus", "start_timeout_s", "lifetime_s"}))
def test_a_number_of_bytes_or_things_is_whole(name: str) -> None:
    with pytest.raises(SpecError, match="is not an integer"):
        SandboxSpec(**dict[str, Any]({name: float(RANGES[name][1])}))


def test_every_number_has_its_range() -> None:
    numbers = {field.name for field in dataclasses.fields(SandboxSpec) if field.type in ("int", "float")}
    assert numbers == RANGES.keys()


@pytest.mark.parametrize("isolation", ["docker", "", None, "runsc"])
def test_an_unknown_isolation_is_named(isolation: Any) -> None:
    with pytest.raises(SpecError, match=r"SandboxSpec\.isolation: .* is not 'container' or 'gvisor'"):
        SandboxSpec(isolation=isolation)


def test_its_error_is_ours_and_a_value_error() -> None:
    assert issubclass(SpecError, SandboxError)
    assert issubclass(SpecError, ValueError)


def test_it_can_not_be_changed_and_takes_names_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SandboxSpec().memory_bytes = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        SandboxSpec("gvisor")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "image", ["python:3.13", "", None, "sha256:12", "sha256:" + "G" * 64, "data\n", "Data", b"data", 7]
)
def test_an_image_is_one_of_ours_or_an_id(image: Any) -> None:
    with pytest.raises(SpecError, match=r"^SandboxSpec.image: .* is not 'kernel', 'data' or an ID"):
        SandboxSpec(image=image)
    assert [SandboxSpec(image=name).image[:6] for name in ("kernel", "data", "sha256:" + "0a" * 32)] == [
        "kernel",
        "data",
        "sha256",
    ]
