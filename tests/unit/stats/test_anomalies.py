"""What forbids to believe the numbers: closed forms, scipy, R, and false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from assay.stats import (
    StatsError,
    boschloo_test,
    flip_excess,
    gatekeeping,
    hierarchical_gatekeeping,
    holm,
    implausible_gain,
    mcnemar_exact,
    missingness_test,
    no_flip_probability,
    order_trend_test,
    outputs_to_tell,
    rate_difference_test,
    serial_correlation_test,
    tango_test,
)


def test_implausible_gain_is_the_mirrored_score_test_with_holm() -> None:
    """Each task is tested for a gain above the ceiling, and the p-values are adjusted for their number."""
    b, c, n = [5, 12, 1], [60, 15, 30], 400
    plain = [tango_test(gain, loss, n, 0.02).p_regress for loss, gain in zip(b, c, strict=True)]
    assert implausible_gain(b, c, n) == pytest.approx(holm(plain))
    assert implausible_gain(b, c, n)[0] < 0.01 < implausible_gain(b, c, n)[1]


def test_point_gains_of_equal_models_raise_no_alarm() -> None:
    """statistics.md 2.3: equal sampled models on 30 items gain 5 points in 27 % of runs; here 1 % are flagged."""
    rng = np.random.default_rng(12)
    flips = rng.multinomial(30, [0.095, 0.095, 0.81], size=3000)
    assert ((flips[:, 1] - flips[:, 0]) / 30 > 0.05).mean() > 0.2
    alarms = [implausible_gain([b], [c], 30)[0] <= 0.01 for b, c, _ in flips]
    assert np.mean(alarms) <= 0.012


def test_equal_outputs_agree_with_the_research_note() -> None:
    """statistics.md 3.8: no change in 688 outputs where 1 % change has a chance below 0.001."""
    assert outputs_to_tell(0.01) == 688
    assert no_flip_probability(688, 0.01) < 0.001 <= no_flip_probability(687, 0.01)


def test_flip_excess_tells_a_template_from_a_loss() -> None:
    """Many flips both ways are an excess without a direction; R's pbinom gives the tail."""
    both_ways = flip_excess(16, 14, 200, 0.05)
    assert both_ways.flip_rate == 0.15
    assert both_ways.p_usual == pytest.approx(0.530265940453, abs=1e-12)
    assert flip_excess(30, 28, 200, 0.05).p_usual < 0.001 < flip_excess(30, 28, 200, 0.05).p_no_drop
    assert flip_excess(40, 2, 200, 0.05).p_no_drop < 0.001
    assert flip_excess(1, 1, 4, 0.5).p_usual == 1.0


def test_rate_difference_switches_by_size() -> None:
    """Exact up to 500 trials, beyond R's prop.test(c(30, 14), c(2000, 2000)) p 0.0152886754287."""
    assert rate_difference_test(3, 200, 14, 200) == boschloo_test(3, 200, 14, 200)
    assert rate_difference_test(30, 2000, 14, 2000) == pytest.approx(0.0152886754287, abs=1e-12)
    assert rate_difference_test(0, 1000, 0, 1000) == 1.0
    with pytest.raises(StatsError, match=r"^x2: must be at most n2"):
        rate_difference_test(1, 1000, 1001, 1000)


def test_order_trend_is_a_correlation_test() -> None:
    """Its z is the correlation with the order times sqrt(N - 1), the permutation variance."""
    d = np.random.default_rng(13).normal(size=80) + np.linspace(0, 0.8, 80)
    r = stats.pearsonr(d, np.arange(80)).statistic
    assert order_trend_test(d) == pytest.approx(2 * stats.norm.sf(abs(r) * 79**0.5))
    assert order_trend_test(d, np.arange(80) * 3.0 + 7) == pytest.approx(order_trend_test(d))
    assert order_trend_test([0.1, 0.1, 0.1]) == 1.0


def test_trends_of_sparse_flips_raise_no_alarm() -> None:
    """On 300 pairs of 5 % flips in random order the 0.001 rule is broken by about 1 in 1,000."""
    rng = np.random.default_rng(14)
    alarms = sum(
        order_trend_test(rng.choice([-1.0, 0.0, 1.0], p=[0.025, 0.95, 0.025], size=300)) < 0.001
        for _ in range(4000)
    )
    assert alarms <= stats.binom.ppf(0.999, 4000, 0.002)


def test_serial_correlation_sees_drift_and_its_size() -> None:
    """A slow wave is found; independent values are flagged at 1 % in about 1 %."""
    assert serial_correlation_test(np.sin(np.linspace(0, 6, 24))) < 0.01
    rng = np.random.default_rng(15)
    alarms = sum(serial_correlation_test(rng.normal(size=12)) < 0.01 for _ in range(4000))
    assert alarms <= stats.binom.ppf(0.999, 4000, 0.012)
    assert serial_correlation_test([2.0] * 6) == 1.0


def test_missingness_is_mcnemar() -> None:
    """Samples lost on one side only: 10 and 1 are suspicious, 3 and 2 are not; none says nothing."""
    assert missingness_test(1, 10) == mcnemar_exact(1, 10) < 0.05
    assert missingness_test(3, 2) == missingness_test(0, 0) == 1.0


def test_gatekeeping_stops_at_the_first_family_not_rejected() -> None:
    """A family behind one that is not wholly rejected never gets below it."""
    first, second, third = gatekeeping([[0.01], [0.03, 0.015], [0.001, 0.002]])
    assert first.tolist() == [0.01]
    assert second.tolist() == pytest.approx([0.03, 0.03])
    assert third.tolist() == pytest.approx([0.03, 0.03])


def test_hierarchy_pays_for_its_leaves() -> None:
    """A root of four leaves is tested in full, a child with two of them at half of alpha, a leaf at a quarter."""
    p = [0.01, 0.02, 0.5, 0.004, 0.03, 0.1, 0.001]
    adjusted = hierarchical_gatekeeping(p, [None, 0, 0, 1, 1, 2, 2])
    assert adjusted == pytest.approx([0.01, 0.04, 1.0, 0.04, 0.12, 1.0, 1.0])


def test_gatekeeping_keeps_the_family_error() -> None:
    """All hypotheses true in a tree of two tasks with three slices each: some rejection in at most 5 %."""
    rng, parents = np.random.default_rng(16), [None, None, 0, 0, 0, 1, 1, 1]
    wrong = sum((hierarchical_gatekeeping(rng.random(8), parents) <= 0.05).any() for _ in range(4000))
    assert wrong <= stats.binom.ppf(0.9999, 4000, 0.05)


@pytest.mark.parametrize("parents", [[None], [None, 1], [0, None], [None, True], "ab"])
def test_unusable_trees_are_named(parents: object) -> None:
    """A parent must be an earlier hypothesis."""
    with pytest.raises(StatsError, match=r"^parents: must be"):
        hierarchical_gatekeeping([0.1, 0.2], parents)  # type: ignore[arg-type]
