"""The exact unconditional test: print, brute force, and its size by full enumeration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from assay.stats import MarginTest, StatsError, exact_paired_test, paired_test, tango_test


def all_tables(n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return all (b, c) with b + c <= n, shape (tables, 2)."""
    return np.array([(b, c) for b in range(n + 1) for c in range(n + 1 - b)])


def table_mass(tables: Any, n: int, flip_rate: float, drop: float) -> Any:
    """Return the trinomial probability of each table."""
    cells = [(flip_rate + drop) / 2, (flip_rate - drop) / 2, 1 - flip_rate]
    counts = np.column_stack([tables, n - tables.sum(axis=1)])
    return stats.multinomial.pmf(counts, n, cells)


def highest_flip_rate(flips: int, n: int) -> float:
    """Return the upper limit of the flip rates in question, from scipy's beta distribution."""
    flips = max(flips, 19)
    return 1.0 if flips >= n else float(stats.beta.ppf(1 - 1e-6, flips + 1, n - flips))


@pytest.mark.parametrize(
    ("b", "c", "n", "two_sided"), [(6, 16, 161, 0.034053), (0, 1, 14, 0.542071)], ids=["Cavo", "Cavo / 10"]
)
def test_agrees_with_print(b: int, c: int, n: int, two_sided: float) -> None:
    """At margin 0 it is half of contingencytables' P, less the penalties for the range (1e-4; ours 1e-6)."""
    supremum = (two_sided - 1e-4) / 2
    assert exact_paired_test(b, c, n, 0.0).p_accept - 1e-6 == pytest.approx(supremum, abs=5e-7)
    assert exact_paired_test(c, b, n, 0.0).p_regress - 1e-6 == pytest.approx(supremum, abs=5e-7)


@pytest.mark.parametrize(
    ("b", "c", "n", "margin"),
    [(0, 0, 25, 0.1), (1, 3, 25, 0.1), (2, 0, 40, 0.02), (4, 5, 40, 0.15), (3, 1, 30, 0.0), (0, 6, 12, 0.3)],
)
def test_agrees_with_brute_force(b: int, c: int, n: int, margin: float) -> None:
    """Both p-values are the largest tail over 3,000 flip rates, each summed over every single table."""
    tables = all_tables(n)
    z = tango_test(tables[:, 0], tables[:, 1], n, margin).z
    result = exact_paired_test(b, c, n, margin)
    rates = margin + (highest_flip_rate(b + c, n) - margin) * np.linspace(0, 1, 3000) ** 2
    accept, regress = 0.0, 0.0
    for rate in rates:
        mass = table_mass(tables, n, rate, margin)
        accept = max(accept, float(mass[z <= result.z + 1e-9].sum()))
        regress = max(regress, float(mass[z >= result.z - 1e-9].sum()))
    assert min(1.0, accept + 1e-6) <= result.p_accept + 1e-9
    assert min(1.0, regress + 1e-6) <= result.p_regress + 1e-9
    assert (result.p_accept, result.p_regress) == pytest.approx((accept, regress), abs=3e-6)


@pytest.mark.parametrize(
    ("b", "c", "n", "margin"),
    [(10, 9, 10_000, 0.001), (2, 2, 300, 0.01), (15, 4, 1000, 0.01), (0, 1, 500, 0.005), (3, 5, 10_000, 0.0)],
)
def test_search_misses_no_peak(b: int, c: int, n: int, margin: float) -> None:
    """For large n no flip rate of a fine grid exceeds the p-values, and one comes near."""
    z, highest = tango_test(b, c, n, margin).z, highest_flip_rate(b + c, n)
    result = exact_paired_test(b, c, n, margin)
    flips = np.arange(int(n * highest + 12 * math.sqrt(n * highest)) + 20)
    scores = [tango_test(np.arange(m + 1), m - np.arange(m + 1), n, margin).z for m in flips]
    most = np.array([(score <= z + 1e-9).sum() - 1 for score in scores])
    least = np.array([(score < z - 1e-9).sum() for score in scores])
    accept, regress = 0.0, 0.0
    for rate in margin + (highest - margin) * np.linspace(0, 1, 500) ** 2:
        mass = stats.binom.pmf(flips, n, rate)
        share = min(1.0, (1 + margin / rate) / 2) if rate else 0.5
        accept = max(accept, float(mass @ stats.binom.cdf(most, flips, share)))
        regress = max(regress, float(mass @ stats.binom.sf(least - 1, flips, share)))
    assert accept <= result.p_accept
    assert regress <= result.p_regress + 1e-9
    assert (result.p_accept, result.p_regress) == pytest.approx((accept, regress), abs=1e-4)


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [8, 14, *(pytest.param(n, marks=pytest.mark.slow) for n in (20, 30))])
def test_size_never_exceeds_alpha(n: int, margin: float) -> None:
    """P(p <= alpha) <= alpha under every drop on the wrong side of the margin and every flip rate."""
    tables = all_tables(n)
    results = [exact_paired_test(int(b), int(c), n, margin) for b, c in tables]
    p_accept = np.array([r.p_accept for r in results])
    p_regress = np.array([r.p_regress for r in results])
    drops = np.concatenate([np.linspace(-0.9, margin, 13), np.linspace(margin, 0.95, 13)])
    for drop in drops:
        for rate in abs(drop) + (1 - abs(drop)) * np.linspace(0, 1, 30) ** 2:
            mass = table_mass(tables, n, rate, drop)
            for alpha in (0.01, 0.05, 0.1):
                if drop >= margin:
                    assert mass[p_accept <= alpha].sum() <= alpha + 1e-9
                if drop <= margin:
                    assert mass[p_regress <= alpha].sum() <= alpha + 1e-9


