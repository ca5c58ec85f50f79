"""Garbage in every argument of every public function: a typed error that names the argument."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import assay.stats
from assay.stats import BettingProcess, SequentialPlan, StatsError

COUNTS = {"b": 9, "c": 3, "n": 100}
TABLE = {"x1": 7, "n1": 20, "x2": 5, "n2": 25}
SUITE = {"baseline_successes": [5, 3], "candidate_successes": [4, 3], "runs_per_task": 5}
D = [0.1, -0.2, 0.3, 0.05, -0.1]
PAIRS = [[1.0, 0.0], [0.5, 1.0], [0.0, 0.0]]

# for each public function one usable call
USABLE: dict[str, dict[str, Any]] = {
    "bonett_price_interval": COUNTS | {"level": 0.9},
    "wald_paired_interval": COUNTS | {"level": 0.9},
    "newcombe_paired_interval": COUNTS | {"level": 0.9, "both_right": 60},
    "tango_interval": COUNTS | {"level": 0.9},
    "tango_test": COUNTS | {"margin": 0.01},
    "paired_test": COUNTS | {"margin": 0.01},
    "exact_paired_test": COUNTS | {"margin": 0.01},
    "mcnemar_exact": {"b": 9, "c": 3, "alternative": "worse"},
    "posterior_lean": COUNTS | {"margin": 0.01},
    "smallest_certified_margin": COUNTS | {"alpha": 0.05},
    "paired_variance": COUNTS,
    "missing_bounds": COUNTS | {"missing": 2},
    "missingness_test": {"baseline_only": 1, "candidate_only": 2},
    "pairs_to_settle": COUNTS | {"margin": 0.01, "alpha": 0.05, "power": 0.8},
    "pairs_needed": {"margin": 0.01, "flip_rate": 0.05, "drop": 0.0, "alpha": 0.05, "power": 0.8},
    "power": {"n": 100, "margin": 0.01, "flip_rate": 0.05, "drop": 0.0, "alpha": 0.05},
    "certifiable_margin": {"n": 100, "flip_rate": 0.05, "alpha": 0.05, "power": 0.8},
    "guard_margin": {"n": 100, "flip_rate": 0.05, "alpha": 0.05, "power": 0.8, "ladder": [0.02]},
    "wilson_interval": {"x": 3, "n": 9, "level": 0.9},
    "clopper_pearson_interval": {"x": 3, "n": 9, "level": 0.9},
    "miettinen_nurminen_interval": TABLE | {"level": 0.9},
    "farrington_manning_test": TABLE | {"margin": 0.1},
    "boschloo_test": TABLE | {"alternative": "worse"},
    "rate_difference_test": TABLE,
    "stratified_noninferiority": SUITE | {"margin": 0.1, "level": 0.9},
    "stratified_exact_test": SUITE | {"alternative": "better"},
    "task_regressions": SUITE,
    "task_sign_flip_test": {
        "baseline_rates": [0.1, 0.4], "candidate_rates": [0.2, 0.3], "alternative": "better", "seed": 0,
    },
    "pass_hat_k": {"successes": [3, 4], "runs": 5, "k": 2},
    "runs_needed": {"rates": [0.5, 0.8], "margin": 0.1, "drop": 0.0, "alpha": 0.05, "power": 0.8},
    "clustered_mean": {"d": D, "clusters": [1, 1, 2, 2, 3]},
    "wild_cluster_bootstrap": {"d": D, "margin": 0.1, "clusters": [1, 1, 2, 2, 3], "draws": 99, "seed": 0},
    "bootstrap_t": {"d": D, "level": 0.9, "clusters": [1, 1, 2, 2, 3], "draws": 99, "seed": 0},
    "sign_flip": {"d": D, "alternative": "worse", "centre": 0.0, "draws": 99, "seed": 0},
    "signed_rank": {"d": D, "alternative": "worse", "centre": 0.0},
    "hodges_lehmann": {"d": D, "level": 0.9},
    "repeated_mean": {"baseline": PAIRS, "candidate": PAIRS[::-1], "clusters": [1, 2, 3]},
    "fixed_benchmark": {"baseline": PAIRS, "candidate": PAIRS},
    "variance_components": {"baseline": PAIRS, "candidate": PAIRS},
    "relative_contrast": {"baseline": D, "candidate": D, "loss": 0.01},
    "log_ratio": {"baseline": [1.0, 2.0], "candidate": [1.5, 2.0], "better": "higher"},
    "log_ratio_margin": {"share": 0.1, "better": "lower"},
    "macro_drop": {"drops": [0.1, 0.2], "ses": [0.1, 0.1], "weights": [1, 2]},
    "holm": {"p": [0.1, 0.2]},
    "gatekeeping": {"families": [[0.1], [0.2, 0.3]]},
    "hierarchical_gatekeeping": {"p": [0.1, 0.2], "parents": [None, 0]},
    "spending_boundaries": {"fractions": [0.5, 1.0], "alpha": 0.05, "kind": "pocock"},
    "sequential_plan": {"fractions": [0.5, 1.0], "alpha_accept": 0.05, "alpha_regress": 0.05, "kind": "pocock"},
    "look_schedule": {"n_max": 1000, "looks": 5, "first": 100},
    "betting_evidence": COUNTS | {"margin": 0.01},
    "minimum_detectable_effect": {"n": 100, "flip_rate": 0.05, "margin": 0.0, "alpha": 0.05, "power": 0.8},
    "items_needed": {
        "margin": 0.01, "between": 0.1, "within": 0.1, "repeats": 2, "drop": 0.0, "alpha": 0.05, "power": 0.8,
        "design_effect": 1.0,
    },
    "repeats_needed": {
        "n": 100, "margin": 0.01, "between": 0.1, "within": 0.1, "drop": 0.0, "alpha": 0.05, "power": 0.8,
    },
    "optimal_repeats": {"between": 0.1, "within": 0.1, "cost_item": 1.0, "cost_repeat": 1.0},
    "design_effect": {"cluster_sizes": [3, 4], "correlation": 0.1},
    "neyman_allocation": {"shares": [0.2, 0.8], "flip_rates": [0.2, 0.01], "n": 100},
    "stratified_variance": {"shares": [0.2, 0.8], "flip_rates": [0.2, 0.01], "pairs": [10, 20]},
    "judge_noise_inflation": {"flip_rate": 0.05, "error": 0.02},
    "judged_margin": {
        "margin": 0.01, "right_kept": 9, "right": 10, "wrong_caught": 8, "wrong": 10, "level": 0.9,
    },
    "resolution_probability": COUNTS | {"n_max": 500, "margin": 0.01, "alpha": 0.05},
    "implausible_gain": {"b": [1, 2], "c": [3, 4], "n": [50, 60], "ceiling": 0.02},
    "no_flip_probability": {"n": 100, "flip_rate": 0.01},
    "outputs_to_tell": {"flip_rate": 0.01, "chance": 0.001},
    "flip_excess": COUNTS | {"prior_flip_rate": 0.05, "factor": 3.0},
    "order_trend_test": {"d": D, "times": [1.0, 2.0, 3.0, 4.0, 5.0]},
    "serial_correlation_test": {"d": D},
    "throughput_test": {"log_ratios": D, "band": 0.1, "gain": 0.0, "alpha": 0.05},
    "abba_log_ratios": {"arms": "ABBA", "values": [1.0, 2.0, 2.0, 1.0]},
}  # fmt: skip

GARBAGE: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    True,
    "12",
    b"12",
    None,
    [],
    [[]],
    {},
    -1.5,
    np.array([True]),
    object(),
]

# None stands for "nothing given" here, and -1.5 is a number like any other
FINE = {
    ("newcombe_paired_interval", "both_right", "None"),
    *(
        (name, "clusters", "None")
        for name in ("clustered_mean", "wild_cluster_bootstrap", "bootstrap_t", "repeated_mean")
    ),
    ("macro_drop", "weights", "None"),
    ("order_trend_test", "times", "None"),
    ("wild_cluster_bootstrap", "margin", "-1.5"),
    ("sign_flip", "centre", "-1.5"),
    ("signed_rank", "centre", "-1.5"),
    ("items_needed", "drop", "-1.5"),
    ("repeats_needed", "drop", "-1.5"),
}


def cases() -> Iterator[tuple[str, str, Any]]:
    """Every public function, argument and piece of garbage."""
    for name, usable in USABLE.items():
        for argument in usable:
            for garbage in GARBAGE:
                if (name, argument, repr(garbage)) not in FINE:
                    yield name, argument, garbage


def test_every_public_function_has_a_usable_call() -> None:
    """No public function is left out of this file, and each usable call works."""
    public = {n for n in assay.stats.__all__ if isinstance(getattr(assay.stats, n), types.FunctionType)}
    assert public == set(USABLE)
    for name, usable in USABLE.items():
        getattr(assay.stats, name)(**usable)
        flags = {"mid_p", "bounded", "deterministic"}
        assert set(inspect.signature(getattr(assay.stats, name)).parameters) - flags == set(usable)


@pytest.mark.parametrize("name", sorted(USABLE))
def test_garbage_is_named(name: str) -> None:
    """NaN, infinities, booleans, text, nothing, emptiness, negatives: StatsError with the argument's name."""
    for function, argument, garbage in cases():
        if function != name:
            continue
        with pytest.raises(StatsError) as caught:
            getattr(assay.stats, function)(**(USABLE[function] | {argument: garbage}))
        assert argument in caught.value.argument.split(", "), (argument, garbage, str(caught.value))
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "change", "argument"),
    [
        ("tango_test", {"c": 98}, "n"),
        ("bonett_price_interval", {"b": 101}, "n"),
        ("newcombe_paired_interval", {"both_right": 90}, "n"),
        ("betting_evidence", {"c": 92}, "n"),
        ("resolution_probability", {"n_max": 99}, "n_max"),
        ("boschloo_test", {"x1": 21}, "x1"),
        ("miettinen_nurminen_interval", {"x2": 26}, "x2"),
        ("stratified_noninferiority", {"candidate_successes": [6, 1]}, "candidate_successes"),
        ("stratified_noninferiority", {"candidate_successes": [1]}, "candidate_successes"),
        ("stratified_exact_test", {"runs_per_task": [5, 5, 5]}, "runs_per_task"),
        ("clustered_mean", {"d": [0.1] * 4}, "clusters"),
        ("clustered_mean", {"clusters": [1] * 5}, "clusters"),
        ("repeated_mean", {"candidate": PAIRS[:2]}, "candidate"),
        ("fixed_benchmark", {"baseline": [[1.0], [1.0], [0.0]]}, "baseline"),
        ("variance_components", {"baseline": PAIRS[:1], "candidate": PAIRS[:1]}, "baseline"),
        ("relative_contrast", {"candidate": [0.1]}, "candidate"),
        ("log_ratio", {"candidate": [0.0, 1.0]}, "candidate"),
        ("spending_boundaries", {"fractions": [0.5, 0.5, 1.0]}, "fractions"),
        ("spending_boundaries", {"fractions": [0.5, 1.1]}, "fractions"),
        ("spending_boundaries", {"kind": ("hwang_shih_decani", math.nan)}, "kind"),
        ("spending_boundaries", {"kind": "haybittle"}, "kind"),
        ("spending_boundaries", {"alpha": 0.5}, "alpha"),
        ("neyman_allocation", {"n": 1}, "n"),
        ("neyman_allocation", {"flip_rates": [0.0, 0.0]}, "flip_rates"),
        ("judged_margin", {"right_kept": 11}, "right_kept"),
        ("holm", {"p": [0.1, 1.1]}, "p"),
        ("hodges_lehmann", {"d": [0.0] * 5001}, "d"),
        ("order_trend_test", {"times": [1.0] * 5}, "times"),
        ("throughput_test", {"log_ratios": [0.1, 0.2]}, "log_ratios"),
        ("wild_cluster_bootstrap", {"d": [0.2] * 5}, "d"),
    ],
)  # fmt: skip
def test_contradictions_are_named(name: str, change: dict[str, Any], argument: str) -> None:
    """Counts that exceed their total, lengths that differ, no variance, a single sample."""
    with pytest.raises(StatsError) as caught:
        getattr(assay.stats, name)(**(USABLE[name] | change))
    assert caught.value.argument == argument


@pytest.mark.parametrize("garbage", [math.nan, math.inf, True, "1", None, [], 2.0])
def test_processes_and_plans_name_theirs(garbage: Any) -> None:
    """The classes refuse garbage as the functions do."""
    for argument in ("margin", "alpha_accept", "alpha_regress"):
        with pytest.raises(StatsError, match=f"^{argument}: must be"):
            BettingProcess(**({"margin": 0.01} | {argument: garbage}))
    plan = assay.stats.sequential_plan([0.5, 1.0])
    assert isinstance(plan, SequentialPlan)
    if garbage != 2.0:
        for call in (plan.decide, plan.resolution_probability):
            with pytest.raises(StatsError, match=r"^look: must be"):
                call(garbage, 0.0)
            with pytest.raises(StatsError, match=r"^z: must be"):
                call(1, garbage)
        with pytest.raises(StatsError, match=r"^drift: must be"):
            plan.operation(garbage)
    with pytest.raises(StatsError, match=r"^level: must be"):
        BettingProcess(0.01).interval(garbage)
