"""Confidence intervals for a single proportion."""

from __future__ import annotations

import math

from ._special import beta_quantile, normal_quantile
from ._validate import count, open_fraction
from .errors import StatsError
from .results import Interval


def wilson_interval(x: int, n: int, level: float) -> Interval:
    """Return the score interval for a proportion.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22; Newcombe 1998, Stat. Med. 17:857, method 3.

    Args:
        x: Successes.
        n: Trials, at least 1.
        level: Two-sided confidence level.

    Raises:
        StatsError: If a count or the level is unusable, or x > n.
    """
    successes, trials, level = _checked(x, n, level)
    z = normal_quantile((1.0 + level) / 2.0)
    failures = trials - successes
    spread = z * math.sqrt(successes * failures / trials + z * z / 4.0)
    lower = (successes + z * z / 2.0 - spread) / (trials + z * z)
    upper = (successes + z * z / 2.0 + spread) / (trials + z * z)
    # at the edges the bound is exactly 0 or 1, which rounding would miss
    return Interval(0.0 if successes == 0 else lower, 1.0 if failures == 0 else upper, level)


def clopper_pearson_interval(x: int, n: int, level: float) -> Interval:
    """Return the exact (conservative) interval for a proportion.

    Source: Clopper & Pearson 1934, Biometrika 26; Newcombe 1998, Stat. Med. 17:857, method 5.

    Args:
        x: Successes.
        n: Trials, at least 1.
        level: Two-sided confidence level.

    Raises:
        StatsError: If a count or the level is unusable, or x > n.
    """
    successes, trials, level = _checked(x, n, level)
    tail = (1.0 - level) / 2.0
    failures = trials - successes
    lower = 0.0 if successes == 0 else float(beta_quantile(tail, successes, failures + 1.0))
    upper = 1.0 if failures == 0 else float(beta_quantile(1.0 - tail, successes + 1.0, failures))
    return Interval(lower, upper, level)


def _checked(x: int, n: int, level: float) -> tuple[int, int, float]:
    successes, trials = count("x", x), count("n", n, minimum=1)
    if successes > trials:
        raise StatsError("x", f"at most n = {trials}", x)
    return successes, trials, open_fraction("level", level)
