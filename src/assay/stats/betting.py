"""Anytime-valid evidence: a gambler's capital against "too large a drop" and against "no such drop".

Against H0: drop >= margin the gambler stakes a share s of the capital on each pair and gets back
(1 - s) + s * (1 - d) / (1 - margin), which under H0 is at most 1 on average whatever the distribution
of d in [-1, 1]. By Ville's inequality the capital ever reaches 1 / alpha with probability at most
alpha: it may be looked at after every pair, and more pairs may be added at any time. The capital is
the mean over 25 shares s. The other side is the mirror image, (1 - s) + s * (1 + d) / (1 + margin).

Source: Waudby-Smith & Ramdas 2024, J. R. Stat. Soc. B 86:1 (betting, mixtures, sampling without
replacement); Ville 1939. Stated in shares of the most that can be lost, so that the capital falls with
the drop and rises with the margin at each share, and intervals have one end each side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from ._validate import (
    FloatArray,
    NumericArray,
    alpha_fraction,
    count,
    number,
    open_fraction,
    paired_count_arrays,
    signed_margin,
    vector,
)
from .errors import StatsError
from .results import Interval

if TYPE_CHECKING:
    from collections.abc import Callable

SHARES = tuple(float(share) for share in np.geomspace(0.02, 0.9, 25))
"""Shares of the capital at stake whose mean capital is taken."""

_SHARES = np.array(SHARES)
_GROUP = 8
_CERTAIN = 1e-9
_ROOT_STEPS = 100
_ROOT_TOLERANCE = 1e-10
_EDGE = 1.0 - 1e-12


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence on both sides; e-values of 1 / alpha decide at alpha."""

    log_e_accept: float
    """Natural logarithm of the e-value against H0: drop >= margin."""

    log_e_regress: float
    """Natural logarithm of the e-value against H0: drop <= margin."""


@dataclass(frozen=True, slots=True)
class EvidenceArrays:
    """Evidence for an array of counts; both fields have the same shape."""

    log_e_accept: FloatArray
    """Natural logarithms of the e-values against H0: drop >= margin."""

    log_e_regress: FloatArray
    """Natural logarithms of the e-values against H0: drop <= margin."""


@overload
def betting_evidence(b: float, c: float, n: float, margin: float) -> Evidence: ...
@overload
def betting_evidence(
    b: NumericArray, c: NumericArray, n: float | NumericArray, margin: float
) -> EvidenceArrays: ...
def betting_evidence(
    b: float | NumericArray, c: float | NumericArray, n: float | NumericArray, margin: float
) -> Evidence | EvidenceArrays:
    """Return the evidence of right/wrong pairs, for which the counts say all.

    Args:
        b: Pairs with baseline right and candidate wrong; a number or an array, broadcast with the rest.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.
        margin: Largest drop that is allowed, a fraction in (-1, 1).

    Returns:
        Evidence for plain numbers, EvidenceArrays for arrays.

    Raises:
        StatsError: If a count or the margin is unusable, or b + c > n.
    """
    allowed = signed_margin("margin", margin)
    flips_b, flips_c, pairs = paired_count_arrays(b, c, n)
    same = pairs - flips_b - flips_c
    accept = _mixture(_counted(flips_b, flips_c, same, allowed))
    regress = _mixture(_counted(flips_c, flips_b, same, -allowed))
    if flips_b.ndim == 0:
        return Evidence(float(accept), float(regress))
    return EvidenceArrays(accept, regress)


