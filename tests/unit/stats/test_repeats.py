"""Repeats, the fixed benchmark, relative margins and log ratios."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from assay.stats import (
    StatsError,
    clustered_mean,
    fixed_benchmark,
    log_ratio,
    log_ratio_margin,
    relative_contrast,
    repeated_mean,
    variance_components,
    wild_cluster_bootstrap,
)


def test_repeats_are_averaged_within_items() -> None:
    """Unequal numbers of repeats per side give the t test of the item means."""
    baseline = [[1, 0, 1, 1], [0, 0], [1, 1, 1], [1, 0]] * 8
    candidate = [[1, 0], [0, 1, 0], [1, 1], [0, 0]] * 8
    means = [np.mean(b) - np.mean(c) for b, c in zip(baseline, candidate, strict=True)]
    result = repeated_mean(baseline, candidate)
    assert (result.mean, result.se) == pytest.approx((np.mean(means), stats.sem(means)))


def test_fixed_benchmark_by_hand() -> None:
    """Two items of two repeats: SE^2 is the sum of s^2 / k over all four cells, over n^2."""
    result = fixed_benchmark([[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]])
    assert result.mean == pytest.approx(0.5)
    assert result.se == pytest.approx(math.sqrt((0.25 + 0 + 0 + 0.25) / 4))
    # two cells of 1 degree of freedom and equal variance
    assert result.df == pytest.approx(2.0)
    assert result.test(0.1).z == pytest.approx(0.4 / result.se)


def test_fixed_benchmark_of_one_item_is_welch() -> None:
    """With a single item its interval is Welch's, whose degrees of freedom are Satterthwaite's."""
    b, c = [0.3, 0.5, 0.9, 0.4], [0.2, 0.1, 0.35, 0.3, 0.15]
    welch = stats.ttest_ind(b, c, equal_var=False).confidence_interval(0.9)
    interval = fixed_benchmark([b], [c]).interval(0.9)
    assert (interval.lower, interval.upper) == pytest.approx((welch.low, welch.high))


def test_deterministic_generation_is_compared_exactly() -> None:
    """One greedy repeat, proven deterministic: the drop is exact, 2 of 100 against margins around it."""
    baseline, candidate = [[1.0]] * 100, [[1.0]] * 98 + [[0.0]] * 2
    result = fixed_benchmark(baseline, candidate, deterministic=True)
    assert (result.mean, result.se, result.interval(0.9).upper) == (0.02, 0.0, 0.02)
    assert (result.test(0.03).p_accept, result.test(0.01).p_accept) == (0.0, 1.0)
    assert (result.test(0.01).p_regress, result.test(0.02).p_accept) == (0.0, 1.0)
    with pytest.raises(StatsError, match="at least 2 repeats per item unless deterministic"):
        fixed_benchmark(baseline, candidate)
    with pytest.raises(StatsError, match="equal in all repeats where deterministic"):
        fixed_benchmark([[1.0, 0.0]], [[1.0, 1.0]], deterministic=True)


def test_variance_components_recover_the_truth() -> None:
    """2,000 items with between 0.01 and within 0.42: both are found within a few per cent."""
    rng = np.random.default_rng(9)
    base = rng.uniform(0.2, 0.8, size=2000)
    shift = rng.choice([-0.1, 0.1], size=2000)
    truth = float(np.mean(base * (1 - base) + (base + shift) * (1 - base - shift)))
    scores = [rng.binomial(1, p[:, None], size=(2000, 32)) for p in (base, base + shift)]
    found = variance_components(*scores)
    assert found.between == pytest.approx(0.01, rel=0.1)
    assert found.within == pytest.approx(truth, rel=0.02)


def test_relative_contrast_is_the_ratio_rule() -> None:
    """The mean contrast is 0 exactly where the candidate keeps the allowed share of the baseline."""
    x = np.array([1.0, 0.5, 0.0, 1.0])
    assert relative_contrast(x, 0.99 * x, 0.01).mean() == pytest.approx(0.0)
    assert relative_contrast(x, 0.97 * x, 0.01).mean() > 0.0 > relative_contrast(x, x, 0.01).mean()


def test_log_ratio_turns_worse_upwards() -> None:
    """Half the speed and twice the latency are both ln 2 worse, and both margins match their ratio."""
    assert log_ratio([100.0], [50.0], "higher") == pytest.approx([math.log(2)])
    assert log_ratio([0.1], [0.2], "lower") == pytest.approx([math.log(2)])
    assert log_ratio_margin(0.1, "higher") == pytest.approx(-math.log(0.9))
    assert log_ratio_margin(0.1, "lower") == pytest.approx(math.log(1.1))


def test_wild_bootstrap_enumerates_few_clusters() -> None:
    """Six clusters on one side of the margin give 2^-6, the least that six clusters can."""
    d = np.array([-0.03, 0.01, -0.02, -0.05, 0.0, -0.01])
    assert wild_cluster_bootstrap(d, 0.05).p_accept == 2**-6
    assert clustered_mean(d).test(0.05).p_accept == 2**-6


def test_wild_bootstrap_agrees_with_enumeration_by_hand() -> None:
    """Five clusters of unequal size: each sign vector's t computed plainly."""
    sums = [
        np.array([0.2, 0.1]),
        np.array([-0.3]),
        np.array([0.4, 0.0, 0.3]),
        np.array([0.1]),
        np.array([0.6, -0.1]),
    ]
    labels = np.repeat(np.arange(5), [len(s) for s in sums])
    d, margin = np.concatenate(sums), 0.05
    n, g = d.size, 5

    def t_of(signs: np.ndarray) -> float:
        y = (d - margin) * signs[labels]
        residual = np.bincount(labels, weights=y - y.mean())
        return float(y.mean() / (math.sqrt(g / (g - 1) * (residual**2).sum()) / n))

    observed = t_of(np.ones(5))
    every = [t_of(1.0 - 2.0 * ((k >> np.arange(5)) & 1)) for k in range(32)]
    expected = np.mean([t <= observed + 1e-9 for t in every])
    assert wild_cluster_bootstrap(d, margin, labels).p_accept == pytest.approx(expected)
