"""How many pairs a verdict needs, and what a given number of pairs can show.

All formulas are the normal ones of paired differences with variance flip_rate - drop^2 per pair
(Liu et al. 2002, Stat. Med. 21:231; Miller 2024, arXiv 2411.00640).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._special import normal_cdf, normal_quantile
from ._validate import count, margin_fraction, number, open_fraction, pair_counts, vector
from .errors import StatsError

if TYPE_CHECKING:
    from collections.abc import Sequence

GUARD_LADDER = (0.02, 0.03, 0.04, 0.05, 0.08)
"""Margins a task's guard may take, as fractions, in rising order."""


@dataclass(frozen=True, slots=True)
class PairsToSettle:
    """Total pairs (those already seen included) after which the verdict is expected to fall."""

    accept_at_zero_drop: float
    """Pairs until ACCEPT if the true drop is zero."""

    accept_at_observed_drop: float
    """Pairs until ACCEPT if the true drop is the observed one (zero if that is a gain); infinite at or
    beyond the margin."""

    regress_at_observed_drop: float
    """Pairs until REGRESSION if the true drop is the observed one; infinite up to the margin."""


def power(n: int, margin: float, flip_rate: float, drop: float = 0.0, alpha: float = 0.05) -> float:
    """Return the probability of ACCEPT with n pairs.

    Args:
        n: Pairs.
        margin: Largest drop that is allowed, a fraction in (0, 1).
        flip_rate: Share of pairs on which the two models differ in being right, in (0, 1].
        drop: True drop, a fraction; at most the flip rate in size.
        alpha: One-sided error rate of ACCEPT.

    Raises:
        StatsError: If an argument is unusable.
    """
    pairs = count("n", n, minimum=1)
    deviation = math.sqrt(_variance(flip_rate, drop) / pairs)
    distance = _positive_margin(margin) - drop
    return float(normal_cdf(distance / deviation - _upper_quantile("alpha", alpha)))


