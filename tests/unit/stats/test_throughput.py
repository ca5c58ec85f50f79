"""Throughput in ABBA pairs: statements, the order of arms, drift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from assay.stats import StatsError, abba_log_ratios, throughput_test


def test_interval_is_students_on_the_log_scale() -> None:
    """Its interval is exp of the one-sample t interval, and its p-values the larger of t and signed ranks."""
    y = np.random.default_rng(17).normal(-0.02, 0.08, size=12)
    result = throughput_test(y)
    t = stats.ttest_1samp(y, 0.0).confidence_interval(0.9)
    assert (result.interval.lower, result.interval.upper) == pytest.approx(
        (math.exp(t.low), math.exp(t.high))
    )
    by_t = stats.ttest_1samp(y, math.log(0.9), alternative="greater").pvalue
    by_rank = stats.wilcoxon(y - math.log(0.9), alternative="greater").pvalue
    assert result.p_accept == pytest.approx(max(by_t, by_rank))
    assert result.ratio == pytest.approx(math.exp(y.mean()))


@pytest.mark.parametrize(
    ("centre", "words"),
    [(0.0, ("accept", "tie")), (-0.3, ("regress",)), (0.2, ("accept", "faster")), (-0.105, ())],
)
def test_statements(centre: float, words: tuple[str, ...]) -> None:
    """Twelve quiet pairs at no change, -26 %, +22 % and the edge of the band."""
    y = centre + np.array([0.03, -0.02, 0.01, -0.03, 0.02, 0.0, -0.01, 0.025, -0.015, 0.005, -0.02, 0.01])
    result = throughput_test(y)
    found = tuple(word for word in ("accept", "regress", "tie", "faster") if getattr(result, word))
    assert found == words


def test_too_few_pairs_decide_nothing() -> None:
    """Four pairs far above the band: the signed ranks cannot reach 5 %, so nothing is said."""
    result = throughput_test([0.5, 0.52, 0.48, 0.51])
    assert not any((result.accept, result.regress, result.tie, result.faster))
    assert result.rank_interval.upper == math.inf


def test_abba_pairs_meet_a_drift_both_ways() -> None:
    """Under a steady drift of the machine the pairs of a block err by opposite amounts."""
    drift = np.exp(-0.05 * np.arange(8))
    y = abba_log_ratios("ABBABAAB", 100 * drift)
    assert y == pytest.approx([-0.05, 0.05, 0.05, -0.05])


@pytest.mark.parametrize(
    ("arms", "values", "name"),
    [
        ("ABAB", [1, 1, 1, 1], "arms"),
        ("ABB", [1, 1, 1], "arms"),
        ("ABBA", [1, 1, 1], "arms"),
        (["A", "B", "b", "A"], [1, 1, 1, 1], "arms"),
        ("ABBA", [1, 0, 1, 1], "values"),
        ("ABBA", [1, float("nan"), 1, 1], "values"),
        (7, [1, 1, 1, 1], "arms"),
    ],
)
def test_unusable_trials_are_named(arms: object, values: list[float], name: str) -> None:
    """Trials that do not come in ABBA blocks, or are not positive, are refused by name."""
    with pytest.raises(StatsError, match=f"^{name}: must be"):
        abba_log_ratios(arms, values)  # type: ignore[arg-type]


def test_equal_ratios_are_refused() -> None:
    """Without any spread there is nothing to judge by."""
    with pytest.raises(StatsError, match=r"^log_ratios: must be of some variance"):
        throughput_test([0.1] * 8)
