"""The public face of the package."""

from __future__ import annotations

import ast
import types
from pathlib import Path

import assay.stats


def test_all_is_sorted_and_complete() -> None:
    """__all__ is sorted and names every public thing that the package re-exports."""
    names = assay.stats.__all__
    public = {
        name
        for name, value in vars(assay.stats).items()
        if not name.startswith("_") and name != "annotations" and not isinstance(value, types.ModuleType)
    }
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))
    assert set(names) == public


def test_public_names_are_documented() -> None:
    """Every public function and class has a docstring; functions that can refuse say what they raise."""
    for name in assay.stats.__all__:
        thing = getattr(assay.stats, name)
        if isinstance(thing, types.FunctionType | type):
            assert thing.__doc__, name
        if isinstance(thing, types.FunctionType):
            assert "Raises:" in thing.__doc__, name


def test_imports_stay_in_the_package() -> None:
    """The package imports the standard library, numpy, scipy and itself, nothing else."""
    allowed = {
        "__future__",
        "collections",
        "dataclasses",
        "functools",
        "hashlib",
        "math",
        "numbers",
        "numpy",
        "scipy",
        "typing",
    }
    for path in Path(assay.stats.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] in allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, path
