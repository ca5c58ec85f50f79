"""Two independent samples of successes: score intervals and tests, Boschloo's exact test, strata.

Sample 1 is the baseline, sample 2 the candidate; drop = x1 / n1 - x2 / n2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from ._roots import crossing
from ._special import binomial_cdf, binomial_pmf, log_choose, normal_cdf, normal_quantile
from ._validate import (
    FloatArray,
    NumericArray,
    alternative_name,
    broadcast,
    count,
    count_array,
    count_vector,
    numbers,
    open_fraction,
    same_length,
    signed_margin,
)
from .errors import StatsError
from .results import Interval, Intervals, MarginTest, MarginTests

if TYPE_CHECKING:
    from collections.abc import Callable

BOSCHLOO_UP_TO = 4000
"""Most trials, both samples together, that boschloo_test takes."""

_TIE = 1e-9
_STEP = 0.2
_PEAKS = 3
_ZOOMS = 4
_ZOOM_POINTS = 11


@dataclass(frozen=True, slots=True)
class StratifiedTest:
    """Both one-sided tests of the mean drop over fixed strata, with its score interval."""

    p_accept: float
    """p-value of H0: drop >= margin."""

    p_regress: float
    """p-value of H0: drop <= margin."""

    z: float
    """Standardised distance of the observed drop from the margin; negative speaks for the candidate."""

    drop: float
    """Mean over the strata of baseline rate minus candidate rate, a fraction."""

    interval: Interval
    """Two-sided score interval of the drop; it holds the margins that are not rejected."""


@overload
def miettinen_nurminen_interval(x1: float, n1: float, x2: float, n2: float, level: float) -> Interval: ...
@overload
def miettinen_nurminen_interval(
    x1: NumericArray, n1: float | NumericArray, x2: NumericArray, n2: float | NumericArray, level: float
) -> Intervals: ...
def miettinen_nurminen_interval(
    x1: float | NumericArray,
    n1: float | NumericArray,
    x2: float | NumericArray,
    n2: float | NumericArray,
    level: float,
) -> Interval | Intervals:
    """Return the score interval for the difference of two independent proportions, x1/n1 - x2/n2.

    Source: Miettinen & Nurminen 1985, Stat. Med. 4:213 (with the factor N / (N - 1)).

    Args:
        x1: Successes of the baseline; a number or an array, broadcast with the rest.
        n1: Trials of the baseline.
        x2: Successes of the candidate.
        n2: Trials of the candidate.
        level: Two-sided confidence level.

    Raises:
        StatsError: If a count or the level is unusable, or successes exceed trials.
    """
    table = _tables(x1, n1, x2, n2)
    level = open_fraction("level", level)
    z = normal_quantile((1.0 + level) / 2.0)
    a, b, c, d = (part[..., np.newaxis] for part in table)
    lower, upper = _bounds(a, b, c, d, z)
    if table[0].ndim == 0:
        return Interval(float(lower), float(upper), level)
    return Intervals(lower, upper, level)


@overload
def farrington_manning_test(x1: float, n1: float, x2: float, n2: float, margin: float) -> MarginTest: ...
@overload
def farrington_manning_test(
    x1: NumericArray,
    n1: float | NumericArray,
    x2: NumericArray,
    n2: float | NumericArray,
    margin: float | NumericArray,
) -> MarginTests: ...
def farrington_manning_test(
    x1: float | NumericArray,
    n1: float | NumericArray,
    x2: float | NumericArray,
    n2: float | NumericArray,
    margin: float | NumericArray,
) -> MarginTest | MarginTests:
    """Test the difference of two independent proportions against a margin with the score statistic.

    Source: Farrington & Manning 1990, Stat. Med. 9:1447 (restricted maximum likelihood, as Miettinen &
    Nurminen but without their factor N / (N - 1)). Where no variance is left, z is taken as 0.

    Args:
        x1: Successes of the baseline; a number or an array, broadcast with the rest.
        n1: Trials of the baseline.
        x2: Successes of the candidate.
        n2: Trials of the candidate.
        margin: Largest drop that is allowed, a fraction in (-1, 1); negative demands a gain.

    Returns:
        MarginTest for plain numbers, MarginTests for arrays.

    Raises:
        StatsError: If a count or the margin is unusable, or successes exceed trials.
    """
    allowed = numbers("margin", margin)
    if (np.abs(allowed) >= 1.0).any():
        raise StatsError("margin", "in (-1, 1)", margin)
    *table, allowed = broadcast("x1, n1, x2, n2, margin", *_tables(x1, n1, x2, n2), allowed)
    a, b, c, d = (part[..., np.newaxis] for part in table)
    z = stratified_score(a, b, c, d, allowed, corrected=False)
    if z.ndim == 0:
        return MarginTest(float(normal_cdf(z)), float(normal_cdf(-z)), float(z))
    return MarginTests(normal_cdf(z), normal_cdf(-z), z)


def stratified_noninferiority(
    baseline_successes: NumericArray,
    candidate_successes: NumericArray,
    runs_per_task: float | NumericArray,
    margin: float,
    level: float = 0.9,
) -> StratifiedTest:
    """Test the mean drop of success over fixed tasks against a margin, each task weighing the same.

    z = sum of (d_t - margin) / sqrt(sum of V_t(margin)), V_t the Miettinen-Nurminen variance of task t
    at a drop of the margin in each task. It holds its size from 3 runs per arm and task on, also when
    all of the loss sits in one task.
    Source: Miettinen & Nurminen 1985, Stat. Med. 4:213, section 6; with equal weights.

    Args:
        baseline_successes: Successes of the baseline per task, shape (T,).
        candidate_successes: Successes of the candidate per task, shape (T,).
        runs_per_task: Runs per arm of each task, a number or shape (T,).
        margin: Largest mean drop that is allowed, a fraction in (-1, 1); negative demands a gain.
        level: Two-sided confidence level of the interval; 1 - 2 * alpha matches the tests.

    Raises:
        StatsError: If an argument is unusable, lengths differ, or successes exceed runs.
    """
    allowed, level = signed_margin("margin", margin), open_fraction("level", level)
    x1, x2, n = task_counts(baseline_successes, candidate_successes, runs_per_task)
    z = float(stratified_score(x1, n, x2, n, np.asarray(allowed)))
    lower, upper = _bounds(x1, n, x2, n, normal_quantile((1.0 + level) / 2.0))
    return StratifiedTest(
        p_accept=float(normal_cdf(z)),
        p_regress=float(normal_cdf(-z)),
        z=z,
        drop=float(((x1 - x2) / n).mean()),
        interval=Interval(float(lower), float(upper), level),
    )


def boschloo_test(
    x1: int,
    n1: int,
    x2: int,
    n2: int,
    alternative: Literal["two-sided", "worse", "better"] = "two-sided",
) -> float:
    """Return the p-value of Boschloo's exact unconditional test of "equal rates".

    Tables are ordered by the p-value of Fisher's exact test, and the probability of those at least as
    extreme is maximised over the common rate: never above Fisher's p-value, and with exact size. The
    two-sided p-value is twice the smaller one-sided one.
    Source: Boschloo 1970, Stat. Neerl. 24:1; Lydersen, Fagerland & Laake 2009, Stat. Med. 28:1159.

    Args:
        x1: Successes of the baseline.
        n1: Trials of the baseline, at least 1.
        x2: Successes of the candidate.
        n2: Trials of the candidate, at least 1; n1 + n2 at most 4,000.
        alternative: "worse" or "better" of the candidate, or "two-sided".

    Raises:
        StatsError: If a count is unusable, successes exceed trials, there are too many trials (use
            farrington_manning_test), or the alternative is unknown.
    """
    alternative_name(alternative)
    first, second = count("n1", n1, minimum=1), count("n2", n2, minimum=1)
    _tables(count("x1", x1), first, count("x2", x2), second)
    if first + second > BOSCHLOO_UP_TO:
        raise StatsError("n1", f"with n2 at most {BOSCHLOO_UP_TO}", first + second)
    worse = _boschloo(int(x1), first, int(x2), second)
    # exchanging success and failure turns "better" into "worse"
    better = _boschloo(first - int(x1), first, second - int(x2), second)
    if alternative == "two-sided":
        return min(1.0, 2.0 * min(worse, better))
    return worse if alternative == "worse" else better


def stratified_score(
    x1: FloatArray,
    n1: FloatArray,
    x2: FloatArray,
    n2: FloatArray,
    drop: FloatArray,
    *,
    corrected: bool = True,
) -> FloatArray:
    """Return the score statistic of a common drop for unchecked tables; the last axis holds the strata.

    Args:
        x1: Successes of the baseline, shape (..., T).
        n1: Trials of the baseline, same shape.
        x2: Successes of the candidate, same shape.
        n2: Trials of the candidate, same shape.
        drop: Hypothetical drop in (-1, 1), shape (...).
        corrected: Whether the variance gets Miettinen & Nurminen's factor N / (N - 1).
    """
    shift = np.asarray(drop)[..., np.newaxis]
    rate_1, rate_2 = restricted_rates(x1, n1, x2, n2, shift)
    variance = rate_1 * (1.0 - rate_1) / n1 + rate_2 * (1.0 - rate_2) / n2
    if corrected:
        variance = variance * (n1 + n2) / (n1 + n2 - 1.0)
    distance = (x1 / n1 - x2 / n2 - shift).sum(axis=-1)
    # a rate within rounding of 0 or 1 leaves a variance that is no variance
    total = variance.sum(axis=-1)
    known = total > 1e-15
    return np.where(known, distance / np.sqrt(np.where(known, total, 1.0)), 0.0)


def restricted_rates(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, drop: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the maximum-likelihood rates of both samples whose difference is the given drop.

    The root of a cubic in closed form (Miettinen & Nurminen 1985, appendix I).
    """
    total = n1 + n2
    second = (n1 + 2.0 * n2) * drop - total - x1 - x2
    first = (n2 * drop - total - 2.0 * x2) * drop + x1 + x2
    zeroth = x2 * drop * (1.0 - drop)
    third = second / (3.0 * total)
    q = third**3 - second * first / (6.0 * total**2) + zeroth / (2.0 * total)
    p = np.where(q < 0.0, -1.0, 1.0) * np.sqrt(np.maximum(third**2 - first / (3.0 * total), 0.0))
    cube = p**3
    cosine = np.where(cube != 0.0, q / np.where(cube != 0.0, cube, 1.0), 0.0)
    angle = (math.pi + np.arccos(np.clip(cosine, -1.0, 1.0))) / 3.0
    low, high = np.maximum(0.0, -drop), np.minimum(1.0, 1.0 - drop)
    candidate = np.clip(2.0 * p * np.cos(angle) - third, low, high)
    return np.clip(candidate + drop, 0.0, 1.0), candidate


