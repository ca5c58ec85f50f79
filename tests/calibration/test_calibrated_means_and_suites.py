"""Q9 to Q11 of statistics.md section 5: clustered repeats, agent suites, throughput."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from assay.stats import (
    clustered_mean,
    stratified_exact_test,
    task_sign_flip_test,
    throughput_test,
)
from assay.stats.two_sample import stratified_score

RATES = np.array([0.95, 0.8, 0.6, 0.9, 0.75])


def repeats_at_the_margin(rng: Any, draws: int, items: int, repeats: int, margin: float) -> np.ndarray:
    """Item means of drops whose mean over items like these is the margin; item effects of logit sd 1."""
    logit = rng.normal(0.3, 1.2, size=(draws, items))
    effect = rng.normal(0.0, 1.0, size=logit.shape)
    # the shift at which the mean drop over the population of items is the margin
    x, w = np.polynomial.hermite_e.hermegauss(60)
    grid, weight = np.meshgrid(x, x), np.outer(w, w) / w.sum() ** 2
    base = special.expit(0.3 + 1.2 * grid[0])

    def excess(shift: float) -> float:
        return float((weight * (base - special.expit(0.3 + 1.2 * grid[0] - shift + grid[1]))).sum()) - margin

    low, high = -1.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    first = rng.binomial(repeats, special.expit(logit))
    second = rng.binomial(repeats, special.expit(logit - low + effect))
    return (first - second) / repeats


@pytest.mark.parametrize(("items", "repeats"), [(30, 64), (198, 16)])
def test_q9_clustered_repeats(book: Any, items: int, repeats: int) -> None:
    """Q9: heterogeneous items at the margin: false ACCEPT at most 7 %; pooled samples give 13 to 27 %."""
    draws, margin = 6000, 0.05
    d = repeats_at_the_margin(np.random.default_rng(9), draws, items, repeats, margin)
    accept = sum(clustered_mean(row).test(margin).p_accept <= 0.05 for row in d)
    pooled = (d.mean(axis=1) - margin) / (0.63 / math.sqrt(items * repeats))
    book.note(f"pooled samples: {(pooled <= -1.645).mean():.1%}")
    book.at_most(f"Q9 {items} x {repeats}", accept, draws, 0.07)
    assert (pooled <= -1.645).mean() > 0.1


@pytest.mark.parametrize("clusters", [6, 10, pytest.param(15, marks=pytest.mark.slow)])
def test_few_unequal_clusters(book: Any, clusters: int) -> None:
    """Under 20 clusters of unequal size and spread the bootstrap brings the size of t down to about 5 %."""
    rng, draws, margin = np.random.default_rng(clusters), 2500, 0.05
    sizes = np.linspace(2, 20, clusters).astype(int)
    labels = np.repeat(np.arange(clusters), sizes)
    accept = by_t = 0
    for _ in range(draws):
        effect = rng.normal(0.0, 0.1, size=clusters)
        d = margin + effect[labels] + rng.normal(0.0, 0.1, size=labels.size)
        result = clustered_mean(d, labels)
        accept += result.test(margin).p_accept <= 0.05
        by_t += (result.mean - margin) / result.se <= stats.t.ppf(0.05, clusters - 1)
    book.note(f"t alone: {by_t / draws:.1%}")
    book.at_most(f"{clusters} clusters", accept, draws, 0.07)
    assert accept <= by_t


@pytest.mark.parametrize(("k", "margin"), [(3, 0.2), (5, 0.2), (10, 0.2), (20, 0.2), (10, 0.1), (40, 0.1)])
@pytest.mark.parametrize("where", ["everywhere", "one task"])
def test_q10_size(book: Any, k: int, margin: float, where: str) -> None:
    """Q10: five tasks at the margin, spread or in one task: false ACCEPT at most 6 % from 3 runs on."""
    draws, rng = 40_000, np.random.default_rng(k)
    lost = margin if where == "everywhere" else np.array([5 * margin * 0.95, 0, 0, 0, 0])
    margin = margin if where == "everywhere" else float(np.mean(lost))
    first, second = (rng.binomial(k, p, size=(draws, 5)).astype(float) for p in (RATES, RATES - lost))
    n = np.full((draws, 5), float(k))
    z = stratified_score(first, n, second, n, np.full(draws, margin))
    source = ((first - second).mean(axis=1) / k <= margin + 1e-12).mean()
    book.note(f"point rule: {source:.0%}")
    book.at_most(f"Q10 k {k}, margin {margin:.2f}, {where}", (z <= -1.644854).sum(), draws, 0.06)
    book.at_most("Q10 false REGRESSION", (z >= 1.644854).sum(), draws, 0.06)


def test_q10_power(book: Any) -> None:
    """Q10: equal arms, 10 runs of five tasks, margin 20 points: ACCEPT at least 80 %; 40 runs do for 10 points."""
    rng, draws = np.random.default_rng(10), 40_000
    for k, margin in ((10, 0.2), (40, 0.1)):
        first, second = (rng.binomial(k, RATES, size=(draws, 5)).astype(float) for _ in range(2))
        n = np.full((draws, 5), float(k))
        z = stratified_score(first, n, second, n, np.full(draws, margin))
        book.at_least(f"Q10 power k {k}", (z <= -1.644854).sum(), draws, 0.80)


def test_suite_permutation_tests(book: Any) -> None:
    """evolve.md 2.4: with no change both exact tests stay below 5 %; 5 x 10 runs find +20 points in 55 % and more."""
    rng, draws, k = np.random.default_rng(24), 1200, 10
    rates = np.array([0.3, 0.45, 0.5, 0.6, 0.7])
    wrong, wrong_flip, found = 0, 0, 0
    for _ in range(draws):
        first, second, better = rng.binomial(k, rates), rng.binomial(k, rates), rng.binomial(k, rates + 0.2)
        wrong += stratified_exact_test(first, second, k, "better") <= 0.05
        wrong_flip += task_sign_flip_test(first / k, second / k, "better") <= 0.05
        found += stratified_exact_test(first, better, k, "better") <= 0.05
    book.at_most("exact within tasks, no change", wrong, draws, 0.06)
    book.at_most("sign flips over tasks, no change", wrong_flip, draws, 0.06)
    book.at_least("exact within tasks, +20 points", found, draws, 0.5)


def trials(rng: Any, pairs: int, change: float, drift: float, iid: float, trend: float) -> np.ndarray:
    """Log ratios of ABBA pairs: a drift that neighbours share, own noise, and a slide over the session."""
    order = np.tile([1.0, -1.0], (pairs + 1) // 2)[:pairs]
    own = rng.normal(0.0, iid, size=(pairs, 2))
    # neighbouring trials share the drift but for a tenth of it
    uneven = rng.normal(0.0, drift / 10, size=pairs)
    return math.log1p(change) + own[:, 1] - own[:, 0] + uneven + order * math.log1p(trend) / (2 * pairs)


def test_q11_throughput(book: Any) -> None:
    """Q11: 12 pairs, CV 20 % of which 17 % is drift: false winner at most 10 %, equality certified in 65 %."""
    rng, draws = np.random.default_rng(11), 2000
    winner = certified = wrong = 0
    for _ in range(draws):
        equal = throughput_test(trials(rng, 12, 0.0, 0.17, 0.10, -0.1))
        winner += equal.regress or equal.faster
        certified += equal.accept
        wrong += throughput_test(trials(rng, 12, -0.1, 0.17, 0.10, -0.1)).accept
    book.at_most("Q11 false winner", winner, draws, 0.10)
    book.at_least("Q11 equality certified", certified, draws, 0.65)
    book.at_most("Q11 false ACCEPT at -10 %", wrong, draws, 0.065)
