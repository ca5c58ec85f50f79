"""What is derived is up to date: schemas, reference pages, the support table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from assay import registry
from assay.core.triage import TRIAGE
from assay.core.vocabulary import FailureClass, Verb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The script that derives."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_derived_files_are_up_to_date(build: ModuleType) -> None:
    """`make docs` would change nothing."""
    stale = [
        str(path.relative_to(ROOT))
        for path, text in build.files()
        if path.read_text(encoding="utf-8") != text
    ]
    assert stale == []


def test_support_table_names_every_kind(build: ModuleType) -> None:
    """A kind that is shipped says where it was seen to run."""
    shipped = {(verb.value, kind) for verb in Verb for kind in registry.kinds(verb)}
    assert set(build.SUPPORT) == shipped


def test_every_failure_class_has_a_rule() -> None:
    """Triage is total."""
    assert set(TRIAGE) == set(FailureClass)