def task_counts(
    baseline_successes: object, candidate_successes: object, runs_per_task: object
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return checked successes of both arms and runs per arm, each of shape (T,).

    Raises:
        StatsError: If an argument is unusable, lengths differ, or successes exceed runs.
    """
    x1 = count_vector("baseline_successes", baseline_successes)
    x2 = count_vector("candidate_successes", candidate_successes)
    same_length("candidate_successes", x2, "baseline_successes", x1)
    n = count_array("runs_per_task", runs_per_task, minimum=1)
    if n.ndim:
        same_length("runs_per_task", n, "baseline_successes", x1)
    for name, successes in (("baseline_successes", x1), ("candidate_successes", x2)):
        if (successes > n).any():
            raise StatsError(name, "at most the runs per task", successes.tolist())
    return x1, x2, np.broadcast_to(n, x1.shape).copy()


def _tables(x1: object, n1: object, x2: object, n2: object) -> tuple[FloatArray, ...]:
    first, second = count_array("x1", x1), count_array("x2", x2)
    of_first, of_second = count_array("n1", n1, minimum=1), count_array("n2", n2, minimum=1)
    table = broadcast("x1, n1, x2, n2", first, of_first, second, of_second)
    for name, successes, trials in (("x1", table[0], table[1]), ("x2", table[2], table[3])):
        if (successes > trials).any():
            raise StatsError(name, f"at most n{name[1]}", {"x1": x1, "x2": x2}[name])
    return table


def _bounds(
    x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, z: float
) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest common drop whose statistic stays within z; strata on the last axis."""
    # exchanging the samples mirrors the drop, so the upper end serves both
    return -_upper(x2, n2, x1, n1, z), _upper(x1, n1, x2, n2, z)


def _upper(x1: FloatArray, n1: FloatArray, x2: FloatArray, n2: FloatArray, z: float) -> FloatArray:
    drop = np.asarray((x1 / n1 - x2 / n2).mean(axis=-1))
    found = crossing(lambda at: stratified_score(x1, n1, x2, n2, at) + z, drop, np.ones_like(drop))
    return np.where(drop >= 1.0, 1.0, found)


def _boschloo(x1: int, n1: int, x2: int, n2: int) -> float:
    """p-value against "the candidate is worse"; the more x1 and the less x2, the more extreme."""
    first, second = np.arange(n1 + 1.0), np.arange(n2 + 1.0)
    log_1, log_2 = log_choose(n1, first), log_choose(n2, second)
    fisher = _fisher_table(n1, n2, log_1, log_2)
    # in each row the extreme tables are those up to some x2, as Fisher's p-value rises with x2
    most = (fisher <= fisher[x1, x2] * (1.0 + _TIE)).sum(axis=1) - 1.0

    def tails(rates: FloatArray) -> FloatArray:
        mass = np.stack([binomial_pmf(log_1, first, n1, float(rate)) for rate in rates])
        below = np.stack([binomial_cdf(most, second[-1], float(rate)) for rate in rates])
        return np.asarray((mass * below).sum(axis=1))

    # steps of the arcsine scale well below the standard error of a rate
    grid = np.sin(np.linspace(0.0, math.pi / 2.0, math.ceil(math.sqrt(n1 + n2) / _STEP) + 3)) ** 2
    values = tails(grid)
    inner = values[1:-1]
    peaks = 1 + np.flatnonzero((inner >= values[:-2]) & (inner >= values[2:]))
    best = peaks[np.argsort(values[peaks])[-_PEAKS:]]
    return min(1.0, max((_zoomed(tails, grid[at - 1 : at + 2]) for at in best), default=float(values.max())))


def _zoomed(tails: Callable[[FloatArray], FloatArray], around: FloatArray) -> float:
    highest, grid = 0.0, around
    for _ in range(_ZOOMS):
        grid = np.linspace(grid[0], grid[-1], _ZOOM_POINTS)
        values = tails(grid)
        at = int(np.argmax(values))
        highest = max(highest, float(values[at]))
        grid = grid[max(0, at - 1) : at + 2]
    return highest


def _fisher_table(n1: int, n2: int, log_1: FloatArray, log_2: FloatArray) -> FloatArray:
    """One-sided Fisher p-values of all tables: P(X1 >= x1 | x1 + x2), shape (n1 + 1, n2 + 1)."""
    table = np.empty((n1 + 1, n2 + 1))
    for total in range(n1 + n2 + 1):
        x1 = np.arange(max(0, total - n2), min(n1, total) + 1)
        log_mass = log_1[x1] + log_2[total - x1]
        mass = np.exp(log_mass - log_mass.max())
        table[x1, total - x1] = np.cumsum(mass[::-1])[::-1] / mass.sum()
    return table
