"""The skills script as a module, without putting its folder on the path."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

RELEASE = Path(__file__).resolve().parents[3] / "examples" / "release"


@pytest.fixture(scope="session")
def skills() -> ModuleType:
    """`examples/release/skills.py`."""
    spec = importlib.util.spec_from_file_location("example_skills", RELEASE / "skills.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
