"""Tango's score test and interval, exact McNemar, posterior lean: print and independent oracles."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from assay.stats import (
    Interval,
    MarginTest,
    StatsError,
    mcnemar_exact,
    posterior_lean,
    smallest_certified_margin,
    tango_interval,
    tango_test,
)

# b, c, n, level, lower, upper, decimals, where it is printed
PUBLISHED_INTERVALS = [
    (9, 3, 32, 0.95, -0.027, 0.390, 3, "Tango 1998, (4, 9, 3, 16); ratesci tests"),
    (0, 1, 44, 0.90, -0.096, 0.037, 3, "Tango 1998, soft lens cross-over (43, 0, 1, 0)"),
    (16, 8, 86, 0.95, -0.020, 0.207, 3, "Agresti & Min 2005"),
    (1, 7, 21, 0.95, -0.517, -0.026, 3, "Fagerland, Lydersen & Laake 2014, airway reactivity"),
    (6, 16, 161, 0.95, -0.1240, -0.0054, 4, "Fagerland et al. 2017, Cavo data; contingencytables 3.0"),
    (3, 1, 14, 0.95, -0.1670, 0.4327, 4, "Tang, Li & Tang 2010"),
    (25, 2, 102, 0.95, 0.139, 0.321, 3, "Chang et al. 2024"),
    (28, 25, 618, 0.90, -0.0148, 0.0247, 4, "R PropCIs::scoreci.mp(25, 28, 618)"),
]


@pytest.mark.parametrize(
    ("b", "c", "n", "level", "lower", "upper", "decimals", "source"), PUBLISHED_INTERVALS
)
def test_interval_agrees_with_print(
    b: int, c: int, n: int, level: float, lower: float, upper: float, decimals: int, source: str
) -> None:
    """The score interval has the bounds printed in eight published examples."""
    interval = tango_interval(b, c, n, level)
    assert interval.lower == pytest.approx(lower, abs=0.51 * 10**-decimals), source
    assert interval.upper == pytest.approx(upper, abs=0.51 * 10**-decimals), source
    assert interval.level == level


def independent_statistic(b: int, c: int, n: int, drop: float) -> float:
    """Tango's z with the restricted likelihood maximised numerically instead of in closed form."""

    def loss(p_c: float) -> float:
        p_b = p_c + drop
        rest = 1.0 - p_b - p_c
        return -sum(k * math.log(p) for k, p in ((b, p_b), (c, p_c), (n - b - c, rest)) if k)

    found = optimize.minimize_scalar(
        loss, bounds=(max(0.0, -drop) + 1e-13, (1.0 - drop) / 2.0 - 1e-13), options={"xatol": 1e-13}
    )
    variance = 2.0 * float(found.x) + drop - drop * drop
    return (b - c - n * drop) / math.sqrt(n * variance)


@pytest.mark.parametrize(
    ("b", "c", "n"), [(9, 3, 32), (20, 11, 300), (5, 12, 60), (1, 1, 40), (30, 30, 100), (3, 14, 20)]
)
@pytest.mark.parametrize("margin", [0.01, 0.05, 0.2, 0.6])
def test_statistic_agrees_with_numeric_likelihood(b: int, c: int, n: int, margin: float) -> None:
    """The closed-form restricted estimate gives the z of a numeric maximisation of the likelihood."""
    assert tango_test(b, c, n, margin).z == pytest.approx(independent_statistic(b, c, n, margin), rel=1e-5)


def test_zero_margin_is_mcnemar() -> None:
    """At margin 0 the statistic is McNemar's (b - c) / sqrt(b + c): Z = -2.132, P = 0.033006 (Cavo)."""
    result = tango_test(6, 16, 161, 0.0)
    assert result.z == pytest.approx(-10 / math.sqrt(22))
    assert 2 * result.p_accept == pytest.approx(0.033006, abs=5e-7)


def test_zero_cells_have_closed_forms() -> None:
    """Without flips the bounds are z^2/(n+z^2) each way; with flips one way only, (n-z^2)/(n+z^2) and 1."""
    z2 = stats.norm.ppf(0.95) ** 2
    none = tango_interval(0, 0, 300, 0.9)
    assert none.upper == pytest.approx(z2 / (300 + z2))
    assert none.lower == -none.upper
    one_way = tango_interval(14, 0, 14, 0.9)
    assert one_way.upper == 1.0
    assert one_way.lower == pytest.approx((14 - z2) / (14 + z2))
    assert tango_test(0, 0, 10, 0.0) == MarginTest(0.5, 0.5, 0.0)


def test_worked_contrast_of_the_research_note() -> None:
    """statistics.md section 6: 3 pt on 300 pairs has p about 0.05 and 0.13, upper bound about 6 pt."""
    assert tango_test(20, 11, 300, 0.0).p_regress == pytest.approx(0.05, abs=0.005)
    assert tango_test(20, 11, 300, 0.01).p_regress == pytest.approx(0.13, abs=0.01)
    assert smallest_certified_margin(20, 11, 300) == pytest.approx(0.060, abs=0.0025)


