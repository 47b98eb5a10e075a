"""A context as a str is what its file says, however it is read."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conftest import REPOSITORY
from tests.kernel.lazy_texts import texts

ASCII = "".join(map(chr, range(128)))
SIZES = [0, 1, 2, 3, 8, mmap.PAGESIZE - 1, mmap.PAGESIZE, 3 * mmap.PAGESIZE + 5, (4 << 20) + 1]


@pytest.fixture(scope="module")
def box() -> Iterator[Any]:
    """The box's program in this process, which reads ASCII directly from the first byte on, a few bytes at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "images" / "kernel"))
        import whole_text

        patch.setattr(whole_text, "DIRECT_BYTES", 0)
        yield whole_text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("read_bytes", "huge_bytes"), [(4093, 0), (1 << 30, 1 << 30)])
def test_ascii_is_a_str_like_any_other(
    box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, read_bytes: int, huge_bytes: int
) -> None:
    monkeypatch.setattr(box, "READ_BYTES", read_bytes)
    monkeypatch.setattr(box, "HUGE_BYTES", huge_bytes)
    expected = (ASCII * (size // len(ASCII) + 1))[:size]
    path = tmp_path / "text"
    path.write_text(expected, newline="")
    got = box.read_text(str(path), is_ascii=True)
    path.write_text("changed")
    assert got == expected
    assert (type(got), len(got), hash(got), got.isascii()) == (str, size, hash(expected), True)
    assert got.encode() == expected.encode()
    assert json.loads(json.dumps(got)) == got
    assert (got + "é").upper() == (expected + "é").upper()
    assert len(re.findall("q", got)) == expected.count("q")
    assert {expected: 1}[got] == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts)
def test_any_text_is_what_was_stored(box: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert box.read_text(str(path), is_ascii=False) == text
    assert box.read_text(str(path), is_ascii=text.isascii()) == text


def test_a_file_that_ends_too_soon_is_no_text(box: Any) -> None:
    """Files of sysfs have a page by their size and less to read."""
    path = "/sys/kernel/uevent_seqnum"
    assert Path(path).stat().st_size > len(Path(path).read_bytes())
    with pytest.raises(OSError, match="ends before its end"):
        box.read_text(path, is_ascii=True)
