"""Q1 to Q6 and Q12 of statistics.md section 5: error rates and power of the verdict at a fixed size.

Each rate is simulated with a seed and held against its target by its exact (Clopper-Pearson) bound.
The source's rule, "accept if the point drop is at most the margin", is printed beside it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from assay.stats import (
    guard_margin,
    holm,
    paired_test,
    pairs_to_settle,
    tango_test,
)

MARGIN, ALPHA = 0.01, 0.05
RATES = [0.05, *(pytest.param(rate, marks=pytest.mark.slow) for rate in (0.03, 0.10))]


def drawn_flips(rng: Any, draws: int, n: int, rate: float, drop: float) -> np.ndarray:
    """Counts of flips against and for the candidate, shape (draws, 2)."""
    return rng.multinomial(n, [(rate + drop) / 2, (rate - drop) / 2, 1 - rate], size=draws)[:, :2]


@cache
def exact_or_score(b: int, c: int, n: int) -> tuple[float, float]:
    """The product's test of one table: exact below 20 flips, score from there on."""
    test = paired_test(b, c, n, MARGIN)
    return test.p_accept, test.p_regress


def p_values(flips: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Both p-values of each draw."""
    result = tango_test(flips[:, 0], flips[:, 1], n, MARGIN)
    accept, regress = result.p_accept.copy(), result.p_regress.copy()
    few = flips.sum(axis=1) < 20
    tables, where = np.unique(flips[few], axis=0, return_inverse=True)
    if len(tables):
        exact = np.array([exact_or_score(int(b), int(c), n) for b, c in tables])
        accept[few], regress[few] = exact[where.ravel()].T
    return accept, regress


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    "n", [200, 1000, 10_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (500, 2000, 5000))]
)
def test_q1_false_accept_at_the_margin(book: Any, n: int, rate: float) -> None:
    """Q1: at a true drop of the margin ACCEPT in at most 5.6 %; the source accepts 50 to 59 %."""
    draws = 60_000
    flips = drawn_flips(np.random.default_rng(n), draws, n, rate, MARGIN)
    accept, regress = p_values(flips, n)
    source = ((flips[:, 0] - flips[:, 1]) / n <= MARGIN + 1e-12).mean()
    book.note(f"source's rule at n {n}, flip rate {rate}: {source:.1%}")
    book.at_most("Q1 false ACCEPT", (accept <= ALPHA).sum(), draws, 0.056)
    book.at_most("Q1 false REGRESSION", (regress <= ALPHA).sum(), draws, 0.056)
    assert source > 0.49


@pytest.mark.parametrize("rate", RATES)
def test_q2_accept_at_twice_the_margin(book: Any, rate: float) -> None:
    """Q2: at twice the margin, 1,000 pairs, ACCEPT in at most 0.5 %; the source 4 to 18 %."""
    draws, n = 200_000, 1000
    flips = drawn_flips(np.random.default_rng(2), draws, n, rate, 2 * MARGIN)
    book.note(f"source's rule: {((flips[:, 0] - flips[:, 1]) / n <= MARGIN + 1e-12).mean():.1%}")
    book.at_most(f"Q2 flip rate {rate}", (p_values(flips, n)[0] <= ALPHA).sum(), draws, 0.005)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("n", "target"), [(200, 0.025), (1000, 0.005)])
def test_q3_false_regression_at_zero_drop(book: Any, n: int, target: float, rate: float) -> None:
    """Q3: a perfect candidate is called REGRESSION in at most 2.5 % (200 pairs), 0.5 % (1,000)."""
    draws = 150_000
    flips = drawn_flips(np.random.default_rng(3), draws, n, rate, 0.0)
    book.note(f"source's rule refuses {((flips[:, 0] - flips[:, 1]) / n > MARGIN + 1e-12).mean():.1%}")
    book.at_most(f"Q3 n {n}, flip rate {rate}", (p_values(flips, n)[1] <= ALPHA).sum(), draws, target)


def suite_verdicts(rng: Any, draws: int, n: int, rate: float, drops: list[float]) -> tuple[np.ndarray, ...]:
    """ACCEPT and REGRESSION of the macro rule with guards, and the source's rule, over tasks of n pairs."""
    tasks = len(drops)
    flips = np.stack([drawn_flips(rng, draws, n, rate, drop) for drop in drops], axis=1).astype(float)
    b, c = flips[..., 0], flips[..., 1]
    drop = (b - c) / n
    variance = np.maximum((b + c + 1) / (n + 2) - drop**2, 1 / (n + 2))
    z = (drop.mean(axis=1) - MARGIN) / (np.sqrt((variance / n).sum(axis=1)) / tasks)
    guard = guard_margin(n, rate)
    assert guard is not None
    guarded = (tango_test(b, c, n, guard).p_accept <= ALPHA).all(axis=1)
    single = tango_test(b, c, n, MARGIN).p_regress
    worst = np.array([holm(row).min() for row in single[single.min(axis=1) <= ALPHA]])
    regress = z >= 1.959964
    regress[single.min(axis=1) <= ALPHA] |= worst <= ALPHA / 2
    return (z <= -1.644854) & guarded & ~regress, regress, (drop <= MARGIN + 1e-12).all(axis=1)


def test_q4_perfect_candidate_over_eight_tasks(book: Any) -> None:
    """Q4: eight tasks of 1,000, no drop: ACCEPT at least 85 %, REGRESSION at most 0.5 %; the source 48 %."""
    draws = 30_000
    accept, regress, source = suite_verdicts(np.random.default_rng(4), draws, 1000, 0.06, [0.0] * 8)
    book.note(f"source's rule accepts {source.mean():.1%}")
    book.at_least("Q4 ACCEPT", accept.sum(), draws, 0.85)
    book.at_most("Q4 REGRESSION", regress.sum(), draws, 0.005)


def test_q5_one_bad_task_of_eight(book: Any) -> None:
    """Q5: one task 5 points down: ACCEPT at most 0.1 %, REGRESSION at least 98 %."""
    draws = 30_000
    accept, regress, _ = suite_verdicts(np.random.default_rng(5), draws, 1000, 0.06, [0.05] + [0.0] * 7)
    book.at_most("Q5 ACCEPT", accept.sum(), draws, 0.001)
    book.at_least("Q5 REGRESSION", regress.sum(), draws, 0.98)


@pytest.mark.parametrize(("n", "target"), [(5000, 0.93), (10_000, 0.995)])
def test_q6_power_at_zero_drop(book: Any, n: int, target: float) -> None:
    """Q6, fixed: flip rate 5 %, no drop: ACCEPT at least 93 % with 5,000 pairs, 99.5 % with 10,000."""
    draws = 400_000
    flips = drawn_flips(np.random.default_rng(6), draws, n, 0.05, 0.0)
    accept = tango_test(flips[:, 0], flips[:, 1], n, MARGIN).p_accept
    book.at_least(f"Q6 n {n}", (accept <= ALPHA).sum(), draws, target)


@pytest.mark.parametrize("rate", RATES)
def test_q12_pairs_needed_hold_their_power(book: Any, rate: float) -> None:
    """Q12: the total named after INCONCLUSIVE gives ACCEPT in 75 to 90 % of fresh studies of that size."""
    rng, draws, n = np.random.default_rng(12), 40_000, 1000
    flips = drawn_flips(rng, draws, n, rate, 0.0)
    accept, regress = p_values(flips, n)
    undecided = flips[(accept > ALPHA) & (regress > ALPHA)]
    tables, times = np.unique(undecided, axis=0, return_counts=True)
    needed = [pairs_to_settle(int(b), int(c), n, MARGIN).accept_at_zero_drop for b, c in tables]
    totals = np.repeat(np.array(needed, dtype=int), times)
    again = rng.multinomial(totals, [rate / 2, rate / 2, 1 - rate])
    hits = (tango_test(again[:, 0], again[:, 1], totals, MARGIN).p_accept <= ALPHA).sum()
    book.at_least(f"Q12 flip rate {rate}", hits, len(totals), 0.75)
    book.at_most(f"Q12 flip rate {rate}", hits, len(totals), 0.90)
