"""Numbers that forbid to believe a comparison: too good, too equal, too different, drifting.

Each returns a p-value of what should hold; the thresholds belong to the policy (statistics.md 3.8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ._special import binomial_cdf, normal_cdf
from ._validate import (
    FloatArray,
    NumericArray,
    count,
    margin_fraction,
    number,
    open_fraction,
    pair_counts,
    paired_count_arrays,
    vector,
)
from .errors import StatsError
from .multiple import holm
from .paired import mcnemar_exact, tango_test
from .two_sample import BOSCHLOO_UP_TO, boschloo_test, farrington_manning_test

EXACT_RATES_UP_TO = 500
"""Trials, both samples together, up to which rate_difference_test is exact; by design, not by result."""


@dataclass(frozen=True, slots=True)
class FlipExcess:
    """How far the flip rate lies above what such a change usually does, and whether it has a direction."""

    flip_rate: float
    """Observed share of pairs on which the two models differ in being right."""

    p_usual: float
    """p-value of H0: the flip rate is at most `factor` times the prior one (exact binomial)."""

    p_no_drop: float
    """Two-sided mid-p of H0: no drop (McNemar)."""


def implausible_gain(
    b: NumericArray, c: NumericArray, n: float | NumericArray, ceiling: float = 0.02
) -> FloatArray:
    """Return Holm-adjusted p-values, one per task, of "the gain is at most the ceiling".

    Small means the candidate is better than such a change can make it: suspect the baseline.

    Args:
        b: Pairs with baseline right and candidate wrong, per task, shape (T,).
        c: Pairs with baseline wrong and candidate right, per task, shape (T,).
        n: Pairs per task, a number or shape (T,).
        ceiling: Largest gain that is plausible, a fraction in [0, 1).

    Returns:
        Adjusted p-values, shape (T,).

    Raises:
        StatsError: If a count or the ceiling is unusable, or b + c > n.
    """
    worse, better, pairs = paired_count_arrays(b, c, n)
    if worse.ndim != 1:
        raise StatsError("b", "one-dimensional", b)
    # seen from the candidate a gain is the baseline's drop
    return holm(tango_test(better, worse, pairs, margin_fraction("ceiling", ceiling)).p_regress)


def no_flip_probability(n: int, flip_rate: float) -> float:
    """Return the chance (1 - flip_rate)^n that not one of n outputs changes.

    Below 0.001 with none changed, the same model was probably served twice.

    Args:
        n: Outputs that were compared.
        flip_rate: Share of outputs that such a change usually alters, in (0, 1).

    Raises:
        StatsError: If an argument is unusable.
    """
    outputs, rate = count("n", n), open_fraction("flip_rate", flip_rate)
    return math.exp(outputs * math.log1p(-rate))


def outputs_to_tell(flip_rate: float, chance: float = 0.001) -> int:
    """Return the outputs that must all be equal before the chance of that falls below `chance`.

    Args:
        flip_rate: Share of outputs that such a change usually alters, in (0, 1).
        chance: The chance to fall below, in (0, 1).

    Raises:
        StatsError: If an argument is unusable.
    """
    rate, wanted = open_fraction("flip_rate", flip_rate), open_fraction("chance", chance)
    return math.floor(math.log(wanted) / math.log1p(-rate)) + 1


def flip_excess(b: int, c: int, n: int, prior_flip_rate: float, factor: float = 3.0) -> FlipExcess:
    """Return how surprising the flip rate is, given what such a change usually does.

    Many flips without a direction (p_usual small, p_no_drop not) speak of another template, tokenizer
    or stop string rather than of a worse model.

    Args:
        b: Pairs with baseline right and candidate wrong.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        prior_flip_rate: Usual flip rate of this class of change, in (0, 1).
        factor: How many times that is still believed, positive.

    Raises:
        StatsError: If an argument is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = pair_counts(b, c, n)
    usual, times = open_fraction("prior_flip_rate", prior_flip_rate), number("factor", factor)
    if times <= 0.0:
        raise StatsError("factor", "positive", factor)
    most, flips = usual * times, flips_b + flips_c
    p = 1.0 if most >= 1.0 else 1.0 - float(binomial_cdf(flips - 1, pairs, most))
    return FlipExcess(flips / pairs, p, mcnemar_exact(flips_b, flips_c, mid_p=True))


