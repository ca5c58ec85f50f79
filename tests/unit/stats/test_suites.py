"""Agent suites: exact permutation within tasks, sign flips over tasks, guards, pass^k, planning."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from assay.stats import (
    StatsError,
    boschloo_test,
    pass_hat_k,
    runs_needed,
    stratified_exact_test,
    task_regressions,
    task_sign_flip_test,
)

# two-sided by tails; R 4.2.2: mantelhaen.test(..., exact = TRUE), candidate's successes first
R_MANTELHAEN = [
    ([2, 4, 1, 5, 2], [5, 5, 3, 5, 4], 5, "better", 0.00701530612245),
    ([6, 9, 7], [8, 9, 3], 10, "better", 0.812894938668),
    ([6, 9, 7], [8, 9, 3], 10, "worse", 0.383772015962),
]


@pytest.mark.parametrize(("baseline", "candidate", "runs", "side", "p"), R_MANTELHAEN)
def test_exact_stratified_test_agrees_with_r(
    baseline: list[int], candidate: list[int], runs: int, side: str, p: float
) -> None:
    """The p-values of R's exact conditional Mantel-Haenszel test come out."""
    found = stratified_exact_test(baseline, candidate, runs, side)  # type: ignore[arg-type]
    assert found == pytest.approx(p, abs=1e-12)


def test_exact_stratified_test_is_a_permutation_test() -> None:
    """Two tasks of three runs, all 20 x 20 relabelings gone through by hand."""
    outcomes = [(1, 1, 0, 1, 1, 1), (0, 0, 1, 0, 1, 1)]
    sums = [
        sum(sum(task[i] for i in chosen) for task, chosen in zip(outcomes, pick, strict=True))
        for pick in itertools.product(itertools.combinations(range(6), 3), repeat=2)
    ]
    observed = sum(sum(task[3:]) for task in outcomes)
    expected = np.mean(np.array(sums) >= observed)
    assert stratified_exact_test([2, 1], [3, 2], 3, "better") == pytest.approx(expected)


def test_mid_p_takes_half_of_the_observed() -> None:
    """The two one-sided mid-p values sum to 1; without it they exceed it by the observed table."""
    arguments = ([3, 2, 4], [4, 2, 5], 5)
    both = [stratified_exact_test(*arguments, side, mid_p=True) for side in ("worse", "better")]
    assert sum(both) == pytest.approx(1.0)
    assert sum(stratified_exact_test(*arguments, side) for side in ("worse", "better")) > 1.0


def test_four_tasks_never_prove_a_population_claim() -> None:
    """evolve.md 2.3: five tasks all moving reach 0.031, four stop at 0.0625 whatever the runs."""
    assert task_sign_flip_test([0.0] * 5, [1.0] * 5, "better") == 0.03125
    assert task_sign_flip_test([0.0] * 4, [1.0] * 4, "better") == 0.0625
    assert stratified_exact_test([0] * 4, [10] * 4, 10, "better") < 1e-9


def test_guard_is_boschloo_with_holm() -> None:
    """One clear regression among three tasks is found, and its p-value is three times Boschloo's."""
    adjusted = task_regressions([10, 8, 9], [2, 8, 9], 10)
    assert adjusted[0] == pytest.approx(3 * boschloo_test(10, 10, 2, 10, "worse"))
    assert adjusted[0] < 0.025 < adjusted[1]


def test_pass_hat_k() -> None:
    """pass^1 is the mean success, pass^k by counting subsets, and it never rises with k."""
    successes, runs = [3, 5, 0, 4], 5
    assert pass_hat_k(successes, runs, 1) == pytest.approx(12 / 20)
    assert pass_hat_k(successes, runs, 3) == pytest.approx((1 / 10 + 1 + 0 + 4 / 10) / 4)
    values = [pass_hat_k(successes, runs, k) for k in range(1, 6)]
    assert values == sorted(values, reverse=True)
    with pytest.raises(StatsError, match=r"^k: must be at most the runs"):
        pass_hat_k(successes, runs, 6)


def test_runs_needed_agrees_with_the_research_note() -> None:
    """statistics.md 2.5: about 10 runs certify 20 points with 80 %, about 40 certify 10 points."""
    rates = [0.95, 0.8, 0.6, 0.9, 0.75]
    assert runs_needed(rates, 0.2) == pytest.approx(10, abs=1)
    assert runs_needed(rates, 0.1) == pytest.approx(40, abs=5)
    assert runs_needed(rates, 0.1, drop=0.1) == math.inf
