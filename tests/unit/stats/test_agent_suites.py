"""Suites with unequal runs, many studies at once, and intervals that invert the tests."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from assay import stats
from assay.stats import StatsError, agent_suites


def test_many_studies_agree_with_one_at_a_time() -> None:
    """Characteristic functions give what convolution and enumeration give."""
    generator = np.random.default_rng(7)
    for tasks, runs in ((1, 1), (3, 2), (6, 5), (8, 9)):
        x1, x2 = generator.binomial(runs, 0.4, (40, tasks)), generator.binomial(runs, 0.6, (40, tasks))
        fixed, flips = (
            f(x1, x2, runs) for f in (agent_suites.fixed_gain_tests, agent_suites.population_gain_tests)
        )
        for at, (a, b) in enumerate(zip(x1, x2, strict=True)):
            assert fixed.p_better[at] == pytest.approx(
                stats.stratified_exact_test(a, b, runs, "better"), abs=1e-11
            )
            assert fixed.p_worse[at] == pytest.approx(
                stats.stratified_exact_test(a, b, runs, "worse"), abs=1e-11
            )
            for side, p in (("better", flips.p_better[at]), ("worse", flips.p_worse[at])):
                expected = stats.task_sign_flip_test(a / runs, b / runs, side)  # type: ignore[arg-type]
                assert p == pytest.approx(expected, abs=1e-11)


def test_unequal_runs_by_enumeration() -> None:
    """With different numbers of runs the p value is a share of the orders of all runs."""
    runs = [[0.0, 1.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [1.0, 1.0]]
    observed = sum(map(sum, runs[1]))
    totals = []
    for picks in itertools.product(*(itertools.combinations(range(5), len(c)) for c in runs[1])):
        pooled = [a + b for a, b in zip(*runs, strict=True)]
        totals.append(sum(pooled[t][i] for t, chosen in enumerate(picks) for i in chosen))
    expected = sum(t >= observed for t in totals) / len(totals)
    found = agent_suites.fixed_gain_test([1, 2], [2, 3], [2, 2], [3, 2])
    assert found.p_better == pytest.approx(expected)
    assert found.p_worse == pytest.approx(sum(t <= observed for t in totals) / len(totals))


def test_subset_means_invert_the_sign_flip_test() -> None:
    """A gain inside the interval is not rejected, one outside is."""
    gains = [0.2, 0.35, -0.1, 0.4, 0.15, 0.3, 0.05]
    found = agent_suites.subset_mean_bounds(gains, 0.9)
    for gain, inside in (
        (found.lower + 1e-6, True),
        (found.lower - 1e-6, False),
        (found.upper - 1e-6, True),
        (found.upper + 1e-6, False),
    ):
        side = "better" if gain < sum(gains) / 7 else "worse"
        p = stats.sign_flip([-g for g in gains], side, centre=-gain)  # type: ignore[arg-type]
        assert (p > 0.05) is inside


def test_four_tasks_have_no_bounds_at_95_percent() -> None:
    """Too few tasks for the level: the interval is the whole line, whatever they show."""
    found = agent_suites.subset_mean_bounds([0.5, 0.6, 0.7, 0.8], 0.9)
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert agent_suites.subset_mean_bounds([0.5, 0.6, 0.7, 0.8, 0.9], 0.9).lower == pytest.approx(0.5)


def test_tasks_that_all_gain_alike_leave_doubt() -> None:
    """Six tasks that all gain 1 prove no gain of 1: a share of .39 may lose 1 and not have been drawn."""
    found = agent_suites.population_gain_interval([1.0] * 6, 0.9)
    unseen = 1 - 0.05 ** (1 / 6)
    assert found.lower == pytest.approx(1 - 2 * unseen)
    assert found.upper == 1.0
    still = agent_suites.population_gain_interval([0.0] * 6, 0.9)
    assert (still.lower, still.upper) == pytest.approx((-unseen, unseen))
    assert agent_suites.unseen_share(6, 0.05) == pytest.approx(unseen)


def test_tasks_that_differ_much_have_the_interval_of_the_flips() -> None:
    """Where many tasks differ, what was not drawn adds nothing."""
    gains = np.clip(np.random.default_rng(3).normal(0.1, 0.5, 40), -1, 1)
    assert agent_suites.population_gain_interval(gains, 0.9) == agent_suites.subset_mean_bounds(gains, 0.9)


def test_many_tasks_draw_their_subsets() -> None:
    """Beyond the enumeration the bounds are close to Student's t, and the same each time."""
    gains = np.random.default_rng(3).normal(0.2, 0.2, 40)
    found = agent_suites.subset_mean_bounds(gains, 0.9)
    half = 1.685 * gains.std(ddof=1) / math.sqrt(40)
    assert found.lower == pytest.approx(gains.mean() - half, abs=0.01)
    assert found == agent_suites.subset_mean_bounds(gains, 0.9)


