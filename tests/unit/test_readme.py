"""README and docs: tables say what the code says, snippets are Python that imports, links lead somewhere."""

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

PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
}
ALL = "\n".join(PAGES.values())
SNIPPETS = re.findall(r"```python\n(.*?)```", ALL, re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, its header left out."""
    section = re.split(rf"^#+ {heading}\n", ALL, maxsplit=1, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
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
    exec(compile(ast.Module(body=[*imports], type_ignores=[]), "a page", "exec"), {})


def test_the_commands_parse() -> None:
    commands = [line for line in ALL.splitlines() if re.match(r"(grep .*\| )?airlock ask ", line)]
    assert len(commands) >= 5
    for line in commands:
        words = shlex.split(line[line.index("airlock ask ") :], comments=True)
        ask_parser(_Parser).parse_intermixed_args(words[2:])


def test_the_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`?make ([a-z-]+)", PAGES["README.md"]))
    assert targets >= {"demo", "test", "check", "help"}
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def anchors(page: str) -> set[str]:
    """What links into a page may name, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    here = (REPOSITORY / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = here / path if path else REPOSITORY / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_each_feature_links_what_documents_it_and_a_test() -> None:
    rows = table("What it can do, beside others")
    assert len(rows) >= 30
    for what, ours, tested, *others in rows:
        assert re.search(r"\]\((docs/\w+\.md)?(#[\w-]+)?\)", ours), what
        (file,) = re.findall(r"\]\((tests/\S+\.py)\)", tested)
        assert re.search(r"^(async )?def test_", (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE), what
        assert len(others) == 3, what
