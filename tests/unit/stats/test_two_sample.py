"""Two samples: Miettinen-Nurminen, Farrington-Manning, Boschloo, strata; against print and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from assay.stats import (
    StatsError,
    boschloo_test,
    farrington_manning_test,
    miettinen_nurminen_interval,
    stratified_noninferiority,
)
from assay.stats.two_sample import BOSCHLOO_UP_TO, restricted_rates

# Newcombe 1998, Stat. Med. 17:873, Table II at 95 %: x1, n1, x2, n2, Miettinen-Nurminen, Mee
NEWCOMBE_TABLE_II = [
    (56, 70, 48, 80, (0.0528, 0.3382), (0.0533, 0.3377)),
    (9, 10, 3, 10, (0.1700, 0.8406), (0.1821, 0.8370)),
    (6, 7, 2, 7, (0.0342, 0.8534), (0.0544, 0.8478)),
    (5, 56, 0, 29, (-0.0326, 0.1933), (-0.0313, 0.1926)),
    (0, 10, 0, 20, (-0.1658, 0.2844), (-0.1611, 0.2775)),
    (0, 10, 0, 10, (-0.2879, 0.2879), (-0.2775, 0.2775)),
    (10, 10, 0, 20, (0.7156, 1.0), (0.7225, 1.0)),
    (10, 10, 0, 10, (0.6636, 1.0), (0.6777, 1.0)),
]


@pytest.mark.parametrize(("x1", "n1", "x2", "n2", "interval", "_mee"), NEWCOMBE_TABLE_II)
def test_miettinen_nurminen_agrees_with_print(
    x1: int, n1: int, x2: int, n2: int, interval: tuple[float, float], _mee: tuple[float, float]
) -> None:
    """All eight examples of Newcombe's Table II come out as printed."""
    found = miettinen_nurminen_interval(x1, n1, x2, n2, 0.95)
    assert (found.lower, found.upper) == pytest.approx(interval, abs=5.1e-5)


@pytest.mark.parametrize(("x1", "n1", "x2", "n2", "_interval", "mee"), NEWCOMBE_TABLE_II)
def test_farrington_manning_rejects_beyond_mee(
    x1: int, n1: int, x2: int, n2: int, _interval: tuple[float, float], mee: tuple[float, float]
) -> None:
    """Mee's printed bounds are where the Farrington-Manning z is 1.96 in size, to the four digits of print."""
    for bound, sign in zip(mee, (1.0, -1.0), strict=True):
        if bound == 1.0:
            continue
        inside = farrington_manning_test(x1, n1, x2, n2, bound + sign * 6e-5).z
        outside = farrington_manning_test(x1, n1, x2, n2, bound - sign * 6e-5).z
        assert sign * inside < 1.959964 < sign * outside


def test_further_printed_intervals() -> None:
    """Ritland et al. 2007 in Fagerland et al. 2017, and example 5 of Miettinen & Nurminen 1985."""
    ritland = miettinen_nurminen_interval(0, 16, 15, 72, 0.95)
    assert (ritland.lower, ritland.upper) == pytest.approx((-0.3164, -0.0056), abs=5.1e-5)
    perondi = [farrington_manning_test(7, 34, 1, 34, at).z for at in (0.0284, 0.3439)]
    assert perondi == pytest.approx([1.96, -1.96], abs=2e-3)


@pytest.mark.parametrize(
    ("table", "margin", "p"),
    [((82, 110, 80, 100), 0.1, 0.00438230626894), ((33, 40, 36, 40), 0.15, 0.00355558509862)],
)
def test_farrington_manning_agrees_with_rpact(
    table: tuple[int, int, int, int], margin: float, p: float
) -> None:
    """The p-values of R's rpact 3.3.4 (two rates, non-inferiority) come out to 10 digits."""
    assert farrington_manning_test(*table, margin).p_accept == pytest.approx(p, abs=1e-11)


def test_zero_margin_is_the_pooled_test() -> None:
    """At margin 0 the score test is Pearson's: R's prop.test(c(30, 14), c(2000, 2000)) p 0.0152886754287."""
    result = farrington_manning_test(30, 2000, 14, 2000, 0.0)
    assert 2 * result.p_regress == pytest.approx(0.0152886754287, abs=1e-12)


@pytest.mark.parametrize("drop", [-0.7, -0.2, 0.0, 0.05, 0.3, 0.8])
@pytest.mark.parametrize(
    ("x1", "n1", "x2", "n2"), [(7, 34, 1, 34), (0, 16, 15, 72), (20, 20, 18, 25), (5, 9, 4, 9)]
)
def test_restricted_rates_maximise_the_likelihood(x1: int, n1: int, x2: int, n2: int, drop: float) -> None:
    """The closed form is the maximum of the likelihood that a numeric search finds."""

    def loss(rate_2: float) -> float:
        rate_1 = rate_2 + drop
        return -float(stats.binom.logpmf(x1, n1, rate_1) + stats.binom.logpmf(x2, n2, rate_2))

    low, high = max(0.0, -drop), min(1.0, 1.0 - drop)
    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
    one = [np.asarray(float(value)) for value in (x1, n1, x2, n2, drop)]
    rate_1, rate_2 = restricted_rates(*one)
    assert float(rate_1 - rate_2) == pytest.approx(drop, abs=1e-9)
    assert loss(float(rate_2)) <= found.fun + 1e-6


