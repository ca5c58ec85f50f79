"""Mean of paired differences whose units come in clusters, with a cluster-robust t test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ._special import normal_quantile, t_cdf, t_quantile
from ._validate import (
    FloatArray,
    NumericArray,
    cluster_index,
    count,
    margin_fraction,
    number,
    open_fraction,
    seeded,
    vector,
)
from .errors import StatsError
from .results import Interval, MarginTest

SPARSE_BELOW_CHANGED = 20
"""With fewer clusters that changed at all than this, the t test is backed by a bound without normality."""

WILD_BELOW_CLUSTERS = 20
"""With fewer clusters than this, the t test is backed by the wild cluster bootstrap."""

ENUMERATED_CLUSTERS = 12
"""Up to this many clusters the wild bootstrap goes through all signs; beyond, it draws them."""

WILD_DRAWS = 4999
"""Sign vectors drawn beyond that, with a fixed seed."""

_STAKES = (0.25, 0.5, 0.75, 1.0)
_BISECTIONS = 60
_DOUBLINGS = 12


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """Mean paired difference (drop) with a cluster-robust standard error."""

    mean: float
    """Mean over all units, in the unit of the differences (a fraction for goodness)."""

    se: float
    """Cluster-robust standard error of the mean; 0 if all clusters have the same mean."""

    df: int
    """Degrees of freedom of t: clusters - 1."""

    n: int
    """Number of units."""

    clusters: int
    """Number of clusters."""

    changed: int
    """Clusters whose differences do not sum to zero; few of them mean little information."""

    _sums: FloatArray = field(repr=False, compare=False)
    """Sum of the differences per cluster."""

    _sizes: FloatArray = field(repr=False, compare=False)
    """Units per cluster."""

    _bounded: bool = field(repr=False, compare=False)
    """Whether all differences lie in [-1, 1]."""

    def test(self, margin: float) -> MarginTest:
        """Test the mean against a margin in [0, 1), in the unit of the differences.

        t with `df` degrees of freedom; below 20 clusters each p-value is at least that of the wild
        cluster bootstrap. Where fewer than 20 clusters changed, or the standard error is 0, it is
        also at least that of a bet against the hypothesis, which needs no normality, only differences
        in [-1, 1]: an unchanged handful of units must not certify anything. (Not where there are fewer
        than 20 clusters and most of them changed: then there is variance to judge by.) `z` is the t
        statistic (with standard error 0: the normal quantile of the p-value).

        Raises:
            StatsError: If the margin is unusable.
        """
        allowed = margin_fraction("margin", margin)
        accept = self._p_below(allowed, 1.0)
        regress = self._p_below(-allowed, -1.0)
        if self.se > 0.0:
            return MarginTest(accept, regress, (self.mean - allowed) / self.se)
        toward_accept = min(0.0, normal_quantile(max(accept, 1e-300)))
        toward_regress = min(0.0, normal_quantile(max(regress, 1e-300)))
        return MarginTest(accept, regress, toward_accept if self.mean <= allowed else -toward_regress)

    def interval(self, level: float) -> Interval:
        """Return the two-sided interval that holds all margins `test` does not reject.

        With few clusters an end may be infinite (at least -1 and 1 for differences in that range): no
        margin is rejected there.

        Raises:
            StatsError: If the level is unusable.
        """
        level = open_fraction("level", level)
        tail = (1.0 - level) / 2.0
        if not self._sparse and self.clusters >= WILD_BELOW_CLUSTERS:
            reach = t_quantile(1.0 - tail, self.df) * self.se
            return Interval(self.mean - reach, self.mean + reach, level)
        return Interval(-self._searched_bound(tail, -1.0), self._searched_bound(tail, 1.0), level)

    def wild_test(self, margin: float, draws: int = WILD_DRAWS, seed: int = 0) -> MarginTest:
        """Test the mean against a margin with the wild cluster bootstrap alone; see wild_cluster_bootstrap.

        Raises:
            StatsError: If an argument is unusable, or there is no variance.
        """
        centre, resamples = number("margin", margin), count("draws", draws, minimum=99)
        signs = _signs(self.clusters, resamples, count("seed", seed))
        if self.se == 0.0:
            raise StatsError("d", "of some variance", "none")
        accept = _wild_p_below(self._sums, self._sizes, centre, signs)
        regress = _wild_p_below(-self._sums, self._sizes, -centre, signs)
        return MarginTest(accept, regress, (self.mean - centre) / self.se)

    @property
    def _sparse(self) -> bool:
        few = self.changed < SPARSE_BELOW_CHANGED
        judged_by_most = self.clusters < WILD_BELOW_CLUSTERS and 2 * self.changed > self.clusters
        return self._bounded and (self.se == 0.0 or (few and not judged_by_most))

    def _p_below(self, margin: float, sign: float) -> float:
        """p-value of H0: sign * mean >= margin."""
        distance = sign * self.mean - margin
        at_zero_se = 0.0 if distance < 0.0 else 1.0
        p = t_cdf(distance / self.se, self.df) if self.se > 0.0 else at_zero_se
        if self._sparse:
            p = max(p, self._p_by_betting(margin, sign))
        if self.clusters < WILD_BELOW_CLUSTERS and self.se > 0.0:
            p = max(p, _wild_p_below(sign * self._sums, self._sizes, margin, _signs(self.clusters)))
        return p

    def _p_by_betting(self, margin: float, sign: float) -> float:
        """p-value of the same hypothesis for differences in [-1, 1], whatever their distribution.

        The capital of a gambler who stakes on sums below the margin cannot grow on average under H0,
        so by Markov's inequality 1 / capital is a p-value. Source: Waudby-Smith & Ramdas 2024, J. R.
        Stat. Soc. B 86:1, section 4; here with four fixed stakes and clusters scaled to the largest.
        """
        gains = (margin * self._sizes - sign * self._sums) / (self._sizes.max() * (1.0 - margin))
        with np.errstate(divide="ignore"):
            # a lost full stake is ln 0; rounding may push it a hair below
            logs = np.array([np.log(np.maximum(1.0 + stake * gains, 0.0)).sum() for stake in _STAKES])
        top = float(logs.max())
        return math.exp(-max(0.0, top + math.log(float(np.exp(logs - top).mean()))))

    def _searched_bound(self, tail: float, sign: float) -> float:
        low = sign * self.mean
        high = 1.0 if self._bounded else self._beyond(low, tail, sign)
        if not math.isfinite(high):
            return high
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            rejected = not (self._bounded and middle >= 1.0) and self._p_below(middle, sign) <= tail
            low, high = (low, middle) if rejected else (middle, high)
        return high

    def _beyond(self, low: float, tail: float, sign: float) -> float:
        """Some margin that is rejected, infinite if none is."""
        reach = max(self.se, 1e-300)
        for _ in range(_DOUBLINGS):
            reach *= 2.0
            if self._p_below(low + reach, sign) <= tail:
                return low + reach
        return math.inf


def clustered_mean(
    d: NumericArray,
    clusters: NumericArray | Sequence[str] | Sequence[int] | None = None,
    *,
    bounded: bool | None = None,
) -> ClusteredMean:
    """Return the mean of paired differences with a standard error that is right for clusters.

    SE^2 = G / (G - 1) * sum over clusters of (S_g - m_g * mean)^2 / N^2, df = G - 1, with S_g the sum
    and m_g the size of cluster g. Below 20 clusters tests and intervals are backed by the wild cluster
    bootstrap, seeded, so that the same data give the same result.
    Source: Liang & Zeger 1986, Biometrika 73:13; Miller 2024, arXiv 2411.00640.

    Args:
        d: Baseline minus candidate per unit, shape (N,); goodness differences lie in [-1, 1]. With
            repeats, first average over them, or pass all and give the item as cluster.
        clusters: Cluster label per unit (text or whole numbers), shape (N,); None makes each unit its
            own cluster.
        bounded: Whether differences cannot lie outside [-1, 1]; None takes those at hand for it. Give
            False for log ratios and other differences without limits.

    Raises:
        StatsError: If an argument is unusable, there is one cluster only, or there is no variance at
            all in differences beyond [-1, 1].
    """
    differences = vector("d", d)
    groups = cluster_index(clusters, differences.size)
    sizes = np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, weights=differences).astype(np.float64)
    total, groups_seen = differences.size, sizes.size
    if groups_seen < 2:
        raise StatsError("d" if clusters is None else "clusters", "at least 2 clusters", groups_seen)
    # compared with the first value, so that equal differences give exactly that mean and variance 0
    origin = float(differences[0])
    mean = origin + float((differences - origin).mean())
    residuals = sums - sizes * mean
    residuals[np.abs(residuals) <= 1e-14 * sizes * max(abs(mean), 1e-300)] = 0.0
    se = math.sqrt(groups_seen / (groups_seen - 1) * float(residuals @ residuals)) / total
    within = bool((np.abs(differences) <= 1.0).all())
    if not (bounded is None or isinstance(bounded, bool)):
        raise StatsError("bounded", "True, False or None", bounded)
    if bounded and not within:
        raise StatsError("d", "in [-1, 1] where bounded", d)
    bounded = within if bounded is None else bounded
    if se == 0.0 and not bounded:
        raise StatsError("d", "of some variance, or all in [-1, 1]", d)
    # the resamples of the wild bootstrap must not depend on the order of the units, nor on the sign
    canonical = np.lexsort((sums * (1.0 if mean >= 0.0 else -1.0), sizes))
    sums, sizes = sums[canonical], sizes[canonical]
    changed = int((np.abs(sums) > 1e-14 * sizes).sum())
    return ClusteredMean(mean, se, groups_seen - 1, total, groups_seen, changed, sums, sizes, bounded)


def wild_cluster_bootstrap(
    d: NumericArray,
    margin: float,
    clusters: NumericArray | Sequence[str] | Sequence[int] | None = None,
    draws: int = WILD_DRAWS,
    seed: int = 0,
) -> MarginTest:
    """Test the mean against a margin with the wild cluster bootstrap, the margin imposed.

    Cluster sums are centred at the margin and get random signs (Rademacher weights, whole clusters
    alike); p is the share of resamples whose t statistic is at least as extreme. Up to 12 clusters all
    signs are gone through, and p is at least 2^-G; beyond, p = (1 + extreme) / (1 + draws).
    Source: Cameron, Gelbach & Miller 2008, Rev. Econ. Stat. 90:414.

    Args:
        d: Baseline minus candidate per unit, shape (N,).
        margin: Hypothetical mean, any number, in the unit of the differences.
        clusters: Cluster label per unit (text or whole numbers), shape (N,); None makes each unit its own.
        draws: Sign vectors beyond 12 clusters, at least 99.
        seed: Seed of these draws.

    Raises:
        StatsError: If an argument is unusable, there is one cluster only, or no variance.
    """
    return clustered_mean(d, clusters, bounded=False).wild_test(margin, draws, seed)


@lru_cache(maxsize=32)
def _signs(clusters: int, draws: int = WILD_DRAWS, seed: int = 0) -> FloatArray:
    """Sign vectors, shape (resamples, clusters): all of them for few clusters, the observed one first."""
    if clusters <= ENUMERATED_CLUSTERS:
        bits = np.arange(2**clusters)[:, np.newaxis] >> np.arange(clusters)
        return np.asarray(1.0 - 2.0 * (bits & 1), dtype=np.float64)
    drawn = 1.0 - 2.0 * seeded(seed).integers(0, 2, size=(draws, clusters))
    return np.concatenate([np.ones((1, clusters)), drawn])


def _wild_p_below(sums: FloatArray, sizes: FloatArray, margin: float, signs: FloatArray) -> float:
    """p-value of H0: mean >= margin; the first row of `signs` leaves the data as they are."""
    total, clusters = float(sizes.sum()), sizes.size
    centred = sums - sizes * margin
    flipped = signs @ np.stack([centred, sizes * centred], axis=1)
    mean = flipped[:, 0] / total
    # sum of (w * centred - sizes * mean)^2, with w^2 = 1
    around = centred @ centred - 2.0 * mean * flipped[:, 1] + mean**2 * (sizes @ sizes)
    # a resample without variance is as extreme as its mean is far
    flat = around <= 1e-13 * (centred @ centred)
    se = np.sqrt(np.where(flat, 1.0, around) * clusters / (clusters - 1)) / total
    far = np.where(mean == 0.0, 0.0, np.copysign(math.inf, mean))
    t = np.where(flat, far, mean / se)
    return float((t <= t[0] + 1e-9 * max(1.0, abs(float(t[0])))).mean())
