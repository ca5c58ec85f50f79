"""Paired comparison of a candidate with its baseline: tests, intervals and planning.

Counts and differences in, estimates and p-values out. Drops and margins are fractions (1 point = 0.01).
Everything here is pure and deterministic; numpy and scipy are all it needs.
"""

from __future__ import annotations

from .errors import StatsError
from .exact import exact_paired_test, paired_test
from .intervals import clopper_pearson_interval, wilson_interval
from .means import ClusteredMean, clustered_mean
from .missing import MissingBounds, PairedCounts, missing_bounds
from .multiple import MacroDrop, holm, macro_drop
from .paired import (
    mcnemar_exact,
    posterior_lean,
    smallest_certified_margin,
    tango_interval,
    tango_test,
)
from .planning import (
    PairsToSettle,
    certifiable_margin,
    guard_margin,
    paired_variance,
    pairs_needed,
    pairs_to_settle,
    power,
)
from .results import Interval, Intervals, MarginTest, MarginTests

__all__ = [
    "ClusteredMean",
    "Interval",
    "Intervals",
    "MacroDrop",
    "MarginTest",
    "MarginTests",
    "MissingBounds",
    "PairedCounts",
    "PairsToSettle",
    "StatsError",
    "certifiable_margin",
    "clopper_pearson_interval",
    "clustered_mean",
    "exact_paired_test",
    "guard_margin",
    "holm",
    "macro_drop",
    "mcnemar_exact",
    "missing_bounds",
    "paired_test",
    "paired_variance",
    "pairs_needed",
    "pairs_to_settle",
    "posterior_lean",
    "power",
    "smallest_certified_margin",
    "tango_interval",
    "tango_test",
    "wilson_interval",
]
