"""How often the default is left although all settings are the same: at most the declared rate."""

from __future__ import annotations

import math
import random

import pytest
from scipy.stats import binom

from assay.stats.selection import Look, RaceRule, next_block, standings

pytestmark = pytest.mark.slow

RUNS = 300
SURE = 1e-4
"""Chance that a right rule fails this test."""


def changed(seed: int, cells: int, cv: float, drift: float) -> bool:
    """One race among identical cells on a noisy, drifting machine."""
    draw = random.Random(f"{seed}/{cells}")
    arms = tuple(f"c{k}" for k in range(cells))
    looks: list[Look] = []
    while (block := next_block(arms, "c0", looks, RaceRule(), seed)) is not None:
        for position, arm in enumerate(block.arms):
            lost = math.log1p(-drift * min(1.0, len(looks) / 40))
            looks.append(Look(arm, lost + draw.gauss(0.0, cv), block.kind, block.number, position))
    return standings(arms, "c0", looks).reference != "c0"


@pytest.mark.parametrize(("cells", "cv", "drift"), [(12, 0.1, 0.17), (6, 0.05, 0.17), (3, 0.2, 0.0)])
def test_false_change(cells: int, cv: float, drift: float) -> None:
    """The default is left by luck in no more studies than alpha allows."""
    count = sum(changed(seed, cells, cv, drift) for seed in range(RUNS))
    assert binom.sf(count - 1, RUNS, RaceRule().alpha) > SURE
