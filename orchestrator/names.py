"""The names that the root's code binds: read from its replies on the host, never asked of the box."""

from __future__ import annotations

import ast
import contextlib
import warnings
from typing import Final

MAX_PARSED_CHARS: Final = 64 * 1024
MAX_NAMES_CHARS: Final = 2_000
_MAX_NAME_CHARS: Final = 60


def parse(code: str) -> ast.Module | None:
    """A cell as plain Python; None where it is none, or too long: parsing takes time and memory."""
    if len(code) > MAX_PARSED_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the root's style; they would quote its code on the operator's terminal
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class BoundNames:
    """Names that the cells of a REPL have bound at their top level."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def learn(self, code: str) -> None:
        """Take over what a cell that ended well has bound and deleted. Only ever give it code that the root wrote."""
        tree = parse(code)
        if tree is not None:
            with contextlib.suppress(RecursionError):  # a sum of a thousand terms is as deep
                _Binder(self._names).visit(tree)

    def forget(self) -> None:
        """The REPL was started anew."""
        self._names.clear()

    def said(self) -> str:
        """The names, those bound last first, as many as fit into `MAX_NAMES_CHARS`."""
        said, room = [], MAX_NAMES_CHARS
        for name in reversed(self._names):
            room -= len(name) + 2
            if room < 0:
                break
            said.append(name)
        return ", ".join(said)


class _Binder(ast.NodeVisitor):
    """Bodies of functions, classes and comprehensions have names of their own."""

    def __init__(self, names: dict[str, None]) -> None:
        self._names = names

    def _bind(self, name: str | None) -> None:
        if name and len(name) <= _MAX_NAME_CHARS and not name.startswith("_"):
            self._names.pop(name, None)
            self._names[name] = None

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        elif isinstance(node.ctx, ast.Del):
            self._names.pop(node.id, None)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the names are those of `ast`
    visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_alias(self, node: ast.alias) -> None:
        self._bind(node.asname or node.name.partition(".")[0])

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.generic_visit(node)
        self._bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._bind(node.name)

    def _skip(self, node: ast.AST) -> None:
        """Nothing in it binds a name of the REPL's (but for the rare ``:=``)."""

    visit_Lambda = visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _skip  # noqa: N815