def test_statistic_orders_tables_as_convexity_needs() -> None:
    """One more b, or one less c, never lowers the statistic (Barnard's convexity, n up to 60)."""
    for n in (5, 17, 60):
        b, c = all_tables(n).T
        for margin in (0.0, 0.01, 0.1, 0.5, 0.9):
            z = {
                (int(i), int(j)): float(v)
                for i, j, v in zip(b, c, tango_test(b, c, n, margin).z, strict=True)
            }
            assert all(z[i + 1, j] >= v - 1e-12 for (i, j), v in z.items() if (i + 1, j) in z)
            assert all(z[i, j + 1] <= v + 1e-12 for (i, j), v in z.items() if (i, j + 1) in z)


@pytest.mark.slow
def test_paired_test_stays_near_its_size() -> None:
    """The switch at 20 flips keeps false ACCEPT and false REGRESSION within 5.6 % (target Q1)."""
    worst_accept = worst_regress = 0.0
    for n, margin in ((60, 0.05), (120, 0.03), (200, 0.01)):
        tables = all_tables(n)
        score = tango_test(tables[:, 0], tables[:, 1], n, margin)
        p_accept, p_regress = score.p_accept.copy(), score.p_regress.copy()
        for i in np.flatnonzero(tables.sum(axis=1) < 20):
            exact = paired_test(int(tables[i, 0]), int(tables[i, 1]), n, margin)
            p_accept[i], p_regress[i] = exact.p_accept, exact.p_regress
        for rate in margin + (1 - margin) * np.linspace(0.001, 0.6, 60) ** 2:
            mass = table_mass(tables, n, rate, margin)
            worst_accept = max(worst_accept, float(mass[p_accept <= 0.05].sum()))
            worst_regress = max(worst_regress, float(mass[p_regress <= 0.05].sum()))
    assert worst_accept <= 0.056
    assert worst_regress <= 0.056


def test_paired_test_switches_at_twenty_flips() -> None:
    """19 flips go to the exact test, 20 to the score test."""
    assert paired_test(10, 9, 400, 0.01) == exact_paired_test(10, 9, 400, 0.01)
    assert paired_test(10, 10, 400, 0.01) == tango_test(10, 10, 400, 0.01)


def test_no_flips() -> None:
    """Without flips p_accept is (1 - margin)^n: 299 pairs certify 1 pt, 298 do not; margin 0 never."""
    assert exact_paired_test(0, 0, 299, 0.01).p_accept == pytest.approx(0.99**299, abs=2e-6)
    assert exact_paired_test(0, 0, 299, 0.01).p_accept < 0.05 < exact_paired_test(0, 0, 298, 0.01).p_accept
    assert exact_paired_test(0, 0, 50, 0.0) == MarginTest(1.0, 1.0, 0.0)
    assert exact_paired_test(0, 0, 1, 0.0) == MarginTest(1.0, 1.0, 0.0)


def test_impossible_margin_is_accepted_at_the_floor() -> None:
    """When so few flips rule out a flip rate as large as the margin, p_accept is its floor of 1e-6."""
    result = exact_paired_test(9, 9, 10_000, 0.05)
    assert (result.p_accept, result.p_regress) == (1e-6, 1.0)
    mass = stats.binom.cdf(19, 10_000, 0.05)
    assert mass < 1e-6


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, 0, 10, 0.1), "b"),
        ((1, True, 10, 0.1), "c"),
        ((1, 0, 0, 0.1), "n"),
        ((1, 0, "10", 0.1), "n"),
        ((6, 5, 10, 0.1), "n"),
        ((1, 0, 10, 1.0), "margin"),
        ((1, 0, 10, float("nan")), "margin"),
        (([1, 2], 0, 10, 0.1), "b"),
    ],
)
def test_unusable_arguments_are_named(arguments: tuple[Any, ...], name: str) -> None:
    """An unusable argument raises StatsError with its name."""
    for function in (exact_paired_test, paired_test):
        with pytest.raises(StatsError, match=f"^{name}: must be"):
            function(*arguments)
