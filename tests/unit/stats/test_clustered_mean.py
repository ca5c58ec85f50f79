"""Mean of clustered differences: closed forms, statsmodels, its size, and the bound for few changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from assay.stats import StatsError, clustered_mean, wild_cluster_bootstrap


def test_single_units_are_the_t_test() -> None:
    """With one unit per cluster, mean, SE, interval and p-values are those of the one-sample t test."""
    d = np.random.default_rng(3).normal(0.02, 0.3, size=60).clip(-1, 1)
    result = clustered_mean(d)
    oracle = stats.ttest_1samp(d, 0.05, alternative="less")
    assert (result.n, result.clusters, result.df, result.changed) == (60, 60, 59, 60)
    assert result.se == pytest.approx(stats.sem(d))
    test = result.test(0.05)
    assert (test.p_accept, test.z) == pytest.approx((oracle.pvalue, oracle.statistic))
    assert test.p_regress == pytest.approx(1 - oracle.pvalue)
    both = stats.ttest_1samp(d, 0.0).confidence_interval(0.9)
    interval = result.interval(0.9)
    assert (interval.lower, interval.upper) == pytest.approx((both.low, both.high))


def test_clusters_by_hand() -> None:
    """Three clusters worked by hand: mean 0.5, residual sums 0.5, 0, -0.5, SE^2 = 3/2 * 0.5 / 36."""
    result = clustered_mean([1.0, 0.5, 0.5, 0.5, 0.0, 0.5], ["p", "p", "q", "q", "r", "r"])
    assert result.mean == pytest.approx(0.5)
    assert result.se == pytest.approx((1.5 * 0.5 / 36) ** 0.5)
    assert (result.df, result.clusters, result.changed) == (2, 3, 3)


def test_agrees_with_statsmodels() -> None:
    """The standard error is statsmodels' cluster-robust one, for clusters of unequal size."""
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 25, size=300)
    d = rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.5, 0.3], size=300)
    fit = api.OLS(d, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    result = clustered_mean(d, groups)
    assert result.mean == pytest.approx(float(fit.params[0]))
    assert result.se == pytest.approx(float(fit.bse[0]))


# R 4.2.2, sandwich: coef(lm(x ~ 1)), sqrt(vcovCL(fit, cluster = g, type = "HC0", cadjust = TRUE))
SANDWICH_SIZES = (3, 5, 2, 8, 4, 4, 6, 1, 9, 3, 2, 7, 5, 4, 6)
SANDWICH_DATA = """
-0.324 -0.054 0.297 -0.183 0.08 0.133 0.277 0.04 0.796 0.265 -0.196 -0.055 -0.398 -0.56 0.146 -0.878 -0.08 -0.291
0.153 0.008 0.423 -0.4 0.497 0.589 0.101 -0.513 0.419 0.151 0.498 0.372 0.485 0.38 -0.031 -0.171 -0.294 -0.249
-0.531 -0.326 -0.24 -0.162 -0.196 -0.59 -0.11 0.576 0.256 0.798 0.224 -0.323 -0.346 -0.6 -0.51 0.217 -0.441 0.019
-0.362 -0.591 -0.181 0.134 0.185 0.518 -0.347 0.608 -0.076 0.34 0.427 0.095 -0.2 0.18 0.321
"""


def test_agrees_with_sandwich() -> None:
    """R's cluster-robust standard error for 69 units in 15 unequal clusters, to 11 digits."""
    d = [float(text) for text in SANDWICH_DATA.split()]
    result = clustered_mean(d, np.repeat(np.arange(15), SANDWICH_SIZES))
    assert (result.mean, result.se) == pytest.approx((0.00288405797101, 0.079636307438), abs=1e-12)


def test_repeats_equal_their_averages() -> None:
    """Equal repeats with the item as cluster give the same result as averaging them first."""
    rng = np.random.default_rng(5)
    d = rng.choice([-1.0, 0.0, 1.0], size=(80, 4))
    pooled = clustered_mean(d.ravel(), np.repeat(np.arange(80), 4))
    averaged = clustered_mean(d.mean(axis=1))
    assert (pooled.mean, pooled.se, pooled.df) == pytest.approx((averaged.mean, averaged.se, averaged.df))


def test_labels_may_be_text_and_unordered() -> None:
    """The order of units and the kind of labels change nothing."""
    d, labels = np.array([0.3, -0.2, 0.1, 0.9, 0.0, 0.4]), [7, 3, 7, 2, 3, 2]
    shuffled = [4, 2, 0, 5, 3, 1]
    first = clustered_mean(d, labels)
    again = clustered_mean(d[shuffled], [f"c{labels[i]}" for i in shuffled])
    assert (first.mean, first.se, first.df) == pytest.approx((again.mean, again.se, again.df))


def test_size_with_clustered_repeats() -> None:
    """statistics.md Q9: 30 items x 64 repeats, heterogeneous items, drop at the margin: ACCEPT <= 7 %."""
    rng = np.random.default_rng(11)
    draws, items, repeats, margin = 4000, 30, 64, 0.05
    base = rng.beta(2.0, 1.5, size=(draws, items)) * 0.8 + 0.1
    candidate = base - margin + rng.uniform(-0.05, 0.05, size=base.shape)
    d = (rng.binomial(repeats, base) - rng.binomial(repeats, candidate)) / repeats
    accepted = sum(clustered_mean(row).test(margin).p_accept <= 0.05 for row in d)
    low, high = stats.binom.interval(0.9999, draws, 0.05)
    assert low <= accepted <= min(high, 0.07 * draws)


def test_unchanged_units_certify_no_more_than_they_can() -> None:
    """Without any change p is at least (1 - margin)^n, so 200 unchanged items do not certify 1 pt."""
    for n in (50, 200, 1000):
        result = clustered_mean(np.zeros(n))
        test = result.test(0.01)
        assert 0.99**n <= test.p_accept <= min(1.0, 4 * 0.99**n)
        assert test.p_regress == 1.0
        assert test.z <= 0.0
    assert clustered_mean(np.zeros(200)).test(0.01).p_accept > 0.05
    assert clustered_mean(np.zeros(1000)).test(0.01).p_accept < 0.05


def test_one_small_change_is_no_better_than_none() -> None:
    """A first worse unit never lowers p_accept, though it makes the t statistic huge."""
    d = np.zeros(200)
    unchanged = clustered_mean(d).test(0.01)
    d[0] = 0.25
    changed = clustered_mean(d).test(0.01)
    assert changed.z < -6
    assert changed.p_accept > unchanged.p_accept > 0.05


def test_sparse_size() -> None:
    """Rare full flips at the margin on 200 items of 4 repeats: false ACCEPT stays below 5 %."""
    rng = np.random.default_rng(12)
    accepted = 0
    for _ in range(1500):
        d = rng.binomial(1, 0.01, size=200) * 1.0
        accepted += clustered_mean(d).test(0.01).p_accept <= 0.05
    assert accepted <= stats.binom.ppf(0.9999, 1500, 0.05)


def test_sparse_interval_matches_its_test() -> None:
    """With few changes, too, the interval holds exactly the margins that are not rejected."""
    d = np.zeros(500)
    d[:8] = [0.5, 0.25, 0.25, -0.25, 1.0, 0.25, -0.5, 0.25]
    result = clustered_mean(d)
    upper = result.interval(0.9).upper
    assert result.test(upper).p_accept == pytest.approx(0.05, rel=1e-6)
    assert result.interval(0.9).lower < result.mean < upper
    mirrored = clustered_mean(-d).interval(0.9)
    assert (mirrored.lower, mirrored.upper) == pytest.approx((-upper, -result.interval(0.9).lower))


def test_constant_differences() -> None:
    """Equal differences have SE 0 and are judged by the bound alone, on either side of the margin."""
    worse = clustered_mean(np.full(60, 0.5))
    assert worse.se == 0.0
    assert worse.test(0.1).p_regress < 0.05 < worse.test(0.1).p_accept
    assert worse.test(0.1).z > 0
    lost = clustered_mean(np.ones(30))
    assert lost.interval(0.9).upper == pytest.approx(1.0)
    assert lost.test(0.5).p_accept == 1.0


def test_log_ratios_are_t_and_bootstrap() -> None:
    """Differences beyond [-1, 1] (log ratios) are judged without the bet, and need some variance."""
    d = np.array([1.5, 0.2, -0.4, 0.9, 2.1])
    by_t = stats.ttest_1samp(d, 0.1, alternative="greater").pvalue
    assert clustered_mean(d).test(0.1).p_regress == max(by_t, wild_cluster_bootstrap(d, 0.1).p_regress)
    many = np.random.default_rng(8).normal(0.3, 1.0, size=25)
    assert clustered_mean(many).test(0.1).p_regress == pytest.approx(
        stats.ttest_1samp(many, 0.1, alternative="greater").pvalue
    )
    with pytest.raises(StatsError, match=r"^d: must be of some variance"):
        clustered_mean([2.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([],), "d"),
        (([0.1],), "d"),
        (([0.1, float("nan")],), "d"),
        (([0.1, float("inf")],), "d"),
        (([True, False],), "d"),
        ((np.array([True, False]),), "d"),
        ((["0.1", "0.2"],), "d"),
        (([0.1, None],), "d"),
        (("0.1",), "d"),
        (([[0.1, 0.2], [0.3, 0.4]],), "d"),
        ((None,), "d"),
        (([0.1, 0.2], ["a"]), "clusters"),
        (([0.1, 0.2], ["a", "a"]), "clusters"),
        (([0.1, 0.2], ["a", None]), "clusters"),
        (([0.1, 0.2], [True, False]), "clusters"),
        (([0.1, 0.2], [0.5, 1.5]), "clusters"),
        (([0.1, 0.2], "ab"), "clusters"),
        (([0.1, 0.2], 3), "clusters"),
    ],
)
def test_unusable_arguments_are_named(arguments: tuple[Any, ...], name: str) -> None:
    """An unusable argument raises StatsError with its name."""
    with pytest.raises(StatsError, match=f"^{name}: must be"):
        clustered_mean(*arguments)


def test_unusable_margin_and_level_are_named() -> None:
    """Margin and level are checked by the methods."""
    result = clustered_mean([0.1, 0.2, 0.3])
    for margin in (-0.1, 1.0, float("nan"), True):
        with pytest.raises(StatsError, match=r"^margin: "):
            result.test(margin)
    for level in (0.0, 1.0, float("nan"), True):
        with pytest.raises(StatsError, match=r"^level: "):
            result.interval(level)