class BettingProcess:
    """Evidence that grows pair by pair and may be looked at any time.

    Feed differences (baseline minus candidate goodness) in a random order, never sorted by difficulty.
    Items with repeats enter as one difference of their means. With several tasks feed whole rounds,
    one difference of each task: the product over a round is valid for the mean drop over the tasks,
    by the inequality of arithmetic and geometric means.

    With `population` the pairs are drawn without replacement from a benchmark of that many, and the
    drop in question is that of the whole benchmark: the verdict predicts the one that all pairs would
    give, wrongly with probability at most alpha, and is exact once all are in.

    Args:
        margin: Largest drop that is allowed, a fraction in (-1, 1); negative demands a gain.
        alpha_accept: P(ACCEPT, ever) at most, at a drop of the margin or more.
        alpha_regress: P(REGRESSION, ever) at most, at a drop of the margin or less.
        population: Pairs of the whole benchmark, or None for pairs without end.

    Raises:
        StatsError: If an argument is unusable.
    """

    def __init__(
        self,
        margin: float,
        alpha_accept: float = 0.05,
        alpha_regress: float = 0.05,
        population: int | None = None,
    ) -> None:
        self.margin = signed_margin("margin", margin)
        self.alpha_accept = alpha_fraction("alpha_accept", alpha_accept)
        self.alpha_regress = alpha_fraction("alpha_regress", alpha_regress)
        self.population = None if population is None else count("population", population, minimum=1)
        self._batches: list[tuple[FloatArray, float]] = []
        self._accept, self._regress = np.zeros_like(_SHARES), np.zeros_like(_SHARES)
        self._n, self._sum = 0, 0.0
        self._verdict: Literal["accept", "regress"] | None = None

    @property
    def n(self) -> int:
        """Pairs so far."""
        return self._n

    @property
    def mean(self) -> float:
        """Mean drop so far, NaN before the first pair."""
        return self._sum / self._n if self._n else math.nan

    @property
    def evidence(self) -> Evidence:
        """Evidence of the pairs so far."""
        return Evidence(float(_mixture(self._accept)), float(_mixture(self._regress)))

    @property
    def verdict(self) -> Literal["accept", "regress"] | None:
        """The first boundary that was crossed at the end of an update, None if none was."""
        return self._verdict

    def update(self, d: NumericArray, power: float = 1.0) -> Literal["accept", "regress"] | None:
        """Take further differences and return the verdict; the end of each call is a look.

        A payoff X raised to a power in (0, 1] has E[X^power] <= E[X]^power (Jensen), so tasks of different
        size enter a mean over tasks with powers in proportion to weight / size: the product stays valid.

        Args:
            d: Baseline minus candidate, in order, shape (M,), in [-1, 1].
            power: Power to which the payoffs of these differences are raised, in (0, 1].

        Raises:
            StatsError: If a difference is unusable, or there are more than the population holds.
        """
        batch, weight = vector("d", d), number("power", power)
        if not 0.0 < weight <= 1.0 or (weight != 1.0 and self.population is not None):
            raise StatsError("power", "in (0, 1], and 1 for draws without replacement", power)
        if (np.abs(batch) > 1.0).any():
            raise StatsError("d", "in [-1, 1]", d)
        if self.population is not None and self._n + batch.size > self.population:
            raise StatsError(
                "d", f"at most {self.population - self._n} more, the population's rest", batch.size
            )
        if self.population is None:
            values, times = np.unique(batch, return_counts=True)
            self._accept = self._accept + weight * _grown(values, times, self.margin)
            self._regress = self._regress + weight * _grown(-values, times, -self.margin)
        else:
            self._accept = self._accept + _grown_within(
                batch, self.margin, self._n, self._sum, self.population
            )
            self._regress = self._regress + _grown_within(
                -batch, -self.margin, self._n, -self._sum, self.population
            )
        self._batches.append((batch, weight))
        self._n, self._sum = self._n + batch.size, self._sum + float(batch.sum())
        if self._verdict is None:
            self._verdict = self._look()
        return self._verdict

    def interval(self, level: float) -> Interval:
        """Return the drops that are not rejected, each side at (1 - level) / 2; valid at any time.

        Raises:
            StatsError: If the level is unusable.
        """
        level = open_fraction("level", level)
        needed = -math.log((1.0 - level) / 2.0)
        if not self._n:
            return Interval(-1.0, 1.0, level)
        return Interval(-self._bound(needed, -1.0), self._bound(needed, 1.0), level)

    def _look(self) -> Literal["accept", "regress"] | None:
        if self.population == self._n:
            distance = self._sum - self.margin * self._n
            if abs(distance) <= _CERTAIN * self._n:
                return None
            return "accept" if distance < 0.0 else "regress"
        now = self.evidence
        if now.log_e_accept >= -math.log(self.alpha_accept):
            return "accept"
        return "regress" if now.log_e_regress >= -math.log(self.alpha_regress) else None

    def _bound(self, needed: float, sign: float) -> float:
        """Smallest hypothetical drop, seen from one side, whose evidence reaches `needed`; 1 if none."""
        population = self.population
        if population is not None:
            d = sign * np.concatenate([batch for batch, _ in self._batches])
            if self._n == population:
                return float(d.mean())
            return _crossing(
                lambda drop: float(_mixture(_grown_within(d, drop, 0, 0.0, population))) - needed,
                float(d.mean()),
                self._n,
            )
        parts = [
            (*np.unique(sign * np.concatenate(batches), return_counts=True), weight)
            for weight, batches in self._by_weight().items()
        ]

        def excess(drop: float) -> float:
            grown = [weight * _grown(values, times, drop) for values, times, weight in parts]
            return float(_mixture(np.sum(grown, axis=0))) - needed

        total = sum(weight * float(values @ times) for values, times, weight in parts)
        mean = total / sum(weight * float(times.sum()) for _, times, weight in parts)
        return _crossing(excess, mean, self._n)

    def _by_weight(self) -> dict[float, list[FloatArray]]:
        grouped: dict[float, list[FloatArray]] = {}
        for batch, weight in self._batches:
            grouped.setdefault(weight, []).append(batch)
        return grouped


