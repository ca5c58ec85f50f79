"""Mean of paired differences whose units come in clusters, with a cluster-robust t test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ._special import normal_quantile, t_cdf, t_quantile
from ._validate import FloatArray, NumericArray, margin_fraction, open_fraction, vector
from .errors import StatsError
from .results import Interval, MarginTest

SPARSE_BELOW_CHANGED = 20
"""With fewer clusters that changed at all than this, the t test is backed by a bound without normality."""

_STAKES = (0.25, 0.5, 0.75, 1.0)
_BISECTIONS = 60


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

        t with `df` degrees of freedom. Where fewer than 20 clusters changed, or the standard error is
        0, each p-value is at least that of a bet against the hypothesis, which needs no normality, only
        differences in [-1, 1]: an unchanged handful of units must not certify anything. `z` is the t
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

        Raises:
            StatsError: If the level is unusable.
        """
        level = open_fraction("level", level)
        tail = (1.0 - level) / 2.0
        if not self._sparse:
            reach = t_quantile(1.0 - tail, self.df) * self.se
            return Interval(self.mean - reach, self.mean + reach, level)
        return Interval(-self._sparse_bound(tail, -1.0), self._sparse_bound(tail, 1.0), level)

    @property
    def _sparse(self) -> bool:
        return self._bounded and (self.changed < SPARSE_BELOW_CHANGED or self.se == 0.0)

    def _p_below(self, margin: float, sign: float) -> float:
        """p-value of H0: sign * mean >= margin."""
        distance = sign * self.mean - margin
        at_zero_se = 0.0 if distance < 0.0 else 1.0
        by_t = t_cdf(distance / self.se, self.df) if self.se > 0.0 else at_zero_se
        return max(by_t, self._p_by_betting(margin, sign)) if self._sparse else by_t

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

    def _sparse_bound(self, tail: float, sign: float) -> float:
        low, high = sign * self.mean, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            rejected = middle < 1.0 and self._p_below(middle, sign) <= tail
            low, high = (low, middle) if rejected else (middle, high)
        return high


def clustered_mean(
    d: NumericArray, clusters: NumericArray | Sequence[str] | Sequence[int] | None = None
) -> ClusteredMean:
    """Return the mean of paired differences with a standard error that is right for clusters.

    SE^2 = G / (G - 1) * sum over clusters of (S_g - m_g * mean)^2 / N^2, df = G - 1, with S_g the sum
    and m_g the size of cluster g. Below 20 clusters treat the result as rough.
    Source: Liang & Zeger 1986, Biometrika 73:13; Miller 2024, arXiv 2411.00640.

    Args:
        d: Baseline minus candidate per unit, shape (N,); goodness differences lie in [-1, 1]. With
            repeats, first average over them, or pass all and give the item as cluster.
        clusters: Cluster label per unit (text or whole numbers), shape (N,); None makes each unit its
            own cluster.

    Raises:
        StatsError: If an argument is unusable, there is one cluster only, or there is no variance at
            all in differences beyond [-1, 1].
    """
    differences = vector("d", d)
    groups = _cluster_index(clusters, differences.size)
    sizes = np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, weights=differences).astype(np.float64)
    total, count = differences.size, sizes.size
    if count < 2:
        raise StatsError("d" if clusters is None else "clusters", "at least 2 clusters", count)
    # compared with the first value, so that equal differences give exactly that mean and variance 0
    origin = float(differences[0])
    mean = origin + float((differences - origin).mean())
    residuals = sums - sizes * mean
    residuals[np.abs(residuals) <= 1e-14 * sizes * max(abs(mean), 1e-300)] = 0.0
    se = math.sqrt(count / (count - 1) * float(residuals @ residuals)) / total
    bounded = bool((np.abs(differences) <= 1.0).all())
    if se == 0.0 and not bounded:
        raise StatsError("d", "of some variance, or all in [-1, 1]", d)
    changed = int((np.abs(sums) > 1e-14 * sizes).sum())
    return ClusteredMean(mean, se, count - 1, total, count, changed, sums, sizes, bounded)


def _cluster_index(clusters: Iterable[object] | None, size: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    if clusters is None:
        return np.arange(size, dtype=np.intp)
    allowed = "text or whole numbers, one label per unit"
    if isinstance(clusters, str | bytes) or not isinstance(clusters, Iterable):
        raise StatsError("clusters", allowed, clusters)
    labels = list(clusters)
    index: dict[object, int] = {}
    for label in labels:
        if isinstance(label, bool | np.bool_) or not isinstance(label, str | int | np.integer):
            raise StatsError("clusters", allowed, label)
        index.setdefault(label, len(index))
    if len(labels) != size:
        raise StatsError("clusters", f"of length {size} as d", f"length {len(labels)}")
    return np.array([index[label] for label in labels], dtype=np.intp)
