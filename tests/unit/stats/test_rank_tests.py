"""Signed ranks, Hodges-Lehmann, sign flips, bootstrap-t: print, R 4.2.2 and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from assay.stats import bootstrap_t, hodges_lehmann, sign_flip, signed_rank

# Hollander & Wolfe 1973, p. 29: depression scores of nine patients before and after
DEPRESSION = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]) - np.array(
    [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
)
# Darwin's maize, cross- minus self-fertilised, eighths of an inch; Fisher 1935, sections 17 and 21
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_depression_agrees_with_print() -> None:
    """Hollander & Wolfe: V = 40, one-sided p 0.01953, shift 0.46, 95 % interval 0.010 to 0.786."""
    assert signed_rank(DEPRESSION, "worse") == pytest.approx(0.01953, abs=5.1e-6)
    shift = hodges_lehmann(DEPRESSION, 0.95)
    assert shift.estimate == pytest.approx(0.46)
    assert (shift.interval.lower, shift.interval.upper) == pytest.approx((0.010, 0.786))


def test_maize_agrees_with_fisher() -> None:
    """Fisher 1935 enumerates the 32,768 signs by hand: 5.267 % two-sided."""
    assert sign_flip(MAIZE) == pytest.approx(0.05267, abs=5.1e-6)


def test_ties_and_zeros_agree_with_coin() -> None:
    """R's coin 1.4, exact, with ties and a zero: one-sided p 0.04443359375."""
    assert signed_rank([3, -1, 2, 2, 5, -4, 6, 1, 0, 7, -2, 3], "worse") == 0.04443359375


def test_shift_agrees_with_r() -> None:
    """R's wilcox.test on 25 values: p 0.00672554969788, shift 2.01, 90 % interval 0.93833 to 3.07167."""
    d = np.linspace(-3, 7, 25) + np.tile([0.01, -0.02, 0.03, 0.04, -0.05], 5)
    assert signed_rank(d) == pytest.approx(0.00672554969788, abs=1e-13)
    shift = hodges_lehmann(d, 0.9)
    assert shift.estimate == pytest.approx(2.01)
    assert (shift.interval.lower, shift.interval.upper) == pytest.approx((0.9383333333, 3.0716666667))


@pytest.mark.parametrize("size", [8, 40, 300])
def test_signed_rank_agrees_with_scipy(size: int) -> None:
    """Exact up to 60 differences, normal with continuity correction beyond: scipy's p-values."""
    d = np.random.default_rng(size).normal(0.15, 1.0, size=size)
    method = "exact" if size <= 60 else "asymptotic"
    for mine, theirs in (("worse", "greater"), ("better", "less"), ("two-sided", "two-sided")):
        oracle = stats.wilcoxon(d, alternative=theirs, method=method, correction=True).pvalue
        assert signed_rank(d, mine) == pytest.approx(oracle, rel=1e-9)  # type: ignore[arg-type]


def test_sign_flip_draws_agree_with_enumeration() -> None:
    """Beyond 20 values the drawn p-value is that of 2^21 signs, within three standard errors."""
    d = np.random.default_rng(0).normal(0.3, 1.0, size=21)
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    exact = float((sums >= d.sum() - 1e-9).mean())
    drawn = sign_flip(d, "worse")
    assert drawn == pytest.approx(exact, abs=3 * math.sqrt(exact / 99_999))
    assert sign_flip(d, "worse") == drawn != sign_flip(d, "worse", seed=1)


def test_centre_is_a_margin() -> None:
    """Testing against a centre is testing the differences less that centre."""
    d = np.array([0.03, -0.02, 0.05, 0.01, 0.04, 0.02, -0.01])
    assert sign_flip(d, "better", 0.05) == sign_flip(d - 0.05, "better")
    assert signed_rank(d, "better", 0.06) == signed_rank(d - 0.06, "better")


def test_nothing_moved_proves_nothing() -> None:
    """Without a difference p is 1, and five pairs give no interval of 95 %."""
    assert signed_rank([0.0, 0.0]) == sign_flip([0.0, 0.0]) == 1.0
    interval = hodges_lehmann([1.0, 2.0, 3.0, 4.0, 5.0], 0.95).interval
    assert (interval.lower, interval.upper) == (-math.inf, math.inf)


def test_bootstrap_t_is_near_t_for_normal_data() -> None:
    """For 60 normal values its ends are those of Student's t within a tenth of the width."""
    d = np.random.default_rng(5).normal(0.1, 0.4, size=60)
    interval, t = bootstrap_t(d, 0.9), stats.ttest_1samp(d, 0.0).confidence_interval(0.9)
    assert (interval.lower, interval.upper) == pytest.approx((t.low, t.high), abs=0.1 * (t.high - t.low))
    assert bootstrap_t(d, 0.9) == interval


def test_bootstrap_t_of_skewed_data_leans_to_the_tail() -> None:
    """For right-skewed data the upper arm is the longer one, which Student's t cannot do."""
    d = np.random.default_rng(6).exponential(0.2, size=25)
    interval = bootstrap_t(d, 0.9)
    assert interval.upper - d.mean() > 1.2 * (d.mean() - interval.lower)


def test_bootstrap_t_of_equal_values_knows_nothing() -> None:
    """Equal values have no variance to measure by: the ends are infinite."""
    assert bootstrap_t([0.5] * 8, 0.9).upper == math.inf
