"""Extra modules: what is read, and every refusal by its name."""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from orchestrator import RLM, ConfigError, ScriptedProvider
from orchestrator.modules import MAX_BYTES, MAX_FILES, MAX_FOLDERS_DEEP, MAX_SETUP_BYTES, checked_setup, read_modules


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "__init__.py").write_text("")
    return path


def test_files_packages_and_sources_are_read_by_their_path(tmp_path: Path) -> None:
    package = folder(tmp_path / "tables")
    inner = folder(package / "inner")
    (inner / "read.py").write_text("X = 1")
    (package / "py.typed").write_text("")
    (package / ".hidden").write_text("")
    (package / "__pycache__").mkdir()
    file = tmp_path / "one.py"
    file.write_text("raise SystemExit  # never executed here\n")
    assert read_modules([str(file), package]) == {
        "one.py": b"raise SystemExit  # never executed here\n",
        "tables/__init__.py": b"",
        "tables/inner/__init__.py": b"",
        "tables/inner/read.py": b"X = 1",
    }
    assert read_modules({"two": "Y = 2", "three": file}) == {"two.py": b"Y = 2", "three.py": file.read_bytes()}
    assert read_modules({"renamed": package}).keys() == {
        "renamed/__init__.py", "renamed/inner/__init__.py", "renamed/inner/read.py"
    }  # fmt: skip
    assert read_modules(()) == {}
    assert "one" not in sys.modules


@pytest.mark.parametrize(
    "name", ["json", "context", "context_3", "llm_query", "FINAL", "history", "for", "a-b", "_x", ""]
)
def test_names_that_no_module_can_have(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^modules\["):
        read_modules({name: "x = 1"})


@pytest.mark.parametrize("given", ["one.py", Path("one.py"), 7, [7], {"a": b"x"}, {7: "x"}])
def test_what_is_no_list_of_paths(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"^modules"):
        read_modules(given)


def test_links_pipes_and_other_files_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("key")
    (tmp_path / "linked.py").symlink_to(secret)
    (tmp_path / "real.py").write_text("")
    (tmp_path / "twice.py").symlink_to(tmp_path / "real.py")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "library.so").write_bytes(b"\x7fELF")
    linked_folder = tmp_path / "outside"
    linked_folder.symlink_to(folder(tmp_path / "inside"))
    for name in ("linked.py", "twice.py", "pipe.py", "library.so", "outside", "missing.py"):
        with pytest.raises(ConfigError, match=r"symbolic link|no \.py file|can't be read"):
            read_modules({"mine": tmp_path / name})


@pytest.mark.parametrize("what", ["link", "folder link", "pipe", "data", "no init"])
def test_what_a_package_may_not_hold(tmp_path: Path, what: str) -> None:
    package = folder(tmp_path / "package")
    if what == "link":
        (package / "a.py").symlink_to("/etc/passwd")
    elif what == "folder link":
        (package / "a").symlink_to("/etc")
    elif what == "pipe":
        os.mkfifo(package / "a.py")
    elif what == "data":
        (package / "a.json").write_text("{}")
    else:
        (package / "__init__.py").unlink()
    with pytest.raises(ConfigError, match=r"symbolic link 'a|only \.py files|no package"):
        read_modules([package])


def test_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than"):
        read_modules({"a": "x" * (MAX_BYTES + 1)})
    with pytest.raises(ConfigError, match="more than"):
        read_modules({f"m{number}": "" for number in range(MAX_FILES + 1)})
    with (tmp_path / "big.py").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="more than"):
        read_modules([tmp_path / "big.py"])
    package = folder(tmp_path / "package")
    for number in range(MAX_FILES):
        (package / f"m{number}.py").write_text("")
    with pytest.raises(ConfigError, match="more than"):
        read_modules([package])
    deep = folder(tmp_path / "deep")
    for _ in range(MAX_FOLDERS_DEEP):
        deep = folder(deep / "x")
    with pytest.raises(ConfigError, match="folders in each other"):
        read_modules([tmp_path / "deep"])


def test_a_name_is_given_once(tmp_path: Path) -> None:
    (tmp_path / "same.py").write_text("")
    with pytest.raises(ConfigError, match="twice"):
        read_modules([tmp_path / "same.py", folder(tmp_path / "same")])


@pytest.mark.parametrize("setup", [7, None, b"x = 1", "x" * (MAX_SETUP_BYTES + 1)])
def test_setup_code_is_text_of_a_bounded_size(setup: Any) -> None:
    with pytest.raises(ConfigError, match=r"^setup_code"):
        checked_setup(setup)
    with pytest.raises(ConfigError, match=r"^setup_code"):
        RLM(ScriptedProvider(["FINAL(x)"]), setup_code=setup)


def test_a_package_is_given_up_before_more_of_it_is_read_than_may_be(tmp_path: Path) -> None:
    package = folder(tmp_path / "package")
    for number in range(40):
        with (package / f"m{number}.py").open("wb") as file:
            file.truncate(MAX_BYTES)
    tracemalloc.start()
    with pytest.raises(ConfigError, match="more than"):
        read_modules([package])
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 4 * MAX_BYTES
