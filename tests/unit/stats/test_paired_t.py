"""Student's t on a few paired differences, against scipy's own test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from assay.stats.errors import StatsError
from assay.stats.paired_t import paired_t, provable_gain, units_needed


def test_agrees_with_scipy() -> None:
    """The p-value is that of scipy's one-sided test of paired samples; the bound is where it meets alpha."""
    generator = np.random.default_rng(3)
    for n in (2, 5, 30):
        differences = generator.normal(0.3, 1.0, n).tolist()
        found = paired_t(differences)
        reference = scipy_stats.ttest_1samp(differences, 0.1, alternative="greater")
        assert found.p_above(0.1) == pytest.approx(float(reference.pvalue), rel=1e-9)
        assert found.p_above(found.lower(0.05)) == pytest.approx(0.05, rel=1e-6)
        assert found.upper(0.05) == pytest.approx(2 * found.mean - found.lower(0.05))


def test_equal_differences_cannot_be_tested() -> None:
    """Without a spread there is no test, and it says so instead of dividing by zero."""
    found = paired_t([0.1, 0.1, 0.1])
    assert found.sd == 0.0
    with pytest.raises(StatsError):
        found.p_above(0.0)
    for bad in ([0.1], [0.1, float("nan")]):
        with pytest.raises(StatsError):
            paired_t(bad)


def test_the_planned_number_of_units_has_the_power() -> None:
    """The least n reaches 80 % by scipy's noncentral t, and one unit fewer does not."""

    def power(count: int, effect: float) -> float:
        critical = scipy_stats.t.ppf(0.95, count - 1)
        return float(scipy_stats.nct.sf(critical, count - 1, effect * np.sqrt(count)))

    for gain in (0.3, 0.5, 1.0, 2.0):
        n = units_needed(gain)
        assert n is not None
        assert power(n, gain) >= 0.8 > power(n - 1, gain)
        assert power(n, provable_gain(n)) == pytest.approx(0.8, abs=1e-6)
    assert units_needed(0.0) is None
    assert units_needed(1e-9) is None
    assert units_needed(3.0, at_least=9) == 9


def test_more_seeds_prove_smaller_gains() -> None:
    """The smallest provable gain falls with the number of pairs and rises as alpha is shared."""
    gains = [provable_gain(n) for n in (5, 8, 20)]
    assert gains == sorted(gains, reverse=True)
    assert provable_gain(5, alpha=0.005) > provable_gain(5)