def test_arrays_agree_with_scalars() -> None:
    """Vectorised calls give in each place what the plain call gives."""
    x1, n1, x2, n2 = (
        np.array(column) for column in zip(*[row[:4] for row in NEWCOMBE_TABLE_II], strict=True)
    )
    intervals = miettinen_nurminen_interval(x1, n1, x2, n2, 0.9)
    tests = farrington_manning_test(x1, n1, x2, n2, 0.1)
    for i in range(x1.size):
        table = tuple(int(column[i]) for column in (x1, n1, x2, n2))
        one, test = miettinen_nurminen_interval(*table, 0.9), farrington_manning_test(*table, 0.1)
        assert (intervals.lower[i], intervals.upper[i]) == pytest.approx((one.lower, one.upper))
        assert (tests.p_accept[i], tests.z[i]) == pytest.approx((test.p_accept, test.z))


@pytest.mark.parametrize(
    ("x1", "n1", "x2", "n2"),
    [(74, 105, 43, 75), (7, 34, 1, 34), (0, 16, 15, 72), (17, 30, 14, 40), (2, 7, 8, 10)],
)
def test_boschloo_agrees_with_scipy(x1: int, n1: int, x2: int, n2: int) -> None:
    """All three alternatives are scipy's, or a little larger where its search stops short."""
    # scipy's columns are the samples, its "less" is a lower rate of the first
    table = [[x1, x2], [n1 - x1, n2 - x2]]
    for mine, theirs in (("worse", "greater"), ("better", "less"), ("two-sided", "two-sided")):
        p = boschloo_test(x1, n1, x2, n2, mine)  # type: ignore[arg-type]
        oracle = stats.boschloo_exact(table, alternative=theirs, n=64).pvalue
        assert oracle - 1e-7 <= p <= oracle + 1e-3


def test_boschloo_agrees_with_print() -> None:
    """The example of scipy's manual (job satisfaction, 74 of 117 and 31 of 63): one-sided p 0.0355."""
    assert boschloo_test(74, 117, 31, 63, "worse") == pytest.approx(0.0355, abs=1e-4)


@pytest.mark.parametrize(("n1", "n2"), [(6, 6), (9, 5), (12, 12)])
def test_boschloo_size_is_exact(n1: int, n2: int) -> None:
    """P(p <= alpha) <= alpha at every common rate, and Fisher's p-value is never lower."""
    p = np.array([[boschloo_test(i, n1, j, n2, "worse") for j in range(n2 + 1)] for i in range(n1 + 1)])
    for rate in np.linspace(0.01, 0.99, 99):
        mass = np.outer(
            stats.binom.pmf(np.arange(n1 + 1), n1, rate), stats.binom.pmf(np.arange(n2 + 1), n2, rate)
        )
        for alpha in (0.01, 0.05, 0.1):
            assert mass[p <= alpha].sum() <= alpha + 1e-9
    for i in range(n1 + 1):
        for j in range(n2 + 1):
            assert p[i, j] <= stats.hypergeom.sf(i - 1, n1 + n2, i + j, n1) + 1e-9


def test_boschloo_refuses_what_it_cannot_do_in_time() -> None:
    """Beyond 4,000 trials the error names the argument; just below it answers."""
    with pytest.raises(StatsError, match=r"^n1: must be with n2 at most 4000"):
        boschloo_test(10, BOSCHLOO_UP_TO, 1, 1)


def test_one_stratum_is_miettinen_nurminen() -> None:
    """With a single task the stratified interval is the plain one, and agrees with its own test."""
    result = stratified_noninferiority([14], [11], 20, 0.2, 0.9)
    plain = miettinen_nurminen_interval(14, 20, 11, 20, 0.9)
    assert (result.interval.lower, result.interval.upper) == pytest.approx((plain.lower, plain.upper))
    edge = stratified_noninferiority([14], [11], 20, result.interval.upper, 0.9)
    assert edge.p_accept == pytest.approx(0.05, abs=1e-9)
    assert result.drop == pytest.approx(0.15)


def test_strata_by_hand() -> None:
    """Two equal tasks of one and the same table have sqrt(2) times the z of one."""
    one, two = (stratified_noninferiority([9] * k, [7] * k, 10, 0.1) for k in (1, 2))
    assert two.z == pytest.approx(one.z * 2**0.5)
    assert two.drop == pytest.approx(one.drop)


def test_a_gain_can_be_demanded() -> None:
    """A negative margin asks for a gain: 20 of 20 over 8 of 20 shows more than 20 points."""
    assert stratified_noninferiority([8, 8], [20, 20], 20, -0.2).p_accept < 0.01
    assert stratified_noninferiority([8, 8], [10, 10], 20, -0.2).p_accept > 0.05