def pairs_needed(
    margin: float, flip_rate: float, drop: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the least number of pairs that gives ACCEPT the wanted power; infinite if drop >= margin.

    n = (flip_rate - drop^2) * ((z_alpha + z_power) / (margin - drop))^2, rounded up.

    Args:
        margin: Largest drop that is allowed, a fraction in (0, 1).
        flip_rate: Share of pairs on which the two models differ in being right, in (0, 1].
        drop: True drop to plan for, a fraction; at most the flip rate in size.
        alpha: One-sided error rate of ACCEPT.
        power: Wanted probability of ACCEPT.

    Returns:
        A whole number as float, or infinity.

    Raises:
        StatsError: If an argument is unusable.
    """
    variance = _variance(flip_rate, drop)
    return _pairs(variance, _positive_margin(margin) - drop, z_alpha_plus_power(alpha, power))


def certifiable_margin(n: int, flip_rate: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest margin that n pairs certify with the wanted power at zero drop.

    Args:
        n: Pairs.
        flip_rate: Share of pairs on which the two models differ in being right, in (0, 1].
        alpha: One-sided error rate of ACCEPT.
        power: Wanted probability of ACCEPT.

    Returns:
        A fraction; above 1 if n pairs can certify nothing.

    Raises:
        StatsError: If an argument is unusable.
    """
    pairs = count("n", n, minimum=1)
    return max(0.0, z_alpha_plus_power(alpha, power)) * math.sqrt(_variance(flip_rate, 0.0) / pairs)


def guard_margin(
    n: int,
    flip_rate: float,
    alpha: float = 0.05,
    power: float = 0.95,
    ladder: Sequence[float] = GUARD_LADDER,
) -> float | None:
    """Return the smallest margin of the ladder whose planned power at zero drop suffices.

    Args:
        n: Pairs.
        flip_rate: Planned share of pairs on which the two models differ, in (0, 1]; never an observed one.
        alpha: One-sided error rate of the guard.
        power: Wanted probability that the guard passes at zero drop.
        ladder: Margins to choose from, fractions in (0, 1), in any order.

    Returns:
        A margin of the ladder, or None: the task can only be advisory.

    Raises:
        StatsError: If an argument is unusable.
    """
    rungs = vector("ladder", ladder)
    if (rungs <= 0.0).any() or (rungs >= 1.0).any():
        raise StatsError("ladder", "in (0, 1)", ladder)
    least = certifiable_margin(n, flip_rate, alpha, power)
    return min((float(rung) for rung in rungs if rung >= least), default=None)


def pairs_to_settle(
    b: int, c: int, n: int, margin: float, alpha: float = 0.05, power: float = 0.8
) -> PairsToSettle:
    """Return the total numbers of pairs that would settle an inconclusive comparison.

    v * ((z_alpha + z_power) / (margin - drop))^2 with v = paired_variance(b, c, n).

    Args:
        b: Pairs with baseline right and candidate wrong.
        c: Pairs with baseline wrong and candidate right.
        n: Pairs so far.
        margin: Largest drop that is allowed, a fraction in [0, 1).
        alpha: One-sided error rate of the verdict.
        power: Wanted probability of the verdict.

    Raises:
        StatsError: If an argument is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = pair_counts(b, c, n)
    allowed = margin_fraction("margin", margin)
    variance, quantiles = paired_variance(flips_b, flips_c, pairs), z_alpha_plus_power(alpha, power)
    observed = (flips_b - flips_c) / pairs
    return PairsToSettle(
        accept_at_zero_drop=_pairs(variance, allowed, quantiles),
        accept_at_observed_drop=_pairs(variance, allowed - max(observed, 0.0), quantiles),
        regress_at_observed_drop=_pairs(variance, observed - allowed, quantiles),
    )


def paired_variance(b: int, c: int, n: int) -> float:
    """Return the variance of one pair's difference, kept above zero by half a flip each way.

    (b + c + 1) / (n + 2) - drop^2, at least 1 / (n + 2); after Agresti & Min 2005, Stat. Med. 24:729.

    Args:
        b: Pairs with baseline right and candidate wrong.
        c: Pairs with baseline wrong and candidate right.
        n: All pairs.

    Raises:
        StatsError: If a count is unusable, or b + c > n.
    """
    flips_b, flips_c, pairs = pair_counts(b, c, n)
    drop = (flips_b - flips_c) / pairs
    return max((flips_b + flips_c + 1) / (pairs + 2) - drop * drop, 1 / (pairs + 2))


def _pairs(variance: float, distance: float, quantiles: float) -> float:
    if distance <= 0.0:
        return math.inf
    if quantiles <= 0.0:
        return 1.0
    # a whole number that rounding put a hair too high must not become the next one
    return max(1.0, float(math.ceil(variance * (quantiles / distance) ** 2 * (1.0 - 1e-12))))


def _variance(flip_rate: float, drop: float) -> float:
    rate, shift = number("flip_rate", flip_rate), number("drop", drop)
    if not 0.0 < rate <= 1.0:
        raise StatsError("flip_rate", "in (0, 1]", flip_rate)
    if abs(shift) > rate or abs(shift) == 1.0:
        raise StatsError("drop", f"at most the flip rate {rate} in size, and below 1", drop)
    return rate - shift * shift


def _positive_margin(margin: float) -> float:
    return open_fraction("margin", margin)


def _upper_quantile(argument: str, tail: float) -> float:
    return -normal_quantile(open_fraction(argument, tail))


def z_alpha_plus_power(alpha: float, power: float) -> float:
    """Return the sum of the upper normal quantiles of alpha and 1 - power, which all plans share.

    Raises:
        StatsError: If alpha or the power is not in (0, 1).
    """
    return _upper_quantile("alpha", alpha) - _upper_quantile("power", power)
