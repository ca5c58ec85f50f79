"""Which values a task's verifier expects, and whether a text gives them away."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from assay.core.suite import Fixture, Suite, Task

STRING_CHARS = 6
"""A shorter expected text says nothing when it is found elsewhere."""
NUMBER_CHARS = 4
NGRAM_WORDS = 8
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.){6,200})"|\'((?:[^\'\\\n]|\\.){6,200})\'')
_TRANSPARENT = frozenset(
    {"abs", "approx", "dict", "float", "frozenset", "int", "list", "round", "set", "sorted", "tuple"}
)
"""Calls around an expected value that do not make it an argument of what is tested."""
_WORD = re.compile(r"\w+|[^\w\s]")


def expected_values(task: Task) -> frozenset[str]:
    """Texts and numbers that the deciding files compare with, long enough to be told from chance."""
    own = {f.path for f in task.fixtures}
    files = [f for f in task.verifier.files if f.path not in own]
    return frozenset(v for f in files for v in _values(f) if _telling(v))


def own_answers(suite: Suite) -> Mapping[str, frozenset[str]]:
    """Task → contents of its expected files that no other task expects; what several expect is a word of the rules."""
    contents = {t.task_id: {f.text.strip() for f in t.verifier.equals} for t in suite.tasks}
    often = Counter(c for found in contents.values() for c in found)
    return {
        task_id: frozenset(c for c in found if often[c] == 1 and _telling(c))
        for task_id, found in contents.items()
        if found
    }


def given_away(values: Iterable[str], text: str) -> list[str]:
    """Those of the values that stand in a text as a whole word."""
    return sorted(v for v in values if v in text and re.search(rf"(?<!\w){re.escape(v)}(?!\w)", text))


def ngrams(text: str, length: int = NGRAM_WORDS) -> frozenset[tuple[str, ...]]:
    """All runs of that many words and signs, without those of signs alone."""
    words = _WORD.findall(text)
    runs = (tuple(words[i : i + length]) for i in range(len(words) - length + 1))
    return frozenset(r for r in runs if sum(w[0].isalnum() for w in r) * 2 >= length)


def solution_lines(task: Task, shortest: int = 12) -> frozenset[str]:
    """Lines that only the reference has: what the agent is to find."""
    given = {line.strip() for f in task.fixtures for line in f.text.splitlines()}
    found = {line.strip() for f in task.reference for line in f.text.splitlines()}
    return frozenset(line for line in found - given if len(line) >= shortest)


def _values(file: Fixture) -> Iterator[str]:
    if not file.path.endswith(".py"):
        yield from (a or b for a, b in _QUOTED.findall(file.text))
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the file's own escapes; they are no business of ours
            tree = ast.parse(file.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                yield from _constants(side)
        elif isinstance(node, ast.Call) and "assert" in _called(node).lower():
            for argument in node.args:
                yield from _constants(argument)


def _constants(start: ast.expr) -> Iterator[str]:
    """Literals of one side of a comparison, in sums and collections too; what calls are asked with is no answer."""
    waiting = [start]  # no recursion: a sum of ten thousand terms is a tree as deep
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str | int | float) and not isinstance(node.value, bool):
                yield str(node.value)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            waiting += node.elts
        elif isinstance(node, ast.Dict):
            waiting += node.values
        elif isinstance(node, ast.BinOp):
            waiting += (node.left, node.right)
        elif isinstance(node, ast.UnaryOp):
            waiting.append(node.operand)
        elif isinstance(node, ast.Call) and _called(node) in _TRANSPARENT:
            waiting += node.args


def _called(node: ast.Call) -> str:
    name = node.func
    return name.attr if isinstance(name, ast.Attribute) else name.id if isinstance(name, ast.Name) else ""


def _telling(value: str) -> bool:
    plain = value.strip()
    if re.fullmatch(r"[-+\d.eE]+", plain):
        return (
            len(plain.strip("-+").replace(".", "").strip("0")) >= NUMBER_CHARS - 1
            and len(plain) >= NUMBER_CHARS
        )
    return len(plain) >= STRING_CHARS
