"""Items that are scored several times, relative margins, and log ratios of positive metrics.

The population estimand asks about items like these: the item is the unit, its repeats are averaged
(repeated_mean). The fixed-benchmark estimand asks about these items only: generation is then the only
noise (fixed_benchmark).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from ._special import t_cdf, t_quantile
from ._validate import FloatArray, NumericArray, margin_fraction, numbers, open_fraction, vector
from .errors import StatsError
from .means import ClusteredMean, clustered_mean
from .results import Interval, MarginTest

Repeats: TypeAlias = NumericArray | Sequence[Sequence[float]] | Sequence[FloatArray]
"""Scores per item: an array of shape (items, repeats), or one sequence of repeats per item."""


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """Variance of one item's difference, split by its source."""

    between: float
    """Variance of the true difference between items; repeats do not lower it."""

    within: float
    """Variance of the difference of one repeat of each side within an item; k repeats divide it by k."""


@dataclass(frozen=True, slots=True)
class FixedBenchmark:
    """Mean drop on these very items, whose only noise is generation."""

    mean: float
    """Mean of baseline minus candidate over the items, a fraction."""

    se: float
    """Standard error from the spread of repeats; 0 where every repeat agrees with its siblings."""

    df: float
    """Degrees of freedom of t after Satterthwaite; infinite where the standard error is known to be 0."""

    deterministic: bool
    """Whether generation was declared deterministic, so that the mean is exact."""

    def test(self, margin: float) -> MarginTest:
        """Test the mean against a margin in [0, 1).

        If deterministic, the mean is compared exactly: p is 0 for what holds and 1 for what does not.

        Raises:
            StatsError: If the margin is unusable.
        """
        distance = self.mean - margin_fraction("margin", margin)
        if self.se > 0.0:
            z = distance / self.se
            return MarginTest(t_cdf(z, self.df), t_cdf(-z, self.df), z)
        z = 0.0 if distance == 0.0 else math.copysign(math.inf, distance)
        return MarginTest(0.0 if distance < 0.0 else 1.0, 0.0 if distance > 0.0 else 1.0, z)

    def interval(self, level: float) -> Interval:
        """Return the two-sided interval of the mean; a point if generation is deterministic.

        Raises:
            StatsError: If the level is unusable.
        """
        level = open_fraction("level", level)
        reach = t_quantile((1.0 + level) / 2.0, self.df) * self.se if self.se > 0.0 else 0.0
        return Interval(self.mean - reach, self.mean + reach, level)


def repeated_mean(
    baseline: Repeats,
    candidate: Repeats,
    clusters: NumericArray | Sequence[str] | Sequence[int] | None = None,
) -> ClusteredMean:
    """Return the mean drop over items like these: repeats are averaged within each item first.

    Repeats of the two sides need not be as many, nor matched by seed.
    Source: Miller 2024, arXiv 2411.00640, section 3.

    Args:
        baseline: Goodness per item and repeat.
        candidate: The same, in the same order of items.
        clusters: A coarser label per item (passage, repository), or None.

    Raises:
        StatsError: If an argument is unusable, or the numbers of items differ.
    """
    first, second = _sides(baseline, candidate)
    drops = np.array([float(b.mean() - c.mean()) for b, c in zip(first, second, strict=True)])
    return clustered_mean(drops, clusters)


def fixed_benchmark(baseline: Repeats, candidate: Repeats, *, deterministic: bool = False) -> FixedBenchmark:
    """Return the mean drop on these very items, all of which were run.

    SE^2 = sum over items of (s^2_baseline / k + s^2_candidate / k) / n^2, with Satterthwaite's degrees
    of freedom. One repeat per item says nothing about that noise, unless generation is deterministic.
    Source: Satterthwaite 1946, Biometrics Bull. 2:110; Miller 2024, arXiv 2411.00640.

    Args:
        baseline: Goodness per item and repeat.
        candidate: The same, in the same order of items.
        deterministic: Whether the same prompt is proven to give the same bits; the repeats must agree then.

    Raises:
        StatsError: If an argument is unusable, the numbers of items differ, a side has a single repeat
            without being deterministic, or repeats show no spread at all without being so.
    """
    first, second = _sides(baseline, candidate)
    items = len(first)
    mean = math.fsum(float(b.mean() - c.mean()) for b, c in zip(first, second, strict=True)) / items
    cells = [("baseline", scores) for scores in first] + [("candidate", scores) for scores in second]
    if deterministic:
        for name, scores in cells:
            if (scores != scores[0]).any():
                raise StatsError(name, "equal in all repeats where deterministic", scores.tolist())
        return FixedBenchmark(mean, 0.0, math.inf, deterministic=True)
    for name, scores in cells:
        if scores.size < 2:
            raise StatsError(name, "of at least 2 repeats per item unless deterministic", scores.tolist())
    variances = np.array([float(scores.var(ddof=1)) / scores.size for _, scores in cells])
    freedom = np.array([scores.size - 1.0 for _, scores in cells])
    total = float(variances.sum())
    if total == 0.0:
        raise StatsError("baseline", "of some spread between repeats unless deterministic", "no spread")
    df = total**2 / float((variances**2 / freedom).sum())
    return FixedBenchmark(mean, math.sqrt(total) / items, df, deterministic=False)


