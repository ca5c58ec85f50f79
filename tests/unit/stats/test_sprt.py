"""Wald's test: his bounds and approximations, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from assay.stats import SPRT, StatsError


def test_bounds_and_ratio_by_hand() -> None:
    """Wald 1947: bounds ln(beta / (1 - alpha)) and ln((1 - beta) / alpha); the ratio is the likelihoods'."""
    test = SPRT(0.04, 0.1, 0.04, 0.2)
    assert test.bounds == pytest.approx((math.log(0.2 / 0.96), math.log(20.0)))
    expected = 3 * math.log(0.1 / 0.04) + 17 * math.log(0.9 / 0.96)
    assert test.log_ratio(3, 20) == pytest.approx(expected)
    assert test.decide(0, 10) is None
    assert test.decide(0, 40) == "h0"
    assert test.decide(6, 8) == "h1"


def test_characteristic_meets_the_error_rates() -> None:
    """The operating characteristic is alpha at p0 and 1 - beta at p1, and rises between."""
    test = SPRT(0.6, 0.5, 0.05, 0.2)
    assert test.chance_of_h1(0.6) == pytest.approx(0.05)
    assert test.chance_of_h1(0.5) == pytest.approx(0.8)
    chances = [test.chance_of_h1(rate) for rate in np.linspace(0.4, 0.7, 31)]
    assert chances == sorted(chances, reverse=True)


def test_approximations_agree_with_simulation() -> None:
    """20,000 runs of p0 = 0.3 against p1 = 0.4: errors below the nominal, sizes a little above Wald's."""
    test, rng = SPRT(0.3, 0.4, 0.05, 0.1), np.random.default_rng(7)
    low, high = test.bounds
    up, down = math.log(0.4 / 0.3), math.log(0.6 / 0.7)
    for rate in (0.3, 0.35, 0.4):
        ratio = np.zeros(20_000)
        size, chosen = np.zeros(20_000), np.zeros(20_000)
        running = np.ones(20_000, dtype=bool)
        while running.any():
            ratio[running] += np.where(rng.random(int(running.sum())) < rate, up, down)
            size[running] += 1
            chosen[running & (ratio >= high)] = 1
            running &= (ratio > low) & (ratio < high)
        assert chosen.mean() == pytest.approx(test.chance_of_h1(rate), abs=0.02)
        assert 0.98 <= size.mean() / test.expected_n(rate) <= 1.10


def test_paired_test_is_on_the_flips() -> None:
    """Margin 1 pt at a flip rate of 5 %: a flip is against the candidate with 0.6, and with 0.5 at no drop."""
    test = SPRT.paired(0.01, 0.05)
    assert (test.p0, test.p1) == pytest.approx((0.6, 0.5))
    with pytest.raises(StatsError, match=r"^flip_rate: must be above the margin"):
        SPRT.paired(0.05, 0.01)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.0, 0.5), "p0"),
        ((0.5, 0.5), "p1"),
        ((0.5, True), "p1"),
        ((0.3, 0.5, 0.6), "alpha"),
        ((0.3, 0.5, 0.05, 0), "beta"),
    ],
)
def test_unusable_arguments_are_named(arguments: tuple[float, ...], name: str) -> None:
    """An unusable rate or error rate raises StatsError with its name."""
    with pytest.raises(StatsError, match=f"^{name}: must be"):
        SPRT(*arguments)
