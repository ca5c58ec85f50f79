"""Percentiles of latencies: what a sample can say, and whether a limit on one is kept.

A percentile is bounded from above only by a sample that holds enough values beyond it; below that the honest
answer is "not enough". Everything here is free of assumptions about the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._special import binomial_cdf
from ._validate import FloatArray, NumericArray, count, open_fraction, same_length, vector
from .errors import StatsError

MOST_SAMPLES = 10_000_000
"""Beyond this many samples no plan is made."""


@dataclass(frozen=True, slots=True)
class PercentileClaim:
    """A percentile with its interval from order statistics."""

    q: float
    """Share of the values at or below it."""

    estimate: float | None
    """Linear between neighbouring order statistics (type 7); None where the sample is too small to bound it."""

    lower: float | None
    """One-sided lower bound at the level; None where the sample has none."""

    upper: float | None
    """One-sided upper bound at the level; None where the sample has none."""

    n: int
    """Values."""

    needed: int
    """Smallest sample that bounds this percentile from above."""


@dataclass(frozen=True, slots=True)
class LimitTest:
    """Whether at most a share 1 - q of all values lies beyond a limit."""

    met: bool
    """Shown at the level: the share beyond the limit is below 1 - q."""

    missed: bool
    """Shown at the level: the share beyond the limit is above 1 - q."""

    p_met: float
    """p-value of H0: the share beyond is 1 - q or more."""

    p_missed: float
    """p-value of H0: the share beyond is 1 - q or less."""

    needed: int
    """Samples needed to show `met`, were no further value beyond the limit."""


def samples_needed(q: float, level: float = 0.95, violations: int = 0) -> int:
    """Return the smallest sample that shows a percentile below a limit in spite of some violations.

    Smallest n with P(X <= violations) <= 1 - level for X ~ Binomial(n, 1 - q). With none this is also the
    smallest sample whose maximum bounds the percentile.

    Source: MLPerf inference, early stopping.

    Args:
        q: The percentile as a share, in (0, 1).
        level: One-sided confidence level.
        violations: Values beyond the limit.

    Raises:
        StatsError: If an argument is unusable, or more than 10,000,000 samples would be needed.
    """
    share, alpha = open_fraction("q", q), 1.0 - open_fraction("level", level)
    beyond = count("violations", violations)
    low, high = beyond, beyond + 1
    while _at_most(beyond, high, 1.0 - share) > alpha:
        low, high = high, high * 2
        if high > 2 * MOST_SAMPLES:
            raise StatsError("q", f"such that {MOST_SAMPLES} samples are enough", q)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _at_most(beyond, middle, 1.0 - share) <= alpha else (middle, high)
    return high


def percentile_claim(values: NumericArray, q: float, level: float = 0.95) -> PercentileClaim:
    """Return a percentile with the bounds that the order of the values alone gives.

    The k-th smallest value is an upper bound when P(Binomial(n, q) >= k) <= 1 - level, a lower bound when
    P(Binomial(n, q) <= k - 1) <= 1 - level.

    Args:
        values: The sample, shape (N,), N >= 1.
        q: The percentile as a share, in (0, 1).
        level: One-sided confidence level of each bound.

    Raises:
        StatsError: If an argument is unusable.
    """
    sample, share = np.sort(vector("values", values)), open_fraction("q", q)
    alpha, n = 1.0 - open_fraction("level", level), int(sample.size)
    below = binomial_cdf(np.arange(n), n, share)  # P(X <= 0), ..., P(X <= n - 1)
    uppers = np.flatnonzero(1.0 - below <= alpha)
    lowers = np.flatnonzero(below <= alpha)
    upper = float(sample[uppers[0]]) if uppers.size else None
    return PercentileClaim(
        q=share,
        estimate=None if upper is None else float(np.quantile(sample, share)),
        lower=float(sample[lowers[-1]]) if lowers.size else None,
        upper=upper,
        n=n,
        needed=samples_needed(share, level),
    )


def clustered_percentile_claim(
    values: NumericArray, clusters: NumericArray, q: float, level: float = 0.95
) -> PercentileClaim:
    """Return a percentile of values that come in clusters, such as the gaps between the tokens of one answer.

    Values of a cluster resemble each other, so N of them say less than N. How much less is estimated for the very
    indicator in question, "beyond the percentile": rho is its intra-cluster correlation (analysis of variance
    estimator), m0 the typical cluster size, and N / (1 + (m0 - 1) rho) the number of values that count.

    Source: Donner & Klar 2000, Design and Analysis of Cluster Randomization Trials, ch. 1.

    Args:
        values: The sample, shape (N,), N >= 1.
        clusters: Number of each value's cluster, same shape.
        q: The percentile as a share, in (0, 1).
        level: One-sided confidence level of each bound.

    Returns:
        The claim; its `n` is the effective number of values, never below the number of clusters.

    Raises:
        StatsError: If an argument is unusable.
    """
    sample, groups = vector("values", values), vector("clusters", clusters)
    same_length("clusters", groups, "values", sample)
    share, alpha = open_fraction("q", q), 1.0 - open_fraction("level", level)
    estimate = float(np.quantile(sample, share))
    n = _effective(sample > estimate, groups)
    below = binomial_cdf(np.arange(n), n, share)
    uppers, lowers = np.flatnonzero(1.0 - below <= alpha), np.flatnonzero(below <= alpha)
    upper = float(np.quantile(sample, (uppers[0] + 1) / n)) if uppers.size else None
    return PercentileClaim(
        q=share,
        estimate=None if upper is None else estimate,
        lower=float(np.quantile(sample, lowers[-1] / n)) if lowers.size else None,
        upper=upper,
        n=n,
        needed=samples_needed(share, level),
    )


def _effective(beyond: NDArray[np.bool_], groups: FloatArray) -> int:
    """Number of independent values that weigh as much as these clustered indicators."""
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    total, number = int(beyond.size), int(sizes.size)
    if number < 2 or number == total:
        return number
    means = np.bincount(index, weights=beyond) / sizes
    overall = float(beyond.mean())
    between = float((sizes * (means - overall) ** 2).sum()) / (number - 1)
    within = float(((beyond - means[index]) ** 2).sum()) / (total - number)
    typical = (total - float((sizes**2).sum()) / total) / (number - 1)
    spread = between + (typical - 1.0) * within
    rho = min(1.0, max(0.0, (between - within) / spread)) if spread > 0 else 0.0
    return max(number, int(total / (1.0 + (total / number - 1.0) * rho)))


def limit_test(violations: int, n: int, q: float, level: float = 0.95) -> LimitTest:
    """Test by the exact binomial whether a percentile keeps its limit.

    Args:
        violations: Values beyond the limit.
        n: All values.
        q: The percentile as a share, in (0, 1).
        level: One-sided confidence level of each statement.

    Raises:
        StatsError: If an argument is unusable, or there are more violations than values.
    """
    beyond, size, share = count("violations", violations), count("n", n), open_fraction("q", q)
    alpha = 1.0 - open_fraction("level", level)
    if beyond > size:
        raise StatsError("violations", f"at most n = {size}", violations)
    p_met = _at_most(beyond, size, 1.0 - share)
    p_missed = 1.0 - _at_most(beyond - 1, size, 1.0 - share) if beyond else 1.0
    return LimitTest(
        met=p_met <= alpha,
        missed=p_missed <= alpha,
        p_met=p_met,
        p_missed=p_missed,
        needed=samples_needed(share, level, beyond),
    )


def _at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p)."""
    return float(binomial_cdf(k, n, p))