def variance_components(baseline: Repeats, candidate: Repeats) -> VarianceComponents:
    """Split the variance of an item's difference into that between items and that of one repeat.

    One-way analysis of variance by moments; a negative estimate of the first becomes 0.
    Source: Searle, Casella & McCulloch 1992, Variance Components, section 3.6.

    Args:
        baseline: Goodness per item and repeat, at least 2 items of at least 2 repeats.
        candidate: The same, in the same order of items.

    Raises:
        StatsError: If an argument is unusable, or there are too few items or repeats.
    """
    first, second = _sides(baseline, candidate)
    if len(first) < 2:
        raise StatsError("baseline", "of at least 2 items", len(first))
    noise, within = [], []
    for name, side in (("baseline", first), ("candidate", second)):
        if min(scores.size for scores in side) < 2:
            raise StatsError(name, "of at least 2 repeats per item", "a single repeat")
        spreads = [float(scores.var(ddof=1)) for scores in side]
        within.append(math.fsum(spreads) / len(side))
        noise.append(math.fsum(v / s.size for v, s in zip(spreads, side, strict=True)) / len(side))
    drops = np.array([float(b.mean() - c.mean()) for b, c in zip(first, second, strict=True)])
    return VarianceComponents(max(0.0, float(drops.var(ddof=1)) - sum(noise)), sum(within))


def relative_contrast(baseline: NumericArray, candidate: NumericArray, loss: float) -> FloatArray:
    """Return per item the contrast (1 - loss) * baseline - candidate, to be tested against 0.

    Its mean is at most 0 exactly where the candidate keeps the share 1 - loss of the baseline's mean
    ("recovery of at least 99 %" is loss 0.01). Linear, hence right for clusters and for betting.
    Source: Fieller 1954, J. R. Stat. Soc. B 16:175 (the linear form of a ratio).

    Args:
        baseline: Goodness per item, shape (N,).
        candidate: Goodness per item, shape (N,).
        loss: Largest share of the baseline that may be lost, in [0, 1).

    Returns:
        Contrasts, shape (N,); use clustered_mean(...).test(0.0).

    Raises:
        StatsError: If an argument is unusable, or the lengths differ.
    """
    first, second = _pair(baseline, candidate)
    return (1.0 - margin_fraction("loss", loss)) * first - second


def log_ratio(
    baseline: NumericArray, candidate: NumericArray, better: Literal["higher", "lower"]
) -> FloatArray:
    """Return per item the log ratio of a positive metric, turned so that positive means worse.

    ln(baseline / candidate) where higher is better (tokens per second), ln(candidate / baseline) where
    lower is (latency, perplexity). Use clustered_mean(..., bounded=False) and log_ratio_margin.

    Args:
        baseline: Metric per item, shape (N,), positive.
        candidate: Metric per item, shape (N,), positive.
        better: Which direction of the metric is better.

    Raises:
        StatsError: If an argument is unusable, a value is not positive, or the lengths differ.
    """
    first, second = _pair(baseline, candidate)
    for name, values in (("baseline", first), ("candidate", second)):
        if (values <= 0.0).any():
            raise StatsError(name, "positive", values.tolist())
    return _direction(better) * (np.log(first) - np.log(second))


def log_ratio_margin(share: float, better: Literal["higher", "lower"]) -> float:
    """Return the margin on the scale of log_ratio: -ln(1 - share) or, where lower is better, ln(1 + share).

    Args:
        share: Largest relative loss that is allowed, in [0, 1).
        better: Which direction of the metric is better.

    Raises:
        StatsError: If an argument is unusable.
    """
    allowed = margin_fraction("share", share)
    return -math.log1p(-allowed) if _direction(better) > 0 else math.log1p(allowed)


def _direction(better: object) -> float:
    if better not in ("higher", "lower"):
        raise StatsError("better", "'higher' or 'lower'", better)
    return 1.0 if better == "higher" else -1.0


def _pair(baseline: object, candidate: object) -> tuple[FloatArray, FloatArray]:
    first, second = vector("baseline", baseline), vector("candidate", candidate)
    if first.size != second.size:
        raise StatsError("candidate", f"of length {first.size} as baseline", f"length {second.size}")
    return first, second


def _sides(baseline: Repeats, candidate: Repeats) -> tuple[list[FloatArray], list[FloatArray]]:
    first, second = _items("baseline", baseline), _items("candidate", candidate)
    if len(first) != len(second):
        raise StatsError("candidate", f"of {len(first)} items as baseline", f"{len(second)} items")
    return first, second


def _items(argument: str, scores: Repeats) -> list[FloatArray]:
    if isinstance(scores, str | bytes) or not isinstance(scores, Sequence | np.ndarray) or len(scores) == 0:
        raise StatsError(argument, "repeats per item, for at least 1 item", scores)
    if isinstance(scores, np.ndarray):
        table = numbers(argument, scores)
        if table.ndim != 2:
            raise StatsError(argument, "of shape (items, repeats)", f"shape {table.shape}")
        return list(table)
    return [vector(argument, item) for item in scores]
