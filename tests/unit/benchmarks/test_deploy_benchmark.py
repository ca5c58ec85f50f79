"""The benchmark of the deploy gate: each part in a tiny run, and the source's rule by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import deploy_gate as benchmark


@pytest.mark.parametrize(
    ("part", "draws"),
    [
        (benchmark.same_as_gate, 3),
        (benchmark.d1, 60),
        (benchmark.d2, 60),
        (benchmark.d3, 60),
        (benchmark.d4, 40),
        (benchmark.d5, 40),
        (benchmark.d6, 1),
        (benchmark.d7, 20),
    ],
)
def test_every_part_answers(part: Any, draws: int) -> None:
    """Rows with names, finite values and a target where there is one."""
    rows = part(np.random.default_rng(1), draws)
    assert rows
    for row in rows:
        assert row.name
        assert row.value is None or np.isfinite(row.value)
        assert (row.target == "") is (row.ok is None)


def test_the_sources_rule_deploys_an_unchanged_text() -> None:
    """A third of the time and more, at five tasks."""
    share = benchmark.seed_deploys(np.random.default_rng(2), np.full(5, 0.5), np.full(5, 0.5), 20_000)
    assert share.percent == pytest.approx(37.7, abs=1.5)


def test_the_vectorised_words_are_the_gates() -> None:
    """The same counts through both: not one differs."""
    (row,) = benchmark.same_as_gate(np.random.default_rng(4), 25)
    assert row.value == 0
    assert row.ok
