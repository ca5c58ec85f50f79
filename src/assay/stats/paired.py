"""Paired right/wrong answers: score test and interval for the drop, exact McNemar test, posterior lean.

One task, n pairs; b = baseline right and candidate wrong, c = the reverse; drop = (b - c) / n.
"""

from __future__ import annotations

from typing import Literal, overload

import numpy as np

from ._special import beta_cdf, beta_quantile, binomial_cdf, normal_cdf, normal_quantile
from ._validate import (
    FloatArray,
    NumericArray,
    alpha_fraction,
    alternative_name,
    broadcast,
    count,
    margin_fraction,
    numbers,
    open_fraction,
    pair_counts,
    paired_count_arrays,
)
from .errors import StatsError
from .results import Interval, Intervals, MarginTest, MarginTests

_ROOT_STEPS = 120
_ROOT_TOLERANCE = 1e-14
_QUADRATURE_NODES = 1024


@overload
def tango_test(b: float, c: float, n: float, margin: float) -> MarginTest: ...
@overload
def tango_test(
    b: NumericArray, c: NumericArray, n: float | NumericArray, margin: float | NumericArray
) -> MarginTests: ...
def tango_test(
    b: float | NumericArray,
    c: float | NumericArray,
    n: float | NumericArray,
    margin: float | NumericArray,
) -> MarginTest | MarginTests:
    """Test the drop against a margin with the score statistic; also valid for zero cells.

    Source: Tango 1998, Stat. Med. 17:891 (score with restricted maximum likelihood). With fewer
    than 20 discordant pairs its size can exceed alpha (exact_paired_test then keeps it). With no
    discordant pair and margin 0 the statistic is 0 / 0 and taken as its limit, 0.

    Args:
        b: Pairs with baseline right and candidate wrong; a number or an array, broadcast with the rest.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        margin: Largest drop that is allowed, a fraction in [0, 1).

    Returns:
        MarginTest for plain numbers, MarginTests for arrays.

    Raises:
        StatsError: If a count or the margin is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = paired_count_arrays(b, c, n)
    allowed = numbers("margin", margin)
    if (allowed < 0.0).any() or (allowed >= 1.0).any():
        raise StatsError("margin", "in [0, 1)", margin)
    z = score_statistic(*broadcast("b, c, n, margin", flips_b, flips_c, pairs, allowed))
    if z.ndim == 0:
        return MarginTest(float(normal_cdf(z)), float(normal_cdf(-z)), float(z))
    return MarginTests(normal_cdf(z), normal_cdf(-z), z)


@overload
def tango_interval(b: float, c: float, n: float, level: float) -> Interval: ...
@overload
def tango_interval(b: NumericArray, c: NumericArray, n: float | NumericArray, level: float) -> Intervals: ...
def tango_interval(
    b: float | NumericArray, c: float | NumericArray, n: float | NumericArray, level: float
) -> Interval | Intervals:
    """Return the two-sided score interval for the drop: all margins that the score test does not reject.

    Source: Tango 1998, Stat. Med. 17:891. An upper bound below the margin at level 1 - 2*alpha
    is the same statement as p_accept < alpha in tango_test.

    Args:
        b: Pairs with baseline right and candidate wrong; a number or an array, broadcast with the rest.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        level: Two-sided confidence level.

    Returns:
        Interval for plain numbers, Intervals for arrays; bounds are fractions in [-1, 1].

    Raises:
        StatsError: If a count or the level is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = paired_count_arrays(b, c, n)
    level = open_fraction("level", level)
    z = normal_quantile((1.0 + level) / 2.0)
    # exchanging the two models mirrors the drop, so one solver serves both ends
    ends = _upper_bound(np.stack([flips_b, flips_c]), np.stack([flips_c, flips_b]), pairs, z)
    upper, lower = ends[0], -ends[1]
    if flips_b.ndim == 0:
        return Interval(float(lower), float(upper), level)
    return Intervals(lower, upper, level)


def mcnemar_exact(
    b: int,
    c: int,
    alternative: Literal["two-sided", "worse", "better"] = "two-sided",
    *,
    mid_p: bool = False,
) -> float:
    """Return the p-value of the exact conditional McNemar test of "no drop at all".

    Source: McNemar 1947, Psychometrika 12; mid-p of Fagerland, Lydersen & Laake 2013, BMC Med. Res.
    Methodol. 13:91. The mid-p version is less conservative and may exceed alpha by a little.

    Args:
        b: Pairs with baseline right and candidate wrong.
        c: Pairs with baseline wrong and candidate right.
        alternative: "worse" or "better" of the candidate, or "two-sided".
        mid_p: Count only half the probability of the observed table.

    Raises:
        StatsError: If a count is unusable or the alternative unknown.
    """
    flips_b, flips_c = count("b", b), count("c", c)
    alternative_name(alternative)
    flips = flips_b + flips_c
    if flips == 0:
        return 1.0
    # P(at least as many flips against the candidate) = P(at most c of them for it)
    extreme = {"worse": flips_c, "better": flips_b, "two-sided": min(flips_b, flips_c)}[alternative]
    tail = float(binomial_cdf(extreme, flips, 0.5))
    observed = tail - float(binomial_cdf(extreme - 1, flips, 0.5))
    if alternative != "two-sided":
        return tail - observed / 2.0 if mid_p else tail
    if not mid_p:
        return min(1.0, 2.0 * tail)
    return 1.0 - observed / 2.0 if flips_b == flips_c else 2.0 * tail - observed


