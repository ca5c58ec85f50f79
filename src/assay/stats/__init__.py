"""Paired comparison of a candidate with its baseline: tests, intervals, sequential plans and planning.

Counts and differences in, estimates and p-values out. Drops and margins are fractions (1 point = 0.01).
Everything here is pure; what draws at random takes a seed and gives the same result again. numpy and
scipy are all it needs.

One task of right/wrong pairs   paired, paired_intervals, exact
Means, repeats, few clusters    means, repeats, rank_tests
Two samples, strata, agents     intervals, two_sample, suites
Many tasks                      multiple
Stopping early                  sequential (n_max known), betting (at any time), sprt
Planning                        planning, designs
Doubt                           missing, anomalies
Speed                           throughput
"""

from __future__ import annotations

from .anomalies import (
    FlipExcess,
    flip_excess,
    implausible_gain,
    no_flip_probability,
    order_trend_test,
    outputs_to_tell,
    rate_difference_test,
    serial_correlation_test,
)
from .betting import BettingProcess, Evidence, EvidenceArrays, betting_evidence
from .designs import (
    design_effect,
    items_needed,
    judge_noise_inflation,
    judged_margin,
    minimum_detectable_effect,
    neyman_allocation,
    optimal_repeats,
    repeats_needed,
    resolution_probability,
    stratified_variance,
)
from .errors import StatsError
from .exact import exact_paired_test, paired_test
from .intervals import clopper_pearson_interval, wilson_interval
from .means import ClusteredMean, clustered_mean, wild_cluster_bootstrap
from .missing import MissingBounds, PairedCounts, missing_bounds, missingness_test
from .multiple import MacroDrop, gatekeeping, hierarchical_gatekeeping, holm, macro_drop
from .paired import mcnemar_exact, posterior_lean, smallest_certified_margin, tango_interval, tango_test
from .paired_intervals import bonett_price_interval, newcombe_paired_interval, wald_paired_interval
from .planning import (
    PairsToSettle,
    certifiable_margin,
    guard_margin,
    paired_variance,
    pairs_needed,
    pairs_to_settle,
    power,
)
from .rank_tests import Shift, bootstrap_t, hodges_lehmann, sign_flip, signed_rank
from .repeats import (
    FixedBenchmark,
    VarianceComponents,
    fixed_benchmark,
    log_ratio,
    log_ratio_margin,
    relative_contrast,
    repeated_mean,
    variance_components,
)
from .results import Interval, Intervals, MarginTest, MarginTests
from .sequential import (
    Operation,
    SequentialPlan,
    Spending,
    look_schedule,
    sequential_plan,
    spending_boundaries,
)
from .sprt import SPRT
from .suites import pass_hat_k, runs_needed, stratified_exact_test, task_regressions, task_sign_flip_test
from .throughput import ThroughputTest, abba_log_ratios, throughput_test
from .two_sample import (
    StratifiedTest,
    boschloo_test,
    farrington_manning_test,
    miettinen_nurminen_interval,
    stratified_noninferiority,
)

__all__ = [
    "SPRT",
    "BettingProcess",
    "ClusteredMean",
    "Evidence",
    "EvidenceArrays",
    "FixedBenchmark",
    "FlipExcess",
    "Interval",
    "Intervals",
    "MacroDrop",
    "MarginTest",
    "MarginTests",
    "MissingBounds",
    "Operation",
    "PairedCounts",
    "PairsToSettle",
    "SequentialPlan",
    "Shift",
    "Spending",
    "StatsError",
    "StratifiedTest",
    "ThroughputTest",
    "VarianceComponents",
    "abba_log_ratios",
    "betting_evidence",
    "bonett_price_interval",
    "bootstrap_t",
    "boschloo_test",
    "certifiable_margin",
    "clopper_pearson_interval",
    "clustered_mean",
    "design_effect",
    "exact_paired_test",
    "farrington_manning_test",
    "fixed_benchmark",
    "flip_excess",
    "gatekeeping",
    "guard_margin",
    "hierarchical_gatekeeping",
    "hodges_lehmann",
    "holm",
    "implausible_gain",
    "items_needed",
    "judge_noise_inflation",
    "judged_margin",
    "log_ratio",
    "log_ratio_margin",
    "look_schedule",
    "macro_drop",
    "mcnemar_exact",
    "miettinen_nurminen_interval",
    "minimum_detectable_effect",
    "missing_bounds",
    "missingness_test",
    "newcombe_paired_interval",
    "neyman_allocation",
    "no_flip_probability",
    "optimal_repeats",
    "order_trend_test",
    "outputs_to_tell",
    "paired_test",
    "paired_variance",
    "pairs_needed",
    "pairs_to_settle",
    "pass_hat_k",
    "posterior_lean",
    "power",
    "rate_difference_test",
    "relative_contrast",
    "repeated_mean",
    "repeats_needed",
    "resolution_probability",
    "runs_needed",
    "sequential_plan",
    "serial_correlation_test",
    "sign_flip",
    "signed_rank",
    "smallest_certified_margin",
    "spending_boundaries",
    "stratified_exact_test",
    "stratified_noninferiority",
    "stratified_variance",
    "tango_interval",
    "tango_test",
    "task_regressions",
    "task_sign_flip_test",
    "throughput_test",
    "variance_components",
    "wald_paired_interval",
    "wild_cluster_bootstrap",
    "wilson_interval",
]
