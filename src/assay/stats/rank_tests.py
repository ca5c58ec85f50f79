"""Tests of paired differences that need no normality: signed ranks, sign flips, bootstrap-t.

Differences are baseline minus candidate in goodness, so positive ones speak against the candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from ._special import normal_cdf, normal_quantile
from ._validate import (
    FloatArray,
    NumericArray,
    alternative_name,
    cluster_index,
    count,
    number,
    open_fraction,
    seeded,
    vector,
)
from .errors import StatsError
from .results import Interval

EXACT_RANKS_UP_TO = 60
"""Most non-zero differences for which signed_rank and hodges_lehmann use the exact distribution."""

EXACT_SIGNS_UP_TO = 20
"""Most non-zero differences for which sign_flip enumerates all signs."""

SHIFT_UP_TO = 5000
"""Most differences that hodges_lehmann takes; its time and memory grow with their square."""

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Shift:
    """Hodges-Lehmann estimate of the centre of paired differences."""

    estimate: float
    """Median of all averages of two differences (each with itself too), in their unit."""

    interval: Interval
    """Interval that signed_rank does not reject; infinite ends where the sample is too small for the level."""


def signed_rank(
    d: NumericArray,
    alternative: Literal["two-sided", "worse", "better"] = "two-sided",
    centre: float = 0.0,
) -> float:
    """Return the p-value of Wilcoxon's signed-rank test that the differences are symmetric about `centre`.

    Zero differences are left out. Up to 60 others the distribution is exact, given the ranks, also
    with ties; beyond, normal with the variance of the ranks at hand and a continuity correction.
    Source: Wilcoxon 1945, Biometrics Bull. 1:80; Hollander & Wolfe 1999, section 3.1.

    Args:
        d: Baseline minus candidate per pair, shape (N,).
        alternative: "worse" (differences above the centre) or "better" of the candidate, or "two-sided".
        centre: Hypothetical centre; give a margin here to test against it.

    Raises:
        StatsError: If an argument is unusable.
    """
    alternative_name(alternative)
    shifted = vector("d", d) - number("centre", centre)
    moved = shifted[shifted != 0.0]
    if moved.size == 0:
        return 1.0
    # midranks doubled are whole numbers
    ranks = np.rint(2.0 * _midranks(np.abs(moved))).astype(np.int64)
    positive = int(ranks[moved > 0.0].sum())
    if moved.size <= EXACT_RANKS_UP_TO:
        mass = _sum_distribution(ranks)
        up, down = float(mass[positive:].sum()), float(mass[: positive + 1].sum())
    else:
        mean, deviation = ranks.sum() / 2.0, math.sqrt(float((ranks.astype(np.float64) ** 2).sum()) / 4.0)
        up = float(normal_cdf((mean - positive + 1.0) / deviation))
        down = float(normal_cdf((positive + 1.0 - mean) / deviation))
    return _chosen(alternative, up, down)


def hodges_lehmann(d: NumericArray, level: float) -> Shift:
    """Return the Hodges-Lehmann centre of the differences with its signed-rank interval.

    The interval runs from the k-th smallest to the k-th largest average of two differences, k the most
    that keeps the level under the exact distribution (beyond 60 differences the normal one).
    Source: Hodges & Lehmann 1963, Ann. Math. Stat. 34:598; Hollander & Wolfe 1999, section 3.3.

    Args:
        d: Baseline minus candidate per pair, shape (N,), at most 5,000.
        level: Two-sided confidence level.

    Raises:
        StatsError: If an argument is unusable.
    """
    differences, level = vector("d", d), open_fraction("level", level)
    size = differences.size
    if size > SHIFT_UP_TO:
        raise StatsError("d", f"of length at most {SHIFT_UP_TO}", f"length {size}")
    rows, columns = np.triu_indices(size)
    averages = np.sort((differences[rows] + differences[columns]) / 2.0)
    rank = _rank_within((1.0 - level) / 2.0, size)
    inside = rank >= 1
    lower = float(averages[rank - 1]) if inside else -math.inf
    upper = float(averages[averages.size - rank]) if inside else math.inf
    return Shift(float(np.median(averages)), Interval(lower, upper, level))


def sign_flip(
    d: NumericArray,
    alternative: Literal["two-sided", "worse", "better"] = "two-sided",
    centre: float = 0.0,
    draws: int = 99_999,
    seed: int = 0,
) -> float:
    """Return the p-value of the sign-flip test that the differences are symmetric about `centre`.

    The statistic is their sum. Up to 20 non-zero differences all signs are enumerated; beyond, signs
    are drawn with a seed and p = (1 + extreme draws) / (1 + draws), which keeps the size.
    Source: Fisher 1935, The Design of Experiments, section 21; Phipson & Smyth 2010 for the draws.

    Args:
        d: Baseline minus candidate per unit, shape (N,).
        alternative: "worse" (sum too high) or "better" of the candidate, or "two-sided".
        centre: Hypothetical centre; give a margin here to test against it.
        draws: Random sign vectors beyond 20 differences, at least 1.
        seed: Seed of these draws.

    Raises:
        StatsError: If an argument is unusable.
    """
    alternative_name(alternative)
    shifted = vector("d", d) - number("centre", centre)
    repetitions, generator = count("draws", draws, minimum=1), seeded(seed)
    moved = shifted[shifted != 0.0]
    if moved.size == 0:
        return 1.0
    observed, tie = float(moved.sum()), 1e-12 * float(np.abs(moved).sum())
    if moved.size <= EXACT_SIGNS_UP_TO:
        sums = np.zeros(1)
        for value in moved:
            sums = np.concatenate([sums + value, sums - value])
        observed_too = 0.0
    else:
        sums = _flipped_sums(moved, repetitions, generator)
        observed_too = 1.0
    above = (float((sums >= observed - tie).sum()) + observed_too) / (sums.size + observed_too)
    below = (float((sums <= observed + tie).sum()) + observed_too) / (sums.size + observed_too)
    return _chosen(alternative, above, below)


def bootstrap_t(
    d: NumericArray,
    level: float,
    clusters: NumericArray | Sequence[str] | Sequence[int] | None = None,
    draws: int = 1999,
    seed: int = 0,
) -> Interval:
    """Return the studentised bootstrap interval of the mean, clusters drawn whole.

    Each draw's distance from the observed mean is measured in its own cluster-robust standard error;
    the quantiles of that take the place of Student's t. A draw without variance counts as infinitely
    far, hence few or equal clusters give infinite ends rather than short ones.
    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 12.5.

    Args:
        d: Baseline minus candidate per unit, shape (N,).
        level: Two-sided confidence level.
        clusters: Cluster label per unit (text or whole numbers), shape (N,); None makes each unit its own.
        draws: Bootstrap samples, at least 99.
        seed: Seed of the draws.

    Raises:
        StatsError: If an argument is unusable, or there is one cluster only.
    """
    differences, level = vector("d", d), open_fraction("level", level)
    repetitions, generator = count("draws", draws, minimum=99), seeded(seed)
    groups = cluster_index(clusters, differences.size)
    sizes = np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, weights=differences).astype(np.float64)
    if sizes.size < 2:
        raise StatsError("d" if clusters is None else "clusters", "at least 2 clusters", sizes.size)
    mean, se = _mean_and_se(sums, sizes)
    rows = max(1, _CHUNK // sizes.size)
    parts = []
    for start in range(0, repetitions, rows):
        picked = generator.integers(sizes.size, size=(min(rows, repetitions - start), sizes.size))
        centre, error = _mean_and_se(sums[picked], sizes[picked])
        distance = centre - mean
        safe = np.where(error > 0.0, error, 1.0)
        far = np.where(distance == 0.0, 0.0, np.copysign(math.inf, distance))
        parts.append(np.where(error > 0.0, distance / safe, far))
    drawn = np.concatenate(parts)
    low = float(np.quantile(drawn, (1.0 - level) / 2.0, method="lower"))
    high = float(np.quantile(drawn, (1.0 + level) / 2.0, method="higher"))
    # with no variance at all every draw is at distance 0, which shows nothing
    if se == 0.0:
        return Interval(-math.inf, math.inf, level)
    return Interval(float(mean - high * se), float(mean - low * se), level)


def _mean_and_se(sums: FloatArray, sizes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean over units and its cluster-robust standard error, over the last axis."""
    total, clusters = sizes.sum(axis=-1), sizes.shape[-1]
    mean = sums.sum(axis=-1) / total
    residuals = sums - sizes * mean[..., np.newaxis]
    spread = (residuals**2).sum(axis=-1) * clusters / (clusters - 1.0)
    spread = np.where(spread > 1e-28 * np.maximum((sums**2).sum(axis=-1), 1e-300), spread, 0.0)
    return mean, np.sqrt(spread) / total