def test_smallest_certified_margin_is_the_upper_bound() -> None:
    """The smallest certified margin is the upper end of the 1 - 2 alpha interval, and never negative."""
    assert smallest_certified_margin(9, 12, 500, 0.05) == tango_interval(9, 12, 500, 0.9).upper
    assert smallest_certified_margin(0, 80, 500) == 0.0


def test_arrays_agree_with_scalars() -> None:
    """A vectorised call gives in each place what the plain call gives, and broadcasts."""
    b, c, n = np.array([9, 0, 16, 7, 0]), np.array([3, 0, 8, 0, 5]), np.array([32, 44, 86, 7, 5])
    tests, intervals = tango_test(b, c, n, 0.1), tango_interval(b, c, n, 0.9)
    for i in range(b.size):
        single = tango_test(int(b[i]), int(c[i]), int(n[i]), 0.1)
        assert (tests.p_accept[i], tests.p_regress[i], tests.z[i]) == pytest.approx(
            (single.p_accept, single.p_regress, single.z)
        )
        one = tango_interval(int(b[i]), int(c[i]), int(n[i]), 0.9)
        assert (intervals.lower[i], intervals.upper[i]) == pytest.approx((one.lower, one.upper))
    assert tango_test([1, 2], [0, 3], 50, [[0.0], [0.1]]).z.shape == (2, 2)


def test_plain_numbers_stay_plain() -> None:
    """Plain numbers in, plain floats out, and results cannot be changed."""
    test, interval = tango_test(9.0, 3, np.int64(32), 0.1), tango_interval(9, 3, 32, 0.9)
    assert {type(v) for v in dataclasses.astuple(test)} == {float}
    assert {type(v) for v in dataclasses.astuple(interval)} == {float}
    with pytest.raises(dataclasses.FrozenInstanceError):
        interval.lower = 0.0  # type: ignore[misc]


def test_size_and_power_agree_with_the_simulations() -> None:
    """Exact binomial bounds around statistics.md 2.1, n = 1000, flip rate 5 %: 39 / 5.0 / 0.2 % ACCEPT."""
    rng = np.random.default_rng(20240607)
    draws, n = 20_000, 1000
    for drop, expected in ((0.0, 0.39), (0.01, 0.05), (0.02, 0.002)):
        flips = rng.multinomial(n, [(0.05 + drop) / 2, (0.05 - drop) / 2, 0.95], size=draws)
        accepted = int((tango_test(flips[:, 0], flips[:, 1], n, 0.01).p_accept <= 0.05).sum())
        low, high = stats.binom.interval(0.9999, draws, expected)
        slack = draws * 0.005
        assert low - slack <= accepted <= high + slack


def test_exact_sizes_agree_with_the_research_note() -> None:
    """statistics.md 2.1 [exact]: worst false ACCEPT at most 6.0 %, false REGRESSION at most 8.8 %.

    Enumerated for flip rates up to one half; at flip rate 1, where b - c has one parity only, false
    ACCEPT reaches 7.1 % for n = 30 and 10 pt.
    """
    worst_accept = worst_regress = 0.0
    for n in (30, 50, 100, 200):
        b, c = np.array([(i, j) for i in range(n + 1) for j in range(n + 1 - i)]).T
        for margin in (0.01, 0.02, 0.05, 0.1):
            result = tango_test(b, c, n, margin)
            for flip_rate in margin + (0.5 - margin) * np.linspace(0.002, 1, 60) ** 2:
                cells = [(flip_rate + margin) / 2, (flip_rate - margin) / 2, 1 - flip_rate]
                mass = stats.multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, cells)
                worst_accept = max(worst_accept, float(mass[result.p_accept <= 0.05].sum()))
                worst_regress = max(worst_regress, float(mass[result.p_regress <= 0.05].sum()))
    assert 0.05 < worst_accept <= 0.0605
    assert 0.05 < worst_regress <= 0.0885


def test_mcnemar_agrees_with_print() -> None:
    """Exact P = 0.052479 and mid-P = 0.034690 for the Cavo data (Fagerland et al. 2017, chapter 8)."""
    assert mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=5e-7)
    assert mcnemar_exact(6, 16, mid_p=True) == pytest.approx(0.034690, abs=5e-7)
    assert mcnemar_exact(1, 7, mid_p=True) == pytest.approx(0.0391, abs=5e-5)


