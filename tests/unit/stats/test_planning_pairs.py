"""Planning figures, against statistics.md, Miller 2024 and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from assay.stats import (
    StatsError,
    certifiable_margin,
    guard_margin,
    paired_variance,
    pairs_needed,
    pairs_to_settle,
    power,
    tango_test,
)


def test_pairs_needed_agrees_with_the_research_note() -> None:
    """statistics.md 0.3 and 2.6: 3,092 pairs at 5 % flips (2,254 and 1,417 at alpha 0.10 and 0.20)."""
    assert pairs_needed(0.01, 0.05) == 3092
    assert [pairs_needed(0.01, 0.05, alpha=alpha) for alpha in (0.10, 0.20)] == [2254, 1417]
    assert pairs_needed(0.01, 0.03) == pytest.approx(1900, rel=0.03)
    assert pairs_needed(0.01, 0.10) == pytest.approx(6200, rel=0.01)


def test_pairs_needed_agrees_with_miller() -> None:
    """Miller 2024 (statistics.md 1.1): variance 1/9, 3 points, 80 % power, two-sided 5 %: n = 969."""
    assert pairs_needed(0.03, 1 / 9, alpha=0.025) == 969


def test_unreachable_plans_are_infinite() -> None:
    """A true drop at or beyond the margin can never be accepted with power above alpha."""
    assert pairs_needed(0.01, 0.05, drop=0.01) == math.inf
    assert pairs_needed(0.01, 0.05, drop=0.02) == math.inf
    assert power(1000, 0.01, 0.05, drop=0.01) == pytest.approx(0.05)


def test_power_inverts_pairs_needed() -> None:
    """The planned number reaches the wanted power, one pair less does not."""
    for margin, rate, drop in ((0.01, 0.05, 0.0), (0.03, 0.2, 0.01), (0.05, 0.08, -0.02)):
        n = int(pairs_needed(margin, rate, drop, power=0.9))
        assert power(n, margin, rate, drop) >= 0.9 > power(n - 1, margin, rate, drop)
    assert power(5000, 0.01, 0.05) == pytest.approx(0.934, abs=0.005)


@pytest.mark.parametrize(
    ("n", "points"),
    [(200, (3.1, 3.9, 5.6)), (1000, (1.4, 1.8, 2.5)), (5000, (0.6, 0.8, 1.1)), (12_032, (0.4, 0.5, 0.7))],
)
def test_certifiable_margin_agrees_with_the_research_note(n: int, points: tuple[float, ...]) -> None:
    """statistics.md 3.5 prints the certifiable margin in points for 3, 5 and 10 % flips."""
    mine = [100 * certifiable_margin(n, rate) for rate in (0.03, 0.05, 0.10)]
    assert mine == pytest.approx(points, abs=0.06)


def test_certifiable_margin_inverts_power() -> None:
    """At the certifiable margin the power is the wanted one; GPQA-Diamond certifies about 4 pt."""
    margin = certifiable_margin(700, 0.06, alpha=0.025, power=0.9)
    assert power(700, margin, 0.06, alpha=0.025) == pytest.approx(0.9)
    assert certifiable_margin(198, 0.05) == pytest.approx(0.04, abs=0.002)
    assert certifiable_margin(10, 0.5, alpha=0.6, power=0.3) == 0.0


def test_guard_ladder() -> None:
    """The guard is the smallest rung of planned power 95 % at zero drop, else None (advisory)."""
    assert [guard_margin(n, 0.06) for n in (50, 103, 300, 500, 1000, 2000)] == [
        None,
        0.08,
        0.05,
        0.04,
        0.03,
        0.02,
    ]
    assert guard_margin(198, 0.20) is None
    for n in (120, 450, 900):
        rung = guard_margin(n, 0.06)
        assert rung is not None
        assert power(n, rung, 0.06) >= 0.95
    assert guard_margin(1000, 0.06, ladder=(0.10, 0.05)) == 0.05


def test_pairs_to_settle_agrees_with_the_worked_contrast() -> None:
    """statistics.md section 6: about 1,550 pairs settle a true 3 pt at 1 pt margin and 10 % flips."""
    settle = pairs_to_settle(20, 11, 300, 0.01)
    assert settle.accept_at_observed_drop == math.inf
    assert settle.regress_at_observed_drop == pytest.approx(1550, rel=0.06)
    variance = 32 / 302 - 0.03**2
    reach = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)
    assert settle.accept_at_zero_drop == math.ceil(variance * (reach / 0.01) ** 2)


def test_pairs_to_settle_below_the_margin() -> None:
    """Below the margin only ACCEPT is in reach; an observed gain is planned as zero drop."""
    small_loss, gain = pairs_to_settle(14, 10, 1000, 0.01), pairs_to_settle(10, 14, 1000, 0.01)
    assert small_loss.accept_at_zero_drop < small_loss.accept_at_observed_drop < math.inf
    assert gain.accept_at_observed_drop == gain.accept_at_zero_drop
    assert small_loss.regress_at_observed_drop == gain.regress_at_observed_drop == math.inf
    assert pairs_to_settle(3, 3, 50, 0.0).accept_at_zero_drop == math.inf


def test_pairs_to_settle_realises_its_power() -> None:
    """statistics.md Q12: at the number named, the score test accepts a zero drop in 75 to 90 % of runs."""
    n = int(pairs_to_settle(15, 15, 600, 0.01).accept_at_zero_drop)
    flips = np.random.default_rng(10).multinomial(n, [0.025, 0.025, 0.95], size=10_000)
    rate = float((tango_test(flips[:, 0], flips[:, 1], n, 0.01).p_accept <= 0.05).mean())
    assert 0.75 <= rate <= 0.90


def test_paired_variance_is_positive() -> None:
    """Half a flip each way keeps the variance above zero, even when all pairs flip one way."""
    assert paired_variance(0, 0, 98) == pytest.approx(0.01)
    assert paired_variance(20, 11, 300) == pytest.approx(32 / 302 - 0.0009)
    assert paired_variance(10, 0, 10) == pytest.approx(1 / 12)


PLAN: dict[str, Any] = {"margin": 0.01, "flip_rate": 0.05}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"margin": 0.0}, "margin"),
        ({"margin": 1.0}, "margin"),
        ({"margin": "1"}, "margin"),
        ({"flip_rate": 0.0}, "flip_rate"),
        ({"flip_rate": 1.01}, "flip_rate"),
        ({"flip_rate": float("nan")}, "flip_rate"),
        ({"flip_rate": True}, "flip_rate"),
        ({"drop": 0.06}, "drop"),
        ({"drop": float("inf")}, "drop"),
        ({"flip_rate": 1.0, "drop": 1.0}, "drop"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": None}, "alpha"),
        ({"power": 1.0}, "power"),
    ],
)
def test_unusable_plans_are_named(changes: dict[str, Any], name: str) -> None:
    """An unusable planning argument raises StatsError with its name."""
    with pytest.raises(StatsError, match=f"^{name}: must be"):
        pairs_needed(**{**PLAN, **changes})


def test_other_unusable_arguments_are_named() -> None:
    """The other planning functions check their arguments as well."""
    for call, name in (
        (lambda: power(0, 0.01, 0.05), "n"),
        (lambda: power(10, 0.01, 0.05, alpha=2), "alpha"),
        (lambda: certifiable_margin(-5, 0.05), "n"),
        (lambda: certifiable_margin(5, 0.05, power=0), "power"),
        (lambda: guard_margin(100, 0.0), "flip_rate"),
        (lambda: guard_margin(100, 0.05, ladder=[]), "ladder"),
        (lambda: guard_margin(100, 0.05, ladder=[0.0, 0.1]), "ladder"),
        (lambda: pairs_to_settle(5, 6, 10, 0.01), "n"),
        (lambda: pairs_to_settle(5, 4, 10, 1.0), "margin"),
        (lambda: paired_variance(-1, 0, 10), "b"),
    ):
        with pytest.raises(StatsError, match=f"^{name}: must be"):
            call()
