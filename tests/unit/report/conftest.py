"""Release studies in small, for the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from release_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A study that was not run yet."""
    return World(tmp_path)


@pytest.fixture
def finished(tmp_path: Path) -> World:
    """A study that ended: a regression, an inconclusive, an accepted and one that was not tried."""
    return World(tmp_path).run()