def test_mcnemar_agrees_with_scipy() -> None:
    """All three alternatives are scipy's binomial test of one half."""
    for b, c in ((0, 5), (3, 3), (12, 4), (200, 260), (1, 0)):
        assert mcnemar_exact(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue)
        worse, better = mcnemar_exact(b, c, "worse"), mcnemar_exact(b, c, "better")
        assert worse == pytest.approx(stats.binomtest(b, b + c, alternative="greater").pvalue)
        assert better == pytest.approx(stats.binomtest(b, b + c, alternative="less").pvalue)
        half = stats.binom.pmf(b, b + c, 0.5) / 2
        assert mcnemar_exact(b, c, "worse", mid_p=True) == pytest.approx(worse - half)
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(4, 4, mid_p=True) == pytest.approx(1 - stats.binom.pmf(4, 8, 0.5) / 2)


def test_mcnemar_agrees_with_statsmodels() -> None:
    """The two-sided exact p-value is the one of statsmodels."""
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    for b, c in ((6, 16), (9, 9), (0, 4)):
        assert mcnemar_exact(b, c) == pytest.approx(
            float(tables.mcnemar([[50, b], [c, 50]], exact=True).pvalue)
        )


@pytest.mark.parametrize(
    ("b", "c", "n", "margin"), [(20, 11, 300, 0.01), (0, 0, 50, 0.01), (3, 9, 200, 0.0), (60, 20, 900, 0.05)]
)
def test_lean_agrees_with_dirichlet_draws(b: int, c: int, n: int, margin: float) -> None:
    """The posterior lean is the share of Dirichlet draws below the margin."""
    draws = np.random.default_rng(7).dirichlet([b + 0.5, c + 0.5, n - b - c + 0.5], size=200_000)
    share = float((draws[:, 0] - draws[:, 1] < margin).mean())
    assert posterior_lean(b, c, n, margin) == pytest.approx(share, abs=0.005)


BAD_COUNTS: list[Any] = [
    float("nan"),
    float("inf"),
    -1,
    1.5,
    True,
    np.True_,
    "3",
    b"3",
    None,
    2**60,
    [],
    ["1"],
]


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize("argument", ["b", "c", "n"])
def test_unusable_counts_are_named(argument: str, bad: Any) -> None:
    """A count that is no count raises StatsError with the argument's name, in each function."""
    good = {"b": 2, "c": 1, "n": 30, argument: bad}
    calls = [
        lambda: tango_test(**good, margin=0.1),
        lambda: tango_interval(**good, level=0.9),
        lambda: posterior_lean(**good, margin=0.1),
        lambda: smallest_certified_margin(**good),
    ]
    if argument != "n":
        calls.append(lambda: mcnemar_exact(good["b"], good["c"]))
    for call in calls:
        with pytest.raises(StatsError, match=f"^{argument}: must be") as caught:
            call()
        assert caught.value.argument == argument


@pytest.mark.parametrize("bad", [-0.01, 1.0, 1, float("nan"), True, "0.1", None, [], [0.1, float("inf")]])
def test_unusable_margins_are_named(bad: Any) -> None:
    """A margin outside [0, 1), or no number, raises StatsError."""
    with pytest.raises(StatsError, match=r"^margin: must be"):
        tango_test(2, 1, 30, bad)
    with pytest.raises(StatsError, match=r"^margin: must be"):
        posterior_lean(2, 1, 30, bad)


@pytest.mark.parametrize("bad", [0.0, 1.0, -1, 90, float("nan"), False, "0.9", None, [0.9]])
def test_unusable_levels_are_named(bad: Any) -> None:
    """A level outside (0, 1), or no number, raises StatsError."""
    with pytest.raises(StatsError, match=r"^level: must be"):
        tango_interval(2, 1, 30, bad)


def test_other_unusable_arguments_are_named() -> None:
    """More flips than pairs, shapes that do not fit, mixed-in bools and unknown alternatives are refused."""
    with pytest.raises(StatsError, match=r"^n: must be at least b"):
        tango_test(20, 11, 30, 0.1)
    with pytest.raises(StatsError, match=r"^n: must be at least b"):
        tango_interval([1, 20], [1, 11], 30, 0.9)
    with pytest.raises(StatsError, match=r"^n: "):
        posterior_lean(20, 11, 30, 0.1)
    with pytest.raises(StatsError, match=r"shapes that broadcast"):
        tango_test([1, 2, 3], [1, 2], 30, 0.1)
    with pytest.raises(StatsError, match=r"^b: "):
        tango_test([True, 2], [1, 2], 30, 0.1)
    with pytest.raises(StatsError, match=r"^b: "):
        tango_test([[1, 2], [3]], [1, 2], 30, 0.1)  # type: ignore[list-item]
    with pytest.raises(StatsError, match=r"^alternative: "):
        mcnemar_exact(1, 2, "greater")  # type: ignore[arg-type]
    with pytest.raises(StatsError, match=r"^alpha: "):
        smallest_certified_margin(1, 2, 30, 0.5)
    assert isinstance(tango_interval(1, 2, 30, 0.9), Interval)
