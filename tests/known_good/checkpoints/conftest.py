"""Real checkpoints for the tests, unpacked once."""

from __future__ import annotations

from pathlib import Path

import pytest
from good_cases import unpack


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what toolkits wrote."""
    return unpack(tmp_path_factory.mktemp("real"))
