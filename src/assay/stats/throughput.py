"""Throughput or latency of a candidate against its baseline, in interleaved pairs on the same host.

Trials run in blocks A B B A (A the baseline), relaunched in each block, so that a drift of the machine
hits both arms alike. The statistic is the log ratio of each pair of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._special import t_cdf, t_quantile
from ._validate import FloatArray, NumericArray, alpha_fraction, margin_fraction, vector
from .anomalies import order_trend_test, serial_correlation_test
from .errors import StatsError
from .rank_tests import hodges_lehmann, signed_rank
from .repeats import log_ratio_margin
from .results import Interval

FEWEST_PAIRS = 4
"""Fewer pairs than this are no evidence."""


@dataclass(frozen=True, slots=True)
class ThroughputTest:
    """What interleaved pairs say about the ratio candidate / baseline of a rate (higher is better)."""

    pairs: int
    """Number of pairs."""

    ratio: float
    """Geometric mean of candidate / baseline."""

    interval: Interval
    """Student's t interval of the ratio, of level 1 - 2 * alpha."""

    rank_interval: Interval
    """Signed-rank (Hodges-Lehmann) interval of the ratio, same level; infinite or 0 ends where too few pairs."""

    p_accept: float
    """The larger p-value, of t and signed ranks, of H0: the ratio is at most 1 - band."""

    p_regress: float
    """The larger p-value of H0: the ratio is at least 1 - band."""

    accept: bool
    """Whether both show the candidate to be no slower than the band allows."""

    regress: bool
    """Whether both show it to be slower than the band allows."""

    tie: bool
    """Whether both intervals lie within the band, 1 - band to 1 + band."""

    faster: bool
    """Whether both lower ends lie above 1 + gain."""

    p_trend: float
    """p-value of "no trend over the pairs"; below 0.01 more blocks are needed, never fewer."""

    p_serial: float
    """p-value of "no serial correlation over the pairs"; the same."""


def throughput_test(
    log_ratios: NumericArray, band: float = 0.1, gain: float = 0.0, alpha: float = 0.05
) -> ThroughputTest:
    """Judge paired log ratios by Student's t and by signed ranks, which must agree.

    Args:
        log_ratios: ln(candidate / baseline) per pair in the order of their run, shape (N,), N >= 4; for
            latencies ln(baseline / candidate).
        band: Relative loss that is allowed, in (0, 1); also the band of a tie.
        gain: Relative gain that "faster" must exceed, in [0, 1).
        alpha: One-sided error rate of each statement.

    Raises:
        StatsError: If an argument is unusable, or all log ratios are equal.
    """
    y, error = vector("log_ratios", log_ratios), alpha_fraction("alpha", alpha)
    if y.size < FEWEST_PAIRS:
        raise StatsError("log_ratios", f"of length at least {FEWEST_PAIRS}", f"length {y.size}")
    if (y == y[0]).all():
        raise StatsError("log_ratios", "of some variance", log_ratios)
    if margin_fraction("band", band) == 0.0:
        raise StatsError("band", "in (0, 1)", band)
    floor = -log_ratio_margin(band, "higher")
    mean, se, df = float(y.mean()), float(y.std(ddof=1)) / math.sqrt(y.size), y.size - 1
    reach = t_quantile(1.0 - error, df) * se
    ranks = hodges_lehmann(y, 1.0 - 2.0 * error).interval
    lower, upper = min(mean - reach, ranks.lower), max(mean + reach, ranks.upper)
    t = (mean - floor) / se
    # "worse" is the name of the side above the centre, which here is the faster one
    p_accept = max(t_cdf(-t, df), signed_rank(y, "worse", floor))
    p_regress = max(t_cdf(t, df), signed_rank(y, "better", floor))
    return ThroughputTest(
        pairs=y.size,
        ratio=math.exp(mean),
        interval=_ratios(mean - reach, mean + reach, 1.0 - 2.0 * error),
        rank_interval=_ratios(ranks.lower, ranks.upper, 1.0 - 2.0 * error),
        p_accept=p_accept,
        p_regress=p_regress,
        accept=p_accept <= error,
        regress=p_regress <= error,
        tie=lower > floor and upper < math.log1p(band),
        faster=lower > math.log1p(margin_fraction("gain", gain)),
        p_trend=order_trend_test(y),
        p_serial=serial_correlation_test(y),
    )


def abba_log_ratios(arms: Sequence[str], values: NumericArray) -> FloatArray:
    """Return ln(B / A) of each pair of neighbours of trials run in blocks A B B A (or B A A B).

    Args:
        arms: "A" (baseline) or "B" (candidate) of each trial in the order of their run; warm-up left out.
        values: Tokens per second, or another positive metric, of each trial, same length.

    Returns:
        Log ratios, half as many as trials.

    Raises:
        StatsError: If a value is not positive, the lengths differ, or the trials do not come in blocks
            of four whose first and last trial are of one arm and the two between of the other.
    """
    measured = vector("values", values)
    if (measured <= 0.0).any():
        raise StatsError("values", "positive", values)
    if isinstance(arms, str):
        arms = list(arms)
    order = "".join(arm if arm in ("A", "B") else "?" for arm in arms) if isinstance(arms, Sequence) else ""
    if len(order) != measured.size:
        raise StatsError("arms", f"one of 'A', 'B' for each of {measured.size} values", arms)
    if any(order[at : at + 4] not in ("ABBA", "BAAB") for at in range(0, len(order), 4)):
        raise StatsError("arms", "blocks of 'ABBA' or 'BAAB'", order)
    logs = np.log(measured)
    signs = np.where(np.array(list(order)) == "B", 1.0, -1.0)
    return np.asarray((logs * signs).reshape(-1, 2).sum(axis=1))


def _ratios(lower: float, upper: float, level: float) -> Interval:
    return Interval(math.exp(lower), math.inf if upper == math.inf else math.exp(upper), level)
