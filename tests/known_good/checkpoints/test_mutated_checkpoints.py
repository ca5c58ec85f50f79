"""A sample of `benchmarks/mutation.py`: no corruption of a promised fact ends in a pass."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("gguf")
sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))


@pytest.mark.slow
def test_no_corruption_of_a_promised_fact_passes() -> None:
    """Every ninth of a corruption kind on every real checkpoint, by another seed than the benchmark's."""
    tally = importlib.import_module("mutation").mutate(300, seed=1)
    assert tally.missed == []
    assert sum(tally.found.values()) > 200
