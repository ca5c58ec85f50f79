"""How often the bound on a population's gain is wrong, counted over all samples of suites of two sorts of task."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from assay.stats import agent_suites

TASKS = st.integers(1, 10)
TAILS = st.sampled_from([0.005, 0.01, 0.025, 0.05, 0.1])
GAINS = st.floats(-1, 1)


def misses(tasks: int, usual: float, other: float, share: float, tail: float) -> tuple[float, float]:
    """Chances that the lower end lies above the true mean, and the upper end below it, over all samples."""
    true = (1 - share) * usual + share * other
    above = below = 0.0
    for k in range(tasks + 1):
        chance = math.comb(tasks, k) * share**k * (1 - share) ** (tasks - k)
        found = agent_suites.population_gain_interval([usual] * (tasks - k) + [other] * k, 1 - 2 * tail)
        above += chance * (found.lower > true + 1e-9)
        below += chance * (found.upper < true - 1e-9)
    return above, below


@given(TASKS, TAILS, GAINS, GAINS, st.floats(0, 1))
def test_exceptions_that_are_seldom_drawn_are_in_the_bounds(
    tasks: int, tail: float, usual: float, other: float, part: float
) -> None:
    """All tasks gain alike but for any share that may go undrawn, whatever it does: each end keeps its level."""
    share = part * agent_suites.unseen_share(tasks, tail)
    assert max(misses(tasks, usual, other, share, tail)) <= tail * (1 + 1e-9)


@given(TASKS, TAILS, GAINS, GAINS)
def test_symmetric_gains_are_in_the_bounds(tasks: int, tail: float, one: float, other: float) -> None:
    """Two sorts of task, equally frequent: each end keeps its level."""
    assert max(misses(tasks, one, other, 0.5, tail)) <= tail * (1 + 1e-9)


@given(st.lists(GAINS, min_size=1, max_size=12), TAILS)
def test_bounds_are_never_narrower_than_either_ground(gains: list[float], tail: float) -> None:
    """They hold the mean, the sign flips' bounds and what may not have been drawn: they are never certain."""
    found = agent_suites.population_gain_interval(gains, 1 - 2 * tail)
    flips = agent_suites.subset_mean_bounds(gains, 1 - 2 * tail)
    mean, unseen = math.fsum(gains) / len(gains), agent_suites.unseen_share(len(gains), tail)
    assert -1 <= found.lower <= mean <= found.upper <= 1
    assert found.lower <= max(-1, flips.lower)
    assert found.upper >= min(1, flips.upper)
    assert found.lower <= max(-1, mean - unseen * (1 + mean)) + 1e-12
    assert found.upper >= min(1, mean + unseen * (1 - mean)) - 1e-12
    assert found.upper - found.lower >= 2 * unseen - 1e-9
