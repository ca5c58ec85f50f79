"""The source's rule to the edge: bands, required gain, presets, order of refusals, and its document."""

from __future__ import annotations

from typing import Any

import pytest

from assay.core.vocabulary import Outcome, Status
from assay.gates._deploy.beside import seed_words
from assay.gates._deploy.policy import PRESETS, Growth, growth_of
from assay.gates._deploy.seed import (
    Band,
    SeedInputs,
    percentile_bootstrap,
    seed_band,
    seed_decision,
    seed_required_tasks,
)

TASKS = {"a": True, "b": False, "c": False, "d": True, "e": False}
MORE = {**TASKS, "b": True}


@pytest.mark.parametrize(
    ("judge", "tasks", "band"),
    [
        (0.5, 0.15, Band.UNIFORM_FAILURE),
        (1.0, 0.15, Band.UNIFORM_FAILURE),
        (0.5, 0.150001, Band.HEALTHY),
        (0.99, None, Band.NO_HEADROOM),
        (0.989, None, Band.HEALTHY),
        (0.95, None, Band.HEALTHY),
        (0.95, 0.95, Band.NO_HEADROOM),
        (0.949, 0.95, Band.HEALTHY),
        (0.95, 0.949, Band.WEAK_SIGNAL),
        (0.99, 0.5, Band.WEAK_SIGNAL),
        (0.5, 1.0, Band.HEALTHY),
        (0.95, 0.16, Band.WEAK_SIGNAL),
    ],
)
def test_bands_to_the_edge(judge: float, tasks: float | None, band: Band) -> None:
    """Thresholds .99, .95, .95 and .15, the last one inclusive, in the source's order."""
    assert seed_band(judge, tasks) is band


