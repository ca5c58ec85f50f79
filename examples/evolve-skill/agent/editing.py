"""A program as text and tree: replaces an expression or statement and leaves every other line as it is."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from typing import Any


class Program:
    """A module's source, its tree, and who is whose parent."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = ast.parse(source)
        self.parent = {}
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parent[child] = node
        starts = [0]
        for line in source.encode().split(b"\n"):
            starts.append(starts[-1] + len(line) + 1)
        self._starts = starts

    def each(self, *kinds: type[ast.AST]) -> list[Any]:
        """All nodes of some kinds, in the order of the text."""
        found = [n for n in ast.walk(self.tree) if isinstance(n, kinds)]
        return sorted(found, key=lambda n: (getattr(n, "lineno", 0), getattr(n, "col_offset", 0)))

    def functions(self) -> list[ast.FunctionDef]:
        """All functions with a name."""
        return self.each(ast.FunctionDef)

    def statement(self, node: ast.AST) -> ast.stmt:
        """The statement that a node belongs to."""
        while not isinstance(node, ast.stmt):
            node = self.parent[node]
        return node

    def swapped(self, *pairs: tuple[ast.AST, ast.AST], imports: Sequence[str] = ()) -> str:
        """The source with nodes replaced by others; only the expressions around them are written anew.

        Args:
            *pairs: (node, what takes its place); None for a node means that nothing is replaced.
            imports: lines that the program needs then.
        """
        whole = {}
        for node, _ in pairs:
            root = self._root(node)
            whole.setdefault(root, []).append(node)
        places = dict(pairs)
        pieces = []
        for root, nodes in whole.items():
            new = _rebuilt(root, {n: places[n] for n in nodes})
            pieces.append((*self._span(root), ast.unparse(ast.fix_missing_locations(new))))
        return self._spliced(pieces, imports)

    def without(self, statement: ast.stmt) -> str | None:
        """The source without a statement; None where its block would be empty."""
        block = self.block(statement)
        if block is None or len(block) == 1:
            return None
        return self._lines_replaced([(statement.lineno - 1, statement.end_lineno, [])])

    def block(self, statement: ast.stmt) -> list[ast.stmt] | None:
        """The list of statements that a statement stands in."""
        for _, value in ast.iter_fields(self.parent[statement]):
            if isinstance(value, list) and statement in value:
                return value
        return None

    def moved(self, statement: ast.stmt, loop: ast.For | ast.While, *, before: bool) -> str | None:
        """The source with a statement of a loop put before or behind the loop."""
        if len(loop.body) == 1:
            return None
        lines = self.source.split("\n")[statement.lineno - 1 : statement.end_lineno]
        shift = statement.col_offset - loop.col_offset
        own = [line[shift:] for line in lines]
        taken = (statement.lineno - 1, statement.end_lineno, [])
        at = loop.lineno - 1 if before else loop.end_lineno
        if not before and statement.end_lineno == loop.end_lineno:
            return self._lines_replaced([(statement.lineno - 1, statement.end_lineno, own)])
        return self._lines_replaced([taken, (at, at, own)])

    def begun(self, function: ast.FunctionDef, lines: Sequence[str], imports: Sequence[str] = ()) -> str:
        """The source with lines at the beginning of a function, behind its docstring."""
        first = function.body[0]
        skip = (
            isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(function.body) > 1
        )
        first = function.body[1] if skip else first
        at = first.lineno - 1
        return self._lines_replaced([(at, at, [" " * first.col_offset + line for line in lines])], imports)

    def replaced(self, statement: ast.stmt, lines: Sequence[str]) -> str:
        """The source with a simple statement written as other lines."""
        own = [" " * statement.col_offset + line for line in lines]
        return self._lines_replaced([(statement.lineno - 1, statement.end_lineno, own)])

    def with_constant(self, name: str, value: str) -> str | None:
        """The source with another value of a module's constant; None where there is none of that name."""
        for statement in self.tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                names = [t.id for t in statement.targets if isinstance(t, ast.Name)]
                if name in names:
                    kind = type(statement.value.value)
                    new = value if kind is str else ast.literal_eval(value)
                    return self.swapped((statement.value, ast.Constant(new)))
        return None

    def numbers_told(self) -> list[int]:
        """Whole numbers above one that docstrings name, as ingredients of a repair."""
        told: list[str] = []
        for node in [self.tree, *self.functions()]:
            text = (ast.get_docstring(node) or "").replace(",", "").replace(".", " ")
            told += [word for w in text.split() if (word := w.strip("();:")).isdecimal()]
        return [n for n in dict.fromkeys(map(int, told)) if n > 1]

    def _root(self, node: ast.AST) -> ast.AST:
        """The largest expression around a node."""
        best = node
        while not isinstance(node, ast.stmt | ast.excepthandler | ast.withitem | ast.Module):
            if isinstance(node, ast.expr):
                best = node
            node = self.parent[node]
        return best

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _spliced(self, pieces: Sequence[Any], imports: Sequence[str]) -> str:
        data = self.source.encode()
        for start, end, text in sorted(pieces, reverse=True):
            data = data[:start] + text.encode() + data[end:]
        return _importing(data.decode(), imports)

    def _lines_replaced(self, pieces: Sequence[Any], imports: Sequence[str] = ()) -> str:
        lines = self.source.split("\n")
        for start, end, new in sorted(pieces, key=lambda p: p[:2], reverse=True):
            lines[start:end] = new
        return _importing("\n".join(lines), imports)


def _rebuilt(root: ast.AST, places: Mapping[ast.AST, ast.AST]) -> Any:
    """A copy of an expression with some of its nodes replaced."""
    memo = {id(node): new for node, new in places.items()}
    return memo[id(root)] if id(root) in memo else copy.deepcopy(root, memo)


def _importing(source: str, imports: Sequence[str]) -> str:
    missing = [line for line in imports if line not in source.split("\n")]
    if not missing:
        return source
    tree = ast.parse(source)
    at = tree.body[0].end_lineno if ast.get_docstring(tree) else 0
    lines = source.split("\n")
    return "\n".join([*lines[:at], *missing, *lines[at:]])
