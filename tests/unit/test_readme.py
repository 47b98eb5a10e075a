"""The README's tables say what the code says, and its snippets are Python that imports."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex

import pytest

import orchestrator
from orchestrator import Limits, ProviderError, StopReason
from orchestrator.cli.exits import OF_STOP_REASON, ExitCode, exit_code_of_error
from orchestrator.cli.main import _Parser
from orchestrator.cli.options import LIMIT_OPTIONS, ask_parser
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """The cells of the table in a section, its header left out."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.replace("\\|", "/") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def code_in(cell: str) -> str:
    """The text between backticks, or "" where the cell has none."""
    found = re.search(r"`([^`]+)`", cell)
    return found[1] if found else ""


def test_the_limits_table_holds_every_field_with_its_default() -> None:
    told = {
        code_in(field): float(default.replace(",", "").replace("unlimited", "inf"))
        for field, default, _, _ in table("Limits")
    }
    assert told == {field.name: getattr(Limits(), field.name) for field in dataclasses.fields(Limits)}


def test_the_limits_table_names_the_options() -> None:
    told = {code_in(option): code_in(field) for field, _, option, _ in table("Limits") if option}
    assert told == LIMIT_OPTIONS


def test_the_failures_table_holds_every_exit_code_and_stop_reason() -> None:
    rows = table("When it fails")
    assert {int(code) for *_, code in rows} == set(ExitCode)
    assert {code_in(reason) for _, reason, _, _ in rows} - {""} == {reason.value for reason in StopReason}


def test_the_failures_table_agrees_with_the_code() -> None:
    signals = {ExitCode.INTERRUPTED, ExitCode.TERMINATED, ExitCode.READER_GONE}
    for what, reason, python, code in table("When it fails"):
        if int(code) in signals:
            continue
        raised = getattr(orchestrator, code_in(python), None)
        if raised is not None:
            error = raised("x", provider="p") if raised is ProviderError else raised("x")
            assert exit_code_of_error(error) == int(code), what
        elif reason:
            assert python.startswith("returns") or code_in(reason) == "internal_error", what
        if reason:
            assert OF_STOP_REASON[code_in(reason)] == int(code), what


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_parses_and_its_imports_work(snippet: str) -> None:
    tree = ast.parse(snippet)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    exec(compile(ast.Module(body=[*imports], type_ignores=[]), "README.md", "exec"), {})


def test_the_commands_parse() -> None:
    commands = [line for line in README.splitlines() if re.match(r"(grep .*\| )?airlock ask ", line)]
    assert len(commands) >= 5
    for line in commands:
        words = shlex.split(line[line.index("airlock ask ") :], comments=True)
        ask_parser(_Parser).parse_intermixed_args(words[2:])


def test_the_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`?make ([a-z-]+)", README))
    assert targets >= {"demo", "test", "check", "help"}
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
