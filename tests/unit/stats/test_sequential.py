"""Alpha spending, plans and predictive futility: print, R's rpact 3.3.4, and simulation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from assay.stats import StatsError, look_schedule, sequential_plan, spending_boundaries

TENTHS = [k / 10 for k in range(1, 11)]
UNEVEN = [0.05, 0.1, 0.2, 0.4, 0.7, 1.0]

# R 4.2.2, rpact 3.3.4: getDesignGroupSequential(typeOfDesign = "asOF" | "asP" | "asHSD", tolerance = 1e-10)
RPACT = [
    ([1 / 3, 2 / 3, 1], 0.025, "obrien_fleming", [3.710303, 2.511427, 1.993047]),
    ([1 / 3, 2 / 3, 1], 0.025, "pocock", [2.279428, 2.294911, 2.295940]),
    (
        TENTHS,
        0.05,
        "obrien_fleming",
        [6.087893, 4.229199, 3.396231, 2.906131, 2.578965, 2.341741, 2.159814, 2.014629, 1.895291, 1.794944],
    ),
    (
        TENTHS,
        0.05,
        "pocock",
        [2.412202, 2.362561, 2.316615, 2.279669, 2.249780, 2.225125, 2.204399, 2.186686, 2.171335, 2.157872],
    ),
    ([1 / 3, 2 / 3, 1], 0.025, ("hwang_shih_decani", -4), [3.010739, 2.546531, 1.999226]),
    ([0.25, 0.5, 0.75, 1], 0.05, ("hwang_shih_decani", 1), [2.108437, 2.065883, 2.044132, 2.042184]),
    ([0.5, 1], 0.05, ("hwang_shih_decani", -2), [2.213051, 1.705948]),
    (UNEVEN, 0.05, "pocock", [2.641983, 2.588157, 2.379763, 2.169201, 2.043820, 2.015301]),
]


@pytest.mark.parametrize(("fractions", "alpha", "kind", "bounds"), RPACT)
def test_boundaries_agree_with_rpact(
    fractions: list[float], alpha: float, kind: object, bounds: list[float]
) -> None:
    """Every boundary is rpact's to six decimals, for equal and uneven looks and all three functions."""
    found = spending_boundaries(fractions, alpha, kind)  # type: ignore[arg-type]
    assert found == pytest.approx(bounds, abs=1.1e-6)


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        ("obrien_fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        ("pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_boundaries_agree_with_print(kind: str, bounds: list[float]) -> None:
    """Five equal looks at two-sided 0.05, as tabulated from Lan & DeMets' program (Reboussin et al. 2000)."""
    fractions = [0.2, 0.4, 0.6, 0.8, 1.0]
    assert spending_boundaries(fractions, 0.025, kind) == pytest.approx(bounds, abs=1.5e-4)  # type: ignore[arg-type]


def test_gsdesign_default_agrees_with_print() -> None:
    """Anderson 2016 (gsDesign manual), default design: upper bounds 3.01, 2.55, 2.00."""
    bounds = spending_boundaries([1 / 3, 2 / 3, 1], 0.025, ("hwang_shih_decani", -4))
    assert bounds == pytest.approx([3.01, 2.55, 2.00], abs=0.0051)


def test_operation_agrees_with_rpact() -> None:
    """Power and expected size of ten Pocock looks against rpact, the other boundary out of reach."""
    plan = sequential_plan(TENTHS, 1e-9, 0.05)
    for drift, power, mean in (
        (0.0, 0.05, 9734.4635),
        (2.0, 0.53898419, 7610.9806),
        (4.47, 0.99310452, 3431.6315),
    ):
        operation = plan.operation(drift)
        assert operation.regress == pytest.approx(power, abs=2e-7)
        assert 10_000 * operation.mean_fraction == pytest.approx(mean, abs=0.01)


def test_first_look_spends_its_share() -> None:
    """At the first look the boundary is the normal quantile of what is spent by then."""
    for kind, spent in (
        ("pocock", 0.05 * math.log(1 + (math.e - 1) * 0.3)),
        (("hwang_shih_decani", 0.0), 0.015),
    ):
        first = spending_boundaries([0.3, 1.0], 0.05, kind)[0]  # type: ignore[arg-type]
        assert first == pytest.approx(stats.norm.isf(spent), abs=1e-9)


def test_one_look_is_the_fixed_test() -> None:
    """A single look at full information has the critical value of the fixed test."""
    assert spending_boundaries([1.0], 0.05, "pocock") == pytest.approx([stats.norm.isf(0.05)], abs=1e-9)


def test_spending_adds_up_under_simulation() -> None:
    """200,000 Brownian paths cross a boundary of 5 % with 5 %, and peeking at 1.645 with 19 %."""
    rng = np.random.default_rng(1)
    steps = rng.normal(0.0, math.sqrt(0.1), size=(200_000, 10)).cumsum(axis=1) / np.sqrt(TENTHS)
    for kind in ("pocock", "obrien_fleming"):
        bounds = spending_boundaries(TENTHS, 0.05, kind)  # type: ignore[arg-type]
        assert (steps >= bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.002)
    assert (steps >= 1.645).any(axis=1).mean() > 0.15


def test_resolution_probability_agrees_with_simulation() -> None:
    """The predictive chance of a later verdict is that of drifts drawn from their posterior."""
    plan, rng = sequential_plan(TENTHS), np.random.default_rng(2)
    for look, z in ((3, -0.5), (5, 1.0), (8, -1.9)):
        now = TENTHS[look - 1]
        drift = rng.normal(z / math.sqrt(now), 1 / math.sqrt(now), size=100_000)
        walk = np.full(100_000, z * math.sqrt(now))
        open_ = np.ones(100_000, dtype=bool)
        for k in range(look, 10):
            walk = walk + drift * 0.1 + rng.normal(0.0, math.sqrt(0.1), size=walk.size)
            score = walk / math.sqrt(TENTHS[k])
            open_ &= (score > -plan.accept_z[k]) & (score < plan.regress_z[k])
        assert plan.resolution_probability(look, z) == pytest.approx(1 - open_.mean(), abs=0.006)
    assert plan.resolution_probability(10, 0.0) == 0.0


def test_decide_at_the_boundaries() -> None:
    """A plan decides at its boundary, not before, and knows only its own looks."""
    plan = sequential_plan([0.5, 1.0])
    assert plan.decide(1, -plan.accept_z[0]) == "accept"
    assert plan.decide(2, plan.regress_z[1]) == "regress"
    assert plan.decide(1, -plan.accept_z[0] + 1e-9) is None
    with pytest.raises(StatsError, match=r"^look: must be at most 2"):
        plan.decide(3, 0.0)


def test_a_changed_schedule_keeps_past_boundaries() -> None:
    """Looks that fall elsewhere than planned leave the boundaries before them as they were."""
    planned, changed = (spending_boundaries([0.2, 0.5, last, 1.0], 0.05, "pocock") for last in (0.8, 0.65))
    assert planned[:2] == pytest.approx(changed[:2])


def test_schedule_has_no_look_too_early() -> None:
    """Ten looks of 1,000 pairs start at 200, and a small study looks once."""
    assert look_schedule(1000) == (200, 300, 400, 500, 600, 700, 800, 900, 1000)
    assert look_schedule(150) == (150,)
    assert look_schedule(10_000)[:2] == (1000, 2000)


def test_ten_looks_in_fifty_milliseconds() -> None:
    """A ten-look boundary takes less than 50 ms (best of five)."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        spending_boundaries(TENTHS, 0.05, "pocock")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