def _flipped_sums(d: FloatArray, draws: int, generator: np.random.Generator) -> FloatArray:
    rows = max(1, _CHUNK // d.size)
    parts = []
    for start in range(0, draws, rows):
        signs = generator.integers(0, 2, size=(min(rows, draws - start), d.size), dtype=np.int8)
        parts.append((2.0 * signs - 1.0) @ d)
    return np.concatenate(parts)


def _chosen(alternative: str, above: float, below: float) -> float:
    if alternative == "two-sided":
        return min(1.0, 2.0 * min(above, below))
    return min(1.0, above if alternative == "worse" else below)


def _midranks(values: FloatArray) -> FloatArray:
    _, inverse, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2.0)[inverse], dtype=np.float64)


def _sum_distribution(ranks: np.ndarray[tuple[int], np.dtype[np.int64]]) -> FloatArray:
    """Probabilities of the sum of a random half of whole numbers."""
    mass = np.zeros(int(ranks.sum()) + 1)
    mass[0], top = 1.0, 0
    for rank in ranks:
        step = int(rank)
        moved = np.zeros_like(mass)
        moved[step : top + step + 1] = mass[: top + 1]
        mass, top = (mass + moved) / 2.0, top + step
    return mass


@lru_cache(maxsize=256)
def _rank_within(tail: float, size: int) -> int:
    """Largest k with P(W <= k - 1) <= tail for the signed-rank sum W; 0 if there is none."""
    if size <= EXACT_RANKS_UP_TO:
        below = np.cumsum(_sum_distribution(np.arange(1, size + 1)))
        return int((below <= tail * (1.0 + 1e-12)).sum())
    mean, variance = size * (size + 1) / 4.0, size * (size + 1) * (2 * size + 1) / 24.0
    return max(0, math.floor(mean + 0.5 + normal_quantile(tail) * math.sqrt(variance)))