def test_permuted_scores_agree_with_the_exact_test_of_passes() -> None:
    """Scores of 0 and 1 give the exact p value, within the error of the draws."""
    baseline = [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    candidate = [[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]]
    found = agent_suites.score_permutation(baseline, candidate, 0.9)
    exact = agent_suites.fixed_gain_test([1, 2, 1], [4] * 3, [3, 3, 2], [4] * 3)
    assert found.p_better == pytest.approx(exact.p_better, abs=0.015)
    assert found.p_worse == pytest.approx(exact.p_worse, abs=0.015)
    assert found.interval.lower < found.gain < found.interval.upper


def test_permuted_scores_find_a_shift() -> None:
    """The interval moves with a constant gain, and keeps its width."""
    generator = np.random.default_rng(5)
    baseline = [generator.uniform(0, 0.5, 6) for _ in range(8)]
    candidate = [generator.uniform(0, 0.5, 6) for _ in range(8)]
    first = agent_suites.score_permutation(baseline, candidate, 0.9).interval
    second = agent_suites.score_permutation(baseline, [c + 0.3 for c in candidate], 0.9).interval
    assert second.lower == pytest.approx(first.lower + 0.3, abs=1e-9)
    assert second.upper == pytest.approx(first.upper + 0.3, abs=1e-9)


def test_interval_of_the_gain_is_that_of_the_drop_mirrored() -> None:
    """With equal runs it is the stratified score interval."""
    x1, x2 = [1, 2, 3, 4], [3, 4, 3, 5]
    found = agent_suites.fixed_gain_interval(x1, [5] * 4, x2, [5] * 4, 0.9)
    known = stats.stratified_noninferiority(x1, x2, 5, 0.0).interval
    assert (found.lower, found.upper) == pytest.approx((-known.upper, -known.lower), abs=1e-9)


def test_spent_levels_sum_to_the_rate_and_grow() -> None:
    """Three looks share the rate much as the published plan does."""
    found = agent_suites.spend(3, 0.05)
    assert sum(found) == pytest.approx(0.05)
    assert found == pytest.approx((0.01, 0.015, 0.025), abs=0.003)


def test_known_figures_of_the_source() -> None:
    """An unchanged text gains a task of five 38 % of the time at .5, and its three probes are one rate."""
    assert agent_suites.unchanged_gain_chance([0.5] * 5) == pytest.approx(0.377, abs=5e-4)
    assert agent_suites.unchanged_gain_chance([0.5] * 5, 2) == pytest.approx(0.172, abs=5e-4)
    assert agent_suites.equal_rates_test([4, 1, 3], [5, 5, 5]) == pytest.approx(0.30, abs=5e-3)
    assert agent_suites.equal_rates_test([4, 1], [5, 5]) == pytest.approx(0.206, abs=5e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: agent_suites.fixed_gain_test([2], [1], [1], [1]),
        lambda: agent_suites.fixed_gain_test([1], [0], [1], [1]),
        lambda: agent_suites.fixed_gain_tests([1, 2], [1, 2], 3),
        lambda: agent_suites.fixed_gain_tests([[4]], [[1]], 3),
        lambda: agent_suites.population_gain_tests([[1]], [[1, 2]], 3),
        lambda: agent_suites.score_permutation([[0.1]], [], 0.9),
        lambda: agent_suites.score_permutation([[math.nan]], [[0.1]], 0.9),
        lambda: agent_suites.subset_mean_bounds([], 0.9),
        lambda: agent_suites.population_gain_interval([1.5, 0.0], 0.9),
        lambda: agent_suites.population_gain_interval([0.1], 1.0),
        lambda: agent_suites.unseen_share(0, 0.05),
        lambda: agent_suites.unseen_share(5, 0.0),
        lambda: agent_suites.spend(0, 0.05),
        lambda: agent_suites.unchanged_gain_chance([1.2]),
        lambda: agent_suites.equal_rates_test([1], [2]),
        lambda: agent_suites.equal_rates_test([1] * 9, [50] * 9),
    ],
)
def test_unusable_arguments_are_named(call: object) -> None:
    """Each wrong argument is refused by name."""
    with pytest.raises(StatsError):
        call()  # type: ignore[operator]


def test_the_percentile_bootstrap_is_as_wrong_as_it_is_said_to_be() -> None:
    """Five units without a difference: the lower end is above 0 twice as often as meant."""
    generator = np.random.default_rng(17)
    draws = 2000
    above = sum(
        agent_suites.percentile_bootstrap(generator.normal(size=5), 0.9, 199, seed).lower > 0
        for seed in range(draws)
    )
    assert 0.085 < above / draws < 0.125
