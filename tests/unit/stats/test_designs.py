"""Plans with repeats, clusters, strata and noisy judges: closed forms, the research note, simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from assay.stats import (
    design_effect,
    items_needed,
    judge_noise_inflation,
    judged_margin,
    minimum_detectable_effect,
    neyman_allocation,
    optimal_repeats,
    paired_test,
    pairs_needed,
    repeats_needed,
    resolution_probability,
    stratified_variance,
    tango_test,
)


def test_miller_worked_example() -> None:
    """Miller 2024, section 5: 3 points, variance 1/9, two-sided 0.05, power 0.8 need 969 questions."""
    assert items_needed(0.03, 1 / 9, 0.0, alpha=0.025) == pytest.approx(969, abs=1)


def test_tensorrt_llm_plan() -> None:
    """TensorRT-LLM's accuracy suite: alpha 0.05, beta 0.2, sigma 50, n 4096, unpaired: 2.75 points."""
    n, sigma = 4096, 0.5
    needed = items_needed(0.02747, 2 * sigma**2, 0.0)
    assert needed == pytest.approx(n, rel=0.005)


def test_items_are_pairs_without_repeats() -> None:
    """With all variance between items the formula is that of pairs: 3,092 for 1 pt at a flip rate of 5 %."""
    assert items_needed(0.01, 0.05, 0.0) == pairs_needed(0.01, 0.05) == 3092
    assert items_needed(0.01, 0.0, 0.05, repeats=5) == math.ceil(3092 / 5)
    assert items_needed(0.01, 0.05, 0.0, design_effect=2.0) == pytest.approx(2 * 3092, abs=1)


def test_repeats_needed_inverts_items_needed() -> None:
    """K repeats on n items reach the power that n items with k repeats need, and k - 1 do not."""
    between, within, n = 0.01, 0.4, 1500
    k = int(repeats_needed(n, 0.01, between, within))
    assert items_needed(0.01, between, within, k) <= n < items_needed(0.01, between, within, k - 1)


def test_a_small_benchmark_is_the_limit() -> None:
    """198 items with 0.05 between them certify 1 pt with no number of repeats."""
    assert repeats_needed(198, 0.01, 0.05, 0.2) == math.inf


def test_optimal_repeats_minimise_the_cost() -> None:
    """Among whole numbers around it none gives less variance for the same cost."""
    between, within, item, repeat = 0.01, 0.3, 1.0, 0.5
    best = optimal_repeats(between, within, item, repeat)

    def price(k: float) -> float:
        return (between + within / k) * (item + repeat * k)

    assert price(best) <= min(price(k) for k in np.linspace(1, 40, 400)) + 1e-9
    assert optimal_repeats(0.3, 0.01, 1.0, 1.0) == 1.0


def test_minimum_detectable_effect_has_the_power() -> None:
    """Simulated at that drop, REGRESSION comes with the planned 80 %."""
    n, rate = 2000, 0.06
    drop = minimum_detectable_effect(n, rate, margin=0.01)
    rng = np.random.default_rng(10)
    flips = rng.multinomial(n, [(rate + drop) / 2, (rate - drop) / 2, 1 - rate], size=20_000)
    power = (tango_test(flips[:, 0], flips[:, 1], n, 0.01).p_regress <= 0.05).mean()
    assert power == pytest.approx(0.8, abs=0.02)
    assert minimum_detectable_effect(10, 0.01, margin=0.5) == math.inf


def test_design_effect_of_equal_clusters() -> None:
    """Clusters of 5 with a correlation of 0.25 double the variance; single units change nothing."""
    assert design_effect([5, 5, 5, 5], 0.25) == pytest.approx(2.0)
    assert design_effect([1] * 9, 0.7) == pytest.approx(1.0)


def test_judge_noise_agrees_with_the_research_note() -> None:
    """statistics.md 2.6: errors of 2, 5 and 10 % at a flip rate of 5 % need 1.9, 3.3 and 6.6 times the pairs."""
    factors = [judge_noise_inflation(0.05, error) for error in (0.0, 0.02, 0.05, 0.10)]
    assert factors == pytest.approx([1.0, 1.85, 3.35, 6.62], abs=0.005)


def test_neyman_agrees_with_the_research_note() -> None:
    """statistics.md 2.6: 90 % of flips in 20 % of items halve the variance, 80 % make it 1.56 times less."""
    for share, gain in ((0.9, 2.0), (0.8, 1.56)):
        rates = [0.05 * share / 0.2, 0.05 * (1 - share) / 0.8]
        pairs = neyman_allocation([0.2, 0.8], rates, 2000)
        assert pairs.sum() == 2000
        assert 0.05 / 2000 / stratified_variance([0.2, 0.8], rates, pairs) == pytest.approx(gain, abs=0.01)


def test_neyman_leaves_no_stratum_empty() -> None:
    """A stratum without planned flips still gets a pair, and few pairs are shared out whole."""
    assert neyman_allocation([0.5, 0.3, 0.2], [0.0, 0.1, 0.2], 7).tolist() == [1.0, 3.0, 3.0]
    assert neyman_allocation([1, 1, 1], [0.1, 0.1, 0.1], 3).tolist() == [1.0, 1.0, 1.0]


def test_judged_margin_shrinks_with_the_judge() -> None:
    """A perfect judge of 10,000 keeps the margin, a coin leaves none, and less gold leaves less."""
    assert judged_margin(0.01, 10_000, 10_000, 10_000, 10_000) == pytest.approx(0.01, rel=1e-3)
    assert judged_margin(0.01, 50, 100, 50, 100) == 0.0
    small, large = judged_margin(0.01, 47, 50, 46, 50), judged_margin(0.01, 940, 1000, 920, 1000)
    assert small < large < 0.0086


def test_resolution_probability_agrees_with_simulation() -> None:
    """The predicted chance is near that of fresh pairs drawn from flip rates of the posterior."""
    b, c, n, n_max, margin = 30, 24, 1000, 4000, 0.01
    rng = np.random.default_rng(11)
    rates = rng.dirichlet([b + 0.5, c + 0.5, n - b - c + 0.5], size=20_000)
    more = np.array([rng.multinomial(n_max - n, p) for p in rates])
    z = tango_test(b + more[:, 0], c + more[:, 1], n_max, margin).z
    assert resolution_probability(b, c, n, n_max, margin) == pytest.approx(
        (np.abs(z) > 1.645).mean(), abs=0.02
    )
    assert resolution_probability(0, 0, 10, 10, 0.01) in (0.0, 1.0)


def test_resolution_needs_a_rest() -> None:
    """With nothing left the chance is 1 where the matter is settled already, and 0 elsewhere."""
    assert paired_test(5, 40, 1000, 0.01).p_accept < 0.05
    assert resolution_probability(5, 40, 1000, 1000, 0.01) == 1.0
    assert resolution_probability(12, 4, 1000, 1000, 0.01) == 0.0