def posterior_lean(b: int, c: int, n: int, margin: float) -> float:
    """Return the posterior probability that the drop is below the margin; a note, never a verdict.

    Jeffreys prior Dirichlet(1/2, 1/2, 1/2) on the two flip probabilities and the rest. The flip rate
    is then Beta(b + c + 1, n - b - c + 1/2) and, independently, the share of flips against the
    candidate Beta(b + 1/2, c + 1/2); the first is integrated out at 1,024 midpoints of its quantiles.
    Source: Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.4.

    Args:
        b: Pairs with baseline right and candidate wrong.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        margin: Largest drop that is allowed, a fraction in [0, 1).

    Raises:
        StatsError: If a count or the margin is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = pair_counts(b, c, n)
    allowed = margin_fraction("margin", margin)
    flips = flips_b + flips_c
    nodes = (np.arange(_QUADRATURE_NODES) + 0.5) / _QUADRATURE_NODES
    flip_rate = beta_quantile(nodes, flips + 1.0, pairs - flips + 0.5)
    share = np.minimum((1.0 + allowed / np.maximum(flip_rate, 1e-300)) / 2.0, 1.0)
    return float(beta_cdf(share, flips_b + 0.5, flips_c + 0.5).mean())


def smallest_certified_margin(b: int, c: int, n: int, alpha: float = 0.05) -> float:
    """Return the smallest margin at which these data would be accepted.

    It is the upper bound of the score interval of level 1 - 2*alpha, or 0 where that is negative.

    Args:
        b: Pairs with baseline right and candidate wrong.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        alpha: One-sided error rate of the acceptance, in (0, 0.5).

    Raises:
        StatsError: If a count or alpha is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = pair_counts(b, c, n)
    error_rate = alpha_fraction("alpha", alpha)
    return max(0.0, tango_interval(flips_b, flips_c, pairs, 1.0 - 2.0 * error_rate).upper)


def score_statistic(b: FloatArray, c: FloatArray, n: FloatArray, drop: FloatArray) -> FloatArray:
    """Return Tango's z at a hypothetical drop in (-1, 1), for unchecked float64 arrays of one shape."""
    deviation = np.sqrt(_restricted_variance(b, c, n, drop) * n)
    distance = b - c - n * drop
    known = deviation > 0.0
    return np.where(known, distance / np.where(known, deviation, 1.0), 0.0)


def _restricted_variance(b: FloatArray, c: FloatArray, n: FloatArray, drop: FloatArray) -> FloatArray:
    """Variance of one pair's difference, the flip rate estimated under the given drop (Tango 1998)."""
    # for a negative drop the two models change places: the root below is then free of cancellation
    mirrored = drop < 0.0
    less, more = np.where(mirrored, b, c), np.where(mirrored, c, b)
    size = np.abs(drop)
    linear = (2.0 * n - more + less) * size - more - less
    constant = less * size * (1.0 - size)
    root = np.sqrt(linear * linear + 8.0 * n * constant)
    divisor = np.where(linear > 0.0, linear + root, 4.0 * n)
    flips_to_less = np.where(linear > 0.0, 2.0 * constant, root - linear) / divisor
    return 2.0 * flips_to_less + size * (1.0 - size)


def _upper_bound(b: FloatArray, c: FloatArray, n: FloatArray, z: float) -> FloatArray:
    """Largest drop whose score statistic is at least -z, by the Illinois method on [observed, 1]."""
    per_pair = z / np.sqrt(n)
    observed = (b - c) / n

    def excess(drop: FloatArray) -> FloatArray:
        return observed - drop + per_pair * np.sqrt(_restricted_variance(b, c, n, drop))

    low, high = observed.copy(), np.ones_like(observed)
    # where all pairs agree, or all flip one way, the variance vanishes at the observed drop, which makes
    # a second zero there; these cases are set from their closed forms below
    at_low, at_high = np.maximum(excess(low), 1e-300), excess(high)
    last = high
    for _ in range(_ROOT_STEPS):
        gap = at_low - at_high
        drop = low + (high - low) * np.where(gap > 0.0, at_low / np.where(gap > 0.0, gap, 1.0), 0.5)
        value = excess(drop)
        below = value > 0.0
        at_high = np.where(below, np.where(last < drop, at_high / 2.0, at_high), value)
        at_low = np.where(below, value, np.where(last > drop, at_low / 2.0, at_low))
        low, high = np.where(below, drop, low), np.where(below, high, drop)
        if (np.abs(drop - last) <= _ROOT_TOLERANCE).all():
            break
        last = drop
    drop = np.where(b + c == 0.0, z * z / (n + z * z), drop)
    return np.where(b == n, 1.0, np.where(c == n, (z * z - n) / (z * z + n), drop))
