"""Texts, and the same texts as the box reads large ones, with blocks and windows of a few bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from sandbox.text_index import TextIndex
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from lazy_text import LazyText

CHARACTERS = "ab \n\n\r\t\x0b\x85.éß\u0130ı\u0301\u0431Ж\u2028漢\ud800\U0001f600\U0001f1e9"
"""Of one to four bytes; what combines, what folds strangely, what separates lines for others, and a lone surrogate."""

texts = st.one_of(st.text(CHARACTERS, max_size=60), st.text("ab\n", max_size=60), st.text(max_size=20))
sizes = st.integers(1, 9)
bounds = st.none() | st.integers(-70, 70)


@contextmanager
def small_windows(**chars: int) -> Iterator[None]:
    """The box's programs in this process, with windows of these sizes: `window_bytes` and so on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "images" / "kernel"))
        import lazy_file
        import lazy_search
        import lazy_text

        modules: dict[str, Any] = {"window_bytes": lazy_file, "step_chars": lazy_text}
        for name, value in chars.items():
            patch.setattr(modules.get(name, lazy_search), name.upper(), value)
        yield


def lazy(text: str, block_bytes: int, memory_bytes: int = 0) -> LazyText:
    """A text as the box has it. Its files are gone again; what is mapped stays."""
    from lazy_text import LazyText

    raw = text.encode("utf-8", "surrogatepass")
    index = TextIndex(block_bytes)
    index.add(raw)
    with tempfile.TemporaryDirectory() as folder:
        path, index_path = Path(folder, "text"), Path(folder, "index")
        path.write_bytes(raw)
        index_path.write_bytes(index.to_bytes())
        return LazyText(str(path), str(index_path), memory_bytes)


def result(function: Any) -> Any:
    """What a call returns, or the type of what it raises."""
    try:
        return function()
    except Exception as error:
        return type(error)