def rate_difference_test(x1: int, n1: int, x2: int, n2: int) -> float:
    """Return the two-sided p-value of "both sides have the same rate" of cap hits, errors or refusals.

    Boschloo's exact test up to 500 trials in all, the score test with pooled variance beyond.

    Args:
        x1: Events of the baseline.
        n1: Trials of the baseline, at least 1.
        x2: Events of the candidate.
        n2: Trials of the candidate, at least 1.

    Raises:
        StatsError: If a count is unusable, or events exceed trials.
    """
    trials = count("n1", n1, minimum=1) + count("n2", n2, minimum=1)
    if trials <= min(EXACT_RATES_UP_TO, BOSCHLOO_UP_TO):
        return boschloo_test(x1, n1, x2, n2)
    result = farrington_manning_test(float(count("x1", x1)), n1, float(count("x2", x2)), n2, 0.0)
    return min(1.0, 2.0 * min(result.p_accept, result.p_regress))


def order_trend_test(d: NumericArray, times: NumericArray | None = None) -> float:
    """Return the two-sided p-value of "the differences do not move with their order" (or time).

    The covariance with the order is set against its exact variance over all permutations of the
    differences; normal, so give it at least some ten differences.
    Source: Mantel 1963, J. Am. Stat. Assoc. 58:690.

    Args:
        d: Baseline minus candidate per pair, in the order of their run, shape (N,), N >= 3.
        times: When each was run, shape (N,), not all equal; None takes the order.

    Returns:
        A p-value; 1 where all differences are equal.

    Raises:
        StatsError: If an argument is unusable, or the lengths differ.
    """
    differences = _at_least("d", d, 3)
    size = differences.size
    moments = np.arange(float(size)) if times is None else vector("times", times)
    if moments.size != size:
        raise StatsError("times", f"of length {size} as d", f"length {moments.size}")
    moments = moments - moments.mean()
    if not moments.any():
        raise StatsError("times", "not all equal", times)
    centred = differences - differences.mean()
    spread = float(centred @ centred) * float(moments @ moments) / (size - 1)
    if spread <= 1e-28 * float(moments @ moments) * max(1.0, float(differences @ differences)):
        return 1.0
    return 2.0 * float(normal_cdf(-abs(float(moments @ centred)) / math.sqrt(spread)))


def serial_correlation_test(d: NumericArray) -> float:
    """Return the two-sided p-value of "neighbours are no more alike than others" (von Neumann's ratio).

    Source: von Neumann 1941, Ann. Math. Stat. 12:367; with the moments 2 and 4 (n - 2) / (n^2 - 1).

    Args:
        d: Values in the order of their run, shape (N,), N >= 4.

    Returns:
        A p-value; 1 where all values are equal.

    Raises:
        StatsError: If `d` is unusable or too short.
    """
    values = _at_least("d", d, 4)
    size = values.size
    centred = values - values.mean()
    total = float(centred @ centred)
    if total <= 1e-28 * max(1.0, float(values @ values)):
        return 1.0
    steps = np.diff(values)
    # under H0 the mean of the ratio, sum of squared steps / sum of squares, is 2
    ratio = float(steps @ steps) / total
    return 2.0 * float(normal_cdf(-abs(ratio - 2.0) / math.sqrt(4.0 * (size - 2.0) / (size**2 - 1.0))))


def _at_least(argument: str, values: object, least: int) -> FloatArray:
    array = vector(argument, values)
    if array.size < least:
        raise StatsError(argument, f"of length at least {least}", f"length {array.size}")
    return array
