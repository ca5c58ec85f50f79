"""What the stories share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twin_project import Project, lay_out, lent


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The twin, laid out; at the end nothing of it may run."""
    yield from lent(lay_out(tmp_path / "project"))
