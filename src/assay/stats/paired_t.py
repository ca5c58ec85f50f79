"""Student's t on paired differences: for a few units whose differences are near enough to normal, such as seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import special

from ._special import normal_quantile, t_cdf, t_quantile
from ._validate import count, number, open_fraction, vector
from .errors import StatsError

if TYPE_CHECKING:
    from collections.abc import Sequence

UNITS_LIMIT = 10_000
"""Beyond so many units a plan is of no use to anybody."""
BISECTIONS = 50


@dataclass(frozen=True, slots=True)
class PairedT:
    """Mean of paired differences, in their own unit."""

    n: int
    mean: float
    sd: float
    """Standard deviation of the differences; 0 if all are equal, and then nothing can be tested."""

    @property
    def se(self) -> float:
        """Standard error of the mean."""
        return self.sd / math.sqrt(self.n)

    def lower(self, alpha: float) -> float:
        """One-sided lower bound of the mean at error rate alpha."""
        return self.mean - self._quantile(alpha) * self.se

    def upper(self, alpha: float) -> float:
        """One-sided upper bound of the mean at error rate alpha."""
        return self.mean + self._quantile(alpha) * self.se

    def p_above(self, limit: float) -> float:
        """p-value of the hypothesis that the mean is at most the limit.

        Raises:
            StatsError: if all differences are equal.
        """
        if self.sd == 0.0:
            raise StatsError("differences", "not all equal", self.mean)
        return 1.0 - t_cdf((self.mean - number("limit", limit)) / self.se, self.n - 1)

    def _quantile(self, alpha: float) -> float:
        return -t_quantile(open_fraction("alpha", alpha), self.n - 1)


def paired_t(differences: Sequence[float]) -> PairedT:
    """Mean and standard deviation of at least two paired differences.

    Raises:
        StatsError: if there are fewer, or one is not finite.
    """
    values = vector("differences", differences)
    if values.size < 2:
        raise StatsError("differences", "at least 2", values.size)
    equal = bool((values == values[0]).all())
    return PairedT(
        n=int(values.size), mean=float(values.mean()), sd=0.0 if equal else float(values.std(ddof=1))
    )


def units_needed(gain_sds: float, alpha: float = 0.05, power: float = 0.8, at_least: int = 2) -> int | None:
    """The least number of pairs at which t shows a mean difference with the wanted power; None beyond 10,000.

    The power is that of the noncentral t with n - 1 degrees of freedom and noncentrality gain * sqrt(n).

    Args:
        gain_sds: the true mean difference, in standard deviations of a difference.
        alpha: one-sided error rate.
        power: wanted probability.
        at_least: smallest number to return.

    Raises:
        StatsError: if a rate is not in (0, 1).
    """
    gain, wanted = number("gain_sds", gain_sds), open_fraction("power", power)
    alpha = open_fraction("alpha", alpha)
    if gain <= 0.0:
        return None
    roughly = ((normal_quantile(1.0 - alpha) + normal_quantile(wanted)) / gain) ** 2
    if roughly > UNITS_LIMIT:
        return None
    n = max(2, count("at_least", at_least), math.floor(roughly) - 1)
    while _power(n, gain, alpha) < wanted:
        n += 1
    return n


def provable_gain(n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true gain, in standard deviations of a difference, that n pairs show with the wanted power.

    Raises:
        StatsError: if n is below 2 or a rate is not in (0, 1).
    """
    pairs, rate = count("n", n, minimum=2), open_fraction("alpha", alpha)
    wanted = open_fraction("power", power)
    low, high = 0.0, 1.0
    while _power(pairs, high, rate) < wanted:
        low, high = high, 2.0 * high
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _power(pairs, middle, rate) < wanted else (low, middle)
    return high


def _power(n: int, gain: float, alpha: float) -> float:
    critical = t_quantile(1.0 - alpha, n - 1)
    return 1.0 - float(special.nctdtr(n - 1, gain * math.sqrt(n), critical))