def test_a_mean_outside_its_range_has_no_band() -> None:
    """What is no mean is refused, not classified."""
    for judge, tasks in ((1.1, None), (0.5, -0.1), (float("nan"), None)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            seed_band(judge, tasks)


@pytest.mark.parametrize(
    ("growth", "tasks"), [(-0.5, 1), (0.0, 1), (0.2, 1), (1.2, 1), (1.21, 2), (2.2, 2), (2.21, 3), (4.0, 4)]
)
def test_required_tasks_by_growth(growth: float, tasks: int) -> None:
    """One task up to a growth of 120 %, one more for each further 100 %."""
    assert seed_required_tasks(growth) == tasks


def test_presets() -> None:
    """Free growth, slope and ceiling of each."""
    assert {name.value: tuple(p) for name, p in PRESETS.items()} == {
        "strict": (0.10, 0.50, 3_000),
        "default": (0.20, 0.30, 5_000),
        "lenient": (0.30, 0.20, 8_000),
        "off": (100.0, 0.0, 100_000),
        "non-inferiority": (100.0, 0.0, 100_000),
    }
    assert growth_of(0, 3) == 3.0


def inputs(**more: Any) -> SeedInputs:
    """A study in the band where tasks decide."""
    given: dict[str, Any] = {
        "baseline_chars": 1000,
        "evolved_chars": 1100,
        "baseline_per_example": (0.96, 0.97, 0.98),
        "evolved_per_example": (0.96, 0.97, 0.98),
        "band": Band.WEAK_SIGNAL,
        "baseline_tasks": TASKS,
        "evolved_tasks": MORE,
    }
    return SeedInputs(**{**given, **more})


def test_one_task_more_deploys_in_the_weak_band() -> None:
    """The document says which signal decided and has all of its fields."""
    found = seed_decision(inputs())
    assert (found["decision"], found["reason"], found["decision_signal"]) == ("deploy", "ok", "closed_loop")
    assert (found["schema_version"], found["cl_tasks_gained"], found["cl_required_gain"]) == (5, 1, 1)
    assert found["synthetic_sanity_check"]["passed"] is True
    assert found["band_trigger_score"] == {"holdout": pytest.approx(0.97), "closed_loop": pytest.approx(0.4)}
    assert found["effective_absolute_char_ceiling"] == 5000


@pytest.mark.parametrize(
    ("more", "decision", "reason", "signal"),
    [
        ({"evolved_tasks": TASKS}, "reject", "growth_quality_gate", "closed_loop"),
        ({"evolved_chars": 2300}, "reject", "growth_quality_gate", "closed_loop"),
        ({"evolved_per_example": (0.9, 0.91, 0.92)}, "reject", "growth_quality_gate", "closed_loop"),
        ({"evolved_per_example": (0.92, 0.92, 0.93)}, "deploy", "ok", "closed_loop"),
        ({"static_failures": ("size_limit",)}, "reject", "static_constraint_failure", "synthetic"),
        ({"force_run_error": "no agent"}, "aborted", "cl_eval_failed", "closed_loop"),
        ({"evolved_tasks": {**MORE, "e": None}}, "aborted", "cl_eval_incomplete", "closed_loop"),
        ({"benchmark_exit": 1}, "reject", "benchmark_failed", "closed_loop"),
        ({"benchmark_exit": 0}, "deploy", "ok", "closed_loop"),
        ({"cost": 5.01, "cost_ceiling": 5.0}, "aborted", "cost_ceiling_exceeded", "synthetic"),
        ({"cost": 5.0, "cost_ceiling": 5.0}, "deploy", "ok", "closed_loop"),
        ({"cost": 0.01, "cost_ceiling": 0.0}, "aborted", "cost_ceiling_exceeded", "synthetic"),
        ({"band": Band.HEALTHY, "evolved_tasks": TASKS}, "deploy", "ok", "synthetic"),
        ({"band": None, "evolved_tasks": TASKS}, "deploy", "ok", "synthetic"),
        ({"baseline_tasks": {}, "evolved_tasks": {}}, "deploy", "ok", "synthetic"),
        (
            {"band": Band.HEALTHY, "closed_loop": "always", "evolved_tasks": TASKS},
            "reject",
            "growth_quality_gate",
            "closed_loop",
        ),
    ],
)
def test_outcomes(more: dict[str, Any], decision: str, reason: str, signal: str) -> None:
    """Each ending of the source's table."""
    found = seed_decision(inputs(**more))
    assert (found["decision"], found["reason"], found["decision_signal"]) == (decision, reason, signal)


def test_a_long_text_is_refused_after_its_tasks_were_paid_for() -> None:
    """The ceiling is checked with the gain: max of the absolute one and 1.5 times the baseline."""
    long = inputs(baseline_chars=4000, evolved_chars=6001, evolved_tasks=dict.fromkeys(TASKS, True))
    assert seed_decision(long)["failed_constraints"] == ["absolute_char_ceiling"]
    assert seed_decision(long)["cl_tasks_gained"] == 3
    fits = inputs(baseline_chars=4000, evolved_chars=6000, evolved_tasks=dict.fromkeys(TASKS, True))
    assert seed_decision(fits)["decision"] == "deploy"


@pytest.mark.parametrize(
    ("growth", "chars", "after", "rule", "deploys"),
    [
        (Growth.DEFAULT, 1100, (0.6, 0.5, 0.4), "no_regression_only", True),
        (Growth.DEFAULT, 1100, (0.6, 0.5, 0.3), "no_regression_only", False),
        (Growth.DEFAULT, 1600, (0.65, 0.63, 0.67), "dual_check", True),
        (Growth.DEFAULT, 1600, (0.6, 0.6, 0.61), "dual_check", False),
        (Growth.DEFAULT, 1600, (1.0, 1.0, 0.05), "dual_check", False),
        (Growth.OFF, 9000, (0.6, 0.5, 0.3), "no_regression_only", False),
        (Growth.NON_INFERIORITY, 9000, (0.46, 0.47, 0.48), "non_inferiority", True),
        (Growth.NON_INFERIORITY, 9000, (0.46, 0.47, 0.3), "non_inferiority", False),
    ],
)
def test_the_judges_gate(
    growth: Growth, chars: int, after: tuple[float, ...], rule: str, deploys: bool
) -> None:
    """Dual check for growth that must be earned, no loss without, tolerance where it was declared."""
    found = seed_decision(
        inputs(
            band=Band.HEALTHY,
            growth=growth,
            evolved_chars=chars,
            baseline_per_example=(0.5, 0.5, 0.5),
            evolved_per_example=after,
        )
    )
    assert found["decision_rule_used"] == rule
    assert (found["decision"] == "deploy") is deploys


def test_the_bootstrap_is_seeded_and_told() -> None:
    """The same seed gives the same bounds, and the document says how they were made."""
    first = percentile_bootstrap([0.1, -0.2, 0.3, 0.0], 2000, 0.9, 42)
    assert first == percentile_bootstrap([0.1, -0.2, 0.3, 0.0], 2000, 0.9, 42)
    assert first["lower_bound"] < first["mean"] < first["upper_bound"]
    assert (first["n_examples"], first["n_resamples"], first["confidence"]) == (4, 2000, 0.9)


def test_wins_and_losses_of_the_judge_are_counted() -> None:
    """Per example, with the worst of each."""
    found = seed_decision(inputs(evolved_per_example=(0.99, 0.97, 0.95)))["win_loss"]
    assert (found["n_wins"], found["n_losses"], found["n_ties"]) == (1, 1, 1)
    assert found["worst_regression"] == pytest.approx(-0.03)


def test_nothing_to_decide_by_is_said() -> None:
    """Neither judge nor tasks, and sides of different length, are errors and no decision."""
    with pytest.raises(ValueError, match="neither"):
        seed_decision(SeedInputs(baseline_chars=1, evolved_chars=1))
    with pytest.raises(ValueError, match="different numbers"):
        seed_decision(inputs(evolved_per_example=(0.9,)))


def test_a_skipped_preflight_is_named() -> None:
    """Tasks can never decide then."""
    assert seed_decision(inputs(band=None))["reason_synthetic"] == "preflight_skipped"


def test_our_words_for_its_decisions() -> None:
    """Deploy, refusals and aborts have a word each."""
    cases: list[tuple[dict[str, Any], tuple[Status, Outcome]]] = [
        ({}, (Status.PASS, Outcome.ACCEPT)),
        ({"evolved_tasks": TASKS}, (Status.FAIL, Outcome.NO_GAIN)),
        ({"evolved_tasks": {**TASKS, "a": False}}, (Status.FAIL, Outcome.REGRESSION)),
        ({"static_failures": ("size_limit",)}, (Status.FAIL, Outcome.INFEASIBLE)),
        ({"evolved_tasks": {**MORE, "e": None}}, (Status.ERROR, Outcome.ANOMALOUS)),
        ({"cost": 2.0, "cost_ceiling": 1.0}, (Status.ERROR, Outcome.ANOMALOUS)),
    ]
    for more, expected in cases:
        assert seed_words(seed_decision(inputs(**more)))[:2] == expected
