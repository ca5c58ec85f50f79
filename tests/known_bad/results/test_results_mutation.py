"""Corruptions of good result folders: none that changes a promised fact passes both gates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from mutation_results import mutate


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_corruption_passes_unseen(seed: int) -> None:
    """A small share of what `benchmarks/mutation.py` does, with seeds of its own."""
    tally = mutate(120, seed)
    assert tally.total == 120
    assert not tally.missed
    assert sum(tally.found.values()) > 40
