"""`assay.track` needs nothing but Python; foreign modules are used only if the script loaded them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import assay.track

FOLDER = Path(assay.track.__file__).parent
OWN_VENDOR = ("frameworks", "sinks")
"""Each file there is imported by its name alone, by a script that uses its vendor."""
MODULES = sorted(p for p in FOLDER.rglob("*.py") if p.relative_to(FOLDER).parts[0] not in OWN_VENDOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_the_standard_library_alone(path: Path) -> None:
    """No module imports a package that is installed, nor another floor of ours, not even inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names = [node.module]
        for name in names:
            ours = name == "assay.track" or name.startswith("assay.track.")
            known = name.split(".")[0] in sys.stdlib_module_names
            assert ours or known, f"{path.name}:{node.lineno} imports {name}"  # type: ignore[attr-defined]
