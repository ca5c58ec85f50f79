"""Further intervals for the paired drop, for tables that compare methods; decisions use tango_interval.

One task, n pairs; b = baseline right and candidate wrong, c = the reverse; drop = (b - c) / n.
"""

from __future__ import annotations

from typing import overload

import numpy as np

from ._special import normal_quantile
from ._validate import FloatArray, NumericArray, broadcast, count_array, open_fraction, paired_count_arrays
from .errors import StatsError
from .results import Interval, Intervals


@overload
def wald_paired_interval(b: float, c: float, n: float, level: float) -> Interval: ...
@overload
def wald_paired_interval(
    b: NumericArray, c: NumericArray, n: float | NumericArray, level: float
) -> Intervals: ...
def wald_paired_interval(
    b: float | NumericArray, c: float | NumericArray, n: float | NumericArray, level: float
) -> Interval | Intervals:
    """Return the textbook interval: observed drop +- z * sqrt(b + c - (b - c)^2 / n) / n.

    It covers too rarely below some 500 pairs and has no width without flips; here to be compared with.
    Source: Newcombe 1998, Stat. Med. 17:2635, method 1.

    Args:
        b: Pairs with baseline right and candidate wrong; a number or an array, broadcast with the rest.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        level: Two-sided confidence level.

    Raises:
        StatsError: If a count or the level is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = paired_count_arrays(b, c, n)
    drop = (flips_b - flips_c) / pairs
    variance = (flips_b + flips_c) / pairs - drop * drop
    return _around(drop, np.sqrt(np.maximum(variance, 0.0) / pairs), open_fraction("level", level))


@overload
def bonett_price_interval(b: float, c: float, n: float, level: float) -> Interval: ...
@overload
def bonett_price_interval(
    b: NumericArray, c: NumericArray, n: float | NumericArray, level: float
) -> Intervals: ...
def bonett_price_interval(
    b: float | NumericArray, c: float | NumericArray, n: float | NumericArray, level: float
) -> Interval | Intervals:
    """Return the Wald interval of the counts with one flip added each way and two pairs to all.

    Source: Bonett & Price 2012, J. Educ. Behav. Stat. 37:479.

    Args:
        b: Pairs with baseline right and candidate wrong; a number or an array, broadcast with the rest.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        level: Two-sided confidence level.

    Raises:
        StatsError: If a count or the level is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = paired_count_arrays(b, c, n)
    to_worse, to_better = (flips_b + 1.0) / (pairs + 2.0), (flips_c + 1.0) / (pairs + 2.0)
    drop = to_worse - to_better
    variance = to_worse + to_better - drop * drop
    # with b + c = n the two added flips lie outside the pairs: at b = n the variance may dip below zero
    deviation = np.sqrt(np.maximum(variance, 0.0) / (pairs + 2.0))
    return _around(drop, deviation, open_fraction("level", level))


@overload
def newcombe_paired_interval(
    b: float, c: float, n: float, level: float, both_right: float | None = None
) -> Interval: ...
@overload
def newcombe_paired_interval(
    b: NumericArray, c: NumericArray, n: float | NumericArray, level: float, both_right: NumericArray
) -> Intervals: ...
def newcombe_paired_interval(
    b: float | NumericArray,
    c: float | NumericArray,
    n: float | NumericArray,
    level: float,
    both_right: float | NumericArray | None = None,
) -> Interval | Intervals:
    """Return the interval from the two Wilson intervals and the correlation of the answers.

    Source: Newcombe 1998, Stat. Med. 17:2635, method 10 (continuity-corrected phi).

    Args:
        b: Pairs with baseline right and candidate wrong; a number or an array, broadcast with the rest.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        level: Two-sided confidence level.
        both_right: Pairs that both got right, on which this method depends. None, allowed for plain
            numbers only, gives the hull of the intervals for every possible value of it.

    Raises:
        StatsError: If a count or the level is unusable, or the counts exceed n.
    """
    level = open_fraction("level", level)
    flips_b, flips_c, pairs = paired_count_arrays(b, c, n)
    if both_right is None:
        if flips_b.ndim:
            raise StatsError("both_right", "given where the other counts are arrays", both_right)
        every = np.arange(float(pairs - flips_b - flips_c) + 1.0)
        lower, upper = _newcombe(every, flips_b, flips_c, pairs, level)
        return Interval(float(lower.min()), float(upper.max()), level)
    right = count_array("both_right", both_right)
    right, flips_b, flips_c, pairs = broadcast("both_right, b, c, n", right, flips_b, flips_c, pairs)
    if (right + flips_b + flips_c > pairs).any():
        raise StatsError("n", "at least both_right + b + c in every place", n)
    lower, upper = _newcombe(right, flips_b, flips_c, pairs, level)
    if lower.ndim == 0:
        return Interval(float(lower), float(upper), level)
    return Intervals(lower, upper, level)


def _newcombe(
    right: FloatArray, b: FloatArray, c: FloatArray, n: FloatArray, level: float
) -> tuple[FloatArray, FloatArray]:
    z = normal_quantile((1.0 + level) / 2.0)
    wrong = n - right - b - c
    baseline, candidate = right + b, right + c
    down_1, up_1 = _wilson_arms(baseline, n, z)
    down_2, up_2 = _wilson_arms(candidate, n, z)
    excess = right * wrong - b * c
    corrected = np.where(excess < 0.0, excess, np.maximum(excess - n / 2.0, 0.0))
    # the roots are taken apart, as the product of four counts may leave the range of exact numbers
    scale = np.sqrt(baseline * (n - baseline)) * np.sqrt(candidate * (n - candidate))
    phi = np.where(scale > 0.0, corrected / np.where(scale > 0.0, scale, 1.0), 0.0)
    below = np.sqrt(np.maximum(down_1**2 - 2.0 * phi * down_1 * up_2 + up_2**2, 0.0))
    beyond = np.sqrt(np.maximum(up_1**2 - 2.0 * phi * up_1 * down_2 + down_2**2, 0.0))
    drop = (b - c) / n
    return np.maximum(drop - below, -1.0), np.minimum(drop + beyond, 1.0)


def _wilson_arms(x: FloatArray, n: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    """Distances of the Wilson bounds from x / n, downwards and upwards."""
    spread = z * np.sqrt(x * (n - x) / n + z * z / 4.0)
    middle, size = x + z * z / 2.0, n + z * z
    lower = np.where(x == 0.0, 0.0, (middle - spread) / size)
    upper = np.where(x == n, 1.0, (middle + spread) / size)
    return x / n - lower, upper - x / n


def _around(drop: FloatArray, deviation: FloatArray, level: float) -> Interval | Intervals:
    reach = normal_quantile((1.0 + level) / 2.0) * deviation
    lower, upper = np.maximum(drop - reach, -1.0), np.minimum(drop + reach, 1.0)
    if np.ndim(drop) == 0:
        return Interval(float(lower), float(upper), level)
    return Intervals(np.asarray(lower), np.asarray(upper), level)