def _counted(b: FloatArray, c: FloatArray, same: FloatArray, margin: float) -> FloatArray:
    """Log capital per share against drop >= margin, shape (..., shares)."""
    kept, won = 1.0 - _SHARES, _SHARES / (1.0 - margin)
    columns = (b[..., np.newaxis], c[..., np.newaxis], same[..., np.newaxis])
    return np.asarray(
        columns[0] * np.log(kept) + columns[1] * np.log(kept + 2.0 * won) + columns[2] * np.log(kept + won)
    )


def _grown(values: FloatArray, times: np.ndarray[tuple[int], np.dtype[np.intp]], margin: float) -> FloatArray:
    """Growth of the log capital per share by differences that occur `times` times."""
    payoff = (1.0 - values) / (1.0 - margin)
    single = times == 1
    repeated = np.log1p(np.outer(payoff[~single] - 1.0, _SHARES)).T @ times[~single]
    return np.asarray(repeated + _log_product(1.0 + np.outer(payoff[single] - 1.0, _SHARES)))


def _log_product(factors: FloatArray) -> FloatArray:
    """Logarithm of the product over the first axis; eight factors at a time, as logarithms are slow."""
    # a factor is at least 0.1, and where one is huge the drop in question is next to the impossible
    rows = factors.shape[0] // _GROUP * _GROUP
    grouped = factors[:rows].reshape(-1, _GROUP, factors.shape[1]).prod(axis=1)
    return np.asarray(np.log(grouped).sum(axis=0) + np.log(factors[rows:]).sum(axis=0))


def _grown_within(d: FloatArray, margin: float, before: int, total: float, population: int) -> FloatArray:
    """The same for draws without replacement: each pair is judged by what the hypothesis leaves over."""
    past = total + np.concatenate([[0.0], np.cumsum(d)[:-1]])
    left = population - before - np.arange(d.size)
    # mean of the pairs still to come if the drop of the whole benchmark is the margin
    rest = (population * margin - past) / left
    possible = rest < 1.0 - _CERTAIN
    surely_not = (rest > 1.0 + _CERTAIN) | (~possible & (d < 1.0 - _CERTAIN))
    payoff = np.where(possible, (1.0 - d) / np.where(possible, 1.0 - rest, 1.0), 1.0)
    growth = _log_product(1.0 + np.outer(payoff - 1.0, _SHARES))
    return np.full_like(growth, math.inf) if surely_not.any() else growth


def _mixture(log_capital: FloatArray) -> FloatArray:
    """Logarithm of the mean capital over the shares, the last axis."""
    top = log_capital.max(axis=-1)
    base = np.where(np.isfinite(top), top, 0.0)
    mean = np.exp(np.minimum(log_capital - base[..., np.newaxis], 700.0)).mean(axis=-1)
    return np.where(np.isfinite(top), base + np.log(np.where(mean > 0.0, mean, 1.0)), top)


def _crossing(excess: Callable[[float], float], low: float, n: int) -> float:
    """Where a rising function passes zero in [low, 1), by the Illinois method; 1 where it never does."""
    if low >= _EDGE:
        return 1.0
    # at the observed drop no share has grown, so the capital there is at most 1
    at_low, step = excess(low), 1.0 / math.sqrt(n)
    high = min(_EDGE, low + step)
    while (at_high := excess(high)) < 0.0:
        if high >= _EDGE:
            return 1.0
        low, at_low, step = high, at_high, 2.0 * step
        high = min(_EDGE, low + step)
    side = 0
    for _ in range(_ROOT_STEPS):
        share = at_low / (at_low - at_high) if math.isfinite(at_high) else 0.5
        drop = low + (high - low) * share
        value = excess(drop)
        if value < 0.0:
            low, at_low, at_high = drop, value, at_high / 2.0 if side < 0 else at_high
            side = -1
        else:
            high, at_high, at_low = drop, value, at_low / 2.0 if side > 0 else at_low
            side = 1
        if high - low <= _ROOT_TOLERANCE or value == 0.0:
            break
    return high
